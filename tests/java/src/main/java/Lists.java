import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.TensorFlow;
import org.tensorflow.types.TFloat32;
import org.tensorflow.types.TInt32;
import org.tensorflow.types.TString;

/**
 * Asks an export for lists: Lists MODEL K, a user a line of the input. A line of the output is
 * the user, and then item and score up to K times, with tabs between them.
 */
public final class Lists {
  public static void main(String[] args) throws IOException {
    String[] users =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))
            .lines()
            .toArray(String[]::new);
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.err.println("TensorFlow " + TensorFlow.version());
    try (SavedModelBundle model = SavedModelBundle.load(args[0], "serve");
        TString user = TString.vectorOf(users);
        TInt32 k = TInt32.scalarOf(Integer.parseInt(args[1]));
        Result found = model.function("recommend").call(Map.of("user", user, "k", k))) {
      TString items = (TString) found.get("items").orElseThrow();
      TFloat32 scores = (TFloat32) found.get("scores").orElseThrow();
      for (int row = 0; row < users.length; row++) {
        StringBuilder line = new StringBuilder(users[row]);
        for (int place = 0; place < items.shape().get(1); place++) {
          String item = items.getObject(row, place);
          // Where fewer are left, '' fills the list up.
          if (!item.isEmpty()) {
            line.append('\t').append(item).append('\t').append(scores.getFloat(row, place));
          }
        }
        out.println(line);
      }
    }
  }
}
