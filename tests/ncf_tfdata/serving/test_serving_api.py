"""The export behind the protocol of TensorFlow Serving: its published protos, by gRPC.

The server is no Python package. One of a few lines stands for it, and does what the
server's source does: it takes a signature of the saved model by its name, refuses what
that does not take, fills in the signature's defaults, and runs it.
"""

import concurrent.futures

import doc_blocks
import numpy as np
import pytest
import tensorflow as tf
import toy_answers
from tensorflow.core.protobuf import saved_model_pb2

from ncf_tfdata.models import saved
from ncf_tfdata.serving import export

pytestmark = pytest.mark.slow

grpc = pytest.importorskip('grpc', reason='no gRPC: extra `test`')
apis = pytest.importorskip('tensorflow_serving.apis', reason='no protos: extra `test`')
predict_pb2 = pytest.importorskip('tensorflow_serving.apis.predict_pb2')
service = pytest.importorskip('tensorflow_serving.apis.prediction_service_pb2_grpc')


class _Server(service.PredictionServiceServicer):
  def __init__(self, directory):
    self._model = tf.saved_model.load(str(directory))
    content = (directory / 'saved_model.pb').read_bytes()
    (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    self._signatures = graph.signature_def

  def Predict(self, request, context):  # noqa: N802
    name = request.model_spec.signature_name
    wanted = self._signatures[name]
    given = {**wanted.defaults, **request.inputs}
    if given.keys() != wanted.inputs.keys():
      context.abort(grpc.StatusCode.INVALID_ARGUMENT, f'{sorted(wanted.inputs)}')
    for key, proto in given.items():
      if proto.dtype != wanted.inputs[key].dtype:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f'{key} has another type')
    tensors = {key: tf.constant(tf.make_ndarray(proto)) for key, proto in given.items()}
    answer = predict_pb2.PredictResponse()
    for key, tensor in self._model.signatures[name](**tensors).items():
      answer.outputs[key].CopyFrom(tf.make_tensor_proto(tensor))
    return answer


@pytest.fixture(scope='module')
def exported(sample_dataset, tmp_path_factory):
  root = tmp_path_factory.mktemp('served')
  made = toy_answers.history_run(root / 'run', sample_dataset, weight=0.0)
  directory = root / 'ncf' / '1'
  export.save(saved.load(made, sample_dataset), sample_dataset, str(directory))
  return directory


@pytest.fixture(scope='module')
def address(exported):
  server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
  service.add_PredictionServiceServicer_to_server(_Server(exported), server)
  port = server.add_insecure_port('127.0.0.1:0')
  server.start()
  yield f'127.0.0.1:{port}'
  server.stop(None)


@pytest.fixture(scope='module')
def stub(address):
  with grpc.insecure_channel(address) as channel:
    yield service.PredictionServiceStub(channel)


def _ask(stub, signature, **inputs):
  request = predict_pb2.PredictRequest()
  request.model_spec.signature_name = signature
  for name, value in inputs.items():
    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
  answer = stub.Predict(request, timeout=60).outputs
  return {name: tf.make_ndarray(proto) for name, proto in answer.items()}


def test_a_request_is_answered_as_the_signature_answers(stub, exported, sample_dataset):
  users = list(sample_dataset.vocabulary('users.tsv').keys[:5])
  found = _ask(stub, 'recommend', user=users, k=7)
  model = tf.saved_model.load(str(exported))
  expected = model.signatures['recommend'](
    user=tf.constant(users), k=tf.constant(7, tf.int32)
  )
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value)
  assert found['items'].shape == (5, 7)


def test_rules_may_be_left_out(stub, sample_dataset):
  users = list(sample_dataset.vocabulary('users.tsv').keys[:3])
  plain = _ask(stub, 'recommend', user=users, k=5)
  ruled = _ask(stub, 'recommend_by_rules', user=users, k=5)
  np.testing.assert_array_equal(ruled['items'], plain['items'])
  first = [[items[0]] for items in plain['items']]
  ruled = _ask(stub, 'recommend_by_rules', user=users, k=4, exclude=first)
  np.testing.assert_array_equal(ruled['items'], plain['items'][:, 1:])


def test_what_a_signature_does_not_take_is_refused(stub):
  with pytest.raises(grpc.RpcError, match='another type'):
    _ask(stub, 'recommend', user=['1'], k=5.0)
  with pytest.raises(grpc.RpcError, match='user'):
    _ask(stub, 'recommend', k=5)


def test_the_guides_client_is_answered(address):
  guide = doc_blocks.DOCS / 'guides' / 'serving.md'
  (client,) = (
    block.text
    for block in doc_blocks.blocks(guide)
    if block.language == 'python' and 'PredictRequest' in block.text
  )
  assert 'localhost:8500' in client
  names = {}
  exec(client.replace('localhost:8500', address), names)
  items = tf.make_ndarray(names['answer']['items'])
  assert items.shape == (2, 10)
  assert not {b'1193', b'661'} & set(items.ravel().tolist())
  assert tf.make_ndarray(names['answer']['known']).dtype == bool
