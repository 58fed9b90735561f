// Asks an export for lists through TensorFlow's C API: no Python, and nothing of ours.
//
//   lists MODEL K USER_OP K_OP ITEMS_OP:INDEX SCORES_OP:INDEX < users > lists
//
// A user is a line of the input. A line of the output is the user, and then item and
// score K times, with tabs between them.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

static TF_Status* status;

static void check(const char* what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

// An output of the graph by a name such as `call:1`.
static TF_Output find(TF_Graph* graph, const char* name) {
  char op[256];
  const char* colon = strrchr(name, ':');
  size_t length = colon ? (size_t)(colon - name) : strlen(name);
  if (length >= sizeof op) length = sizeof op - 1;
  memcpy(op, name, length);
  op[length] = '\0';
  TF_Output found = {TF_GraphOperationByName(graph, op), colon ? atoi(colon + 1) : 0};
  if (!found.oper) {
    fprintf(stderr, "no operation %s\n", op);
    exit(1);
  }
  return found;
}

int main(int argc, char** argv) {
  if (argc != 7) {
    fprintf(stderr, "expected MODEL K USER_OP K_OP ITEMS_OP:INDEX SCORES_OP:INDEX\n");
    return 2;
  }
  status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check("load");

  char** users = NULL;
  size_t count = 0, room = 0, size = 0;
  char* line = NULL;
  for (ssize_t length; (length = getline(&line, &size, stdin)) > 0; ++count) {
    if (line[length - 1] == '\n') line[length - 1] = '\0';
    if (count == room) users = realloc(users, (room = 2 * room + 64) * sizeof *users);
    users[count] = strdup(line);
  }

  int64_t shape[] = {(int64_t)count};
  TF_Tensor* user =
      TF_AllocateTensor(TF_STRING, shape, 1, count * sizeof(TF_TString));
  TF_TString* texts = TF_TensorData(user);
  for (size_t row = 0; row < count; ++row) {
    TF_StringInit(&texts[row]);
    TF_StringCopy(&texts[row], users[row], strlen(users[row]));
  }
  TF_Tensor* k = TF_AllocateTensor(TF_INT32, NULL, 0, sizeof(int32_t));
  *(int32_t*)TF_TensorData(k) = atoi(argv[2]);

  TF_Output inputs[] = {find(graph, argv[3]), find(graph, argv[4])};
  TF_Output outputs[] = {find(graph, argv[5]), find(graph, argv[6])};
  TF_Tensor *given[] = {user, k}, *found[2];
  TF_SessionRun(session, NULL, inputs, given, 2, outputs, found, 2, NULL, 0, NULL, status);
  check("run");

  const TF_TString* items = TF_TensorData(found[0]);
  const float* scores = TF_TensorData(found[1]);
  int64_t width = TF_Dim(found[0], 1);
  for (size_t row = 0; row < count; ++row) {
    fputs(users[row], stdout);
    for (int64_t place = 0; place < width; ++place) {
      const TF_TString* item = &items[row * width + place];
      printf("\t%.*s\t%.9g", (int)TF_StringGetSize(item), TF_StringGetDataPointer(item),
             scores[row * width + place]);
    }
    putchar('\n');
  }
  TF_CloseSession(session, status);
  check("close");
  return 0;
}
