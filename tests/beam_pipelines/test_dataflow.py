"""The job that Dataflow would be sent, built offline: `make test-dataflow`.

It needs Beam's Google Cloud part, which the other tests' environment has not.
"""

import subprocess
import sys
import venv

import prepared
import pytest

pytest.importorskip(
  'apache_beam.runners.dataflow.internal.apiclient',
  reason="no extra `gcp`: `make test-dataflow` has an environment with Beam's part",
  exc_type=ImportError,
)
import apache_beam as beam
from apache_beam.options import pipeline_options
from apache_beam.portability.api import beam_runner_api_pb2

from beam_pipelines import files, prepare_job, prepare_pipeline, runners, schema
from beam_pipelines.config import PrepareConfig

pytestmark = [pytest.mark.slow, pytest.mark.engine]

_URN = 'beam:transform:'
_FLAGS = (
    '--runner=DataflowRunner', '--project=my-project', '--region=us-central1',
    '--job_name=prepare', '--temp_location=gs://my-bucket/temp',
    '--staging_location=gs://my-bucket/staging', '--no_auth', '--dry_run=True',
)  # fmt: skip


@pytest.fixture(scope='module')
def dataflow(sample_log):
  """The job's options and what the runner makes of it, without a network."""
  with pytest.MonkeyPatch.context() as patch:
    # It would ask Google Cloud Storage about the bucket.
    patch.setattr(
      pipeline_options.GoogleCloudOptions,
      '_warn_if_soft_delete_policy_enabled',
      lambda *args: None,
    )
    config = PrepareConfig(input=str(sample_log), transitions=20)
    sources = files.match(str(sample_log))
    layout = schema.resolve(sources[0].path, 'auto', (), {})
    size = files.text_bytes(sources)
    options = runners.options(list(_FLAGS), size)
    root = beam.Pipeline(options=options)
    paths = ('/data/out', '/data/tmp')
    job = prepare_job.of_config(config, sources, layout, size, *paths)
    prepare_pipeline.build(root, job)
    return options, root.run().job.proto_pipeline


@pytest.fixture(scope='module')
def components(dataflow):
  return dataflow[1].components


@pytest.fixture(scope='module')
def steps(components):
  """Transforms that do something, by name."""
  return {
    step.unique_name: step
    for step in components.transforms.values()
    if step.spec.urn and not step.subtransforms
  }


def par_do(steps, name: str):
  """A step by its name; one with tagged outputs has its ParDo a level below."""
  (found,) = (
    step
    for unique_name, step in steps.items()
    if unique_name == name or unique_name.startswith(f'{name}/ParDo(')
  )
  return found


def producer(components, collection: str) -> str:
  """Name of the outermost step that a PCollection comes from."""
  names = [
    step.unique_name.split('/')[0]
    for step in components.transforms.values()
    if collection in step.outputs.values() and step.unique_name
  ]
  return min(names, key=len)


def test_what_is_read_is_spread_before_it_is_read(components, steps):
  assert not [name for name, step in steps.items() if ':read:' in step.spec.urn]
  (source,) = par_do(steps, 'CountItems').inputs.values()
  assert producer(components, source) == 'Spread'
  spread = {step.spec.urn for step in components.transforms.values()}
  assert f'{_URN}reshuffle:v1' in spread


def test_a_shuffle_stands_before_each_stage(components, steps):
  shuffles = {
    name.split('/')[0]
    for name, step in steps.items()
    if step.spec.urn == f'{_URN}group_by_key:v1'
  }
  for step, shuffle in {
    'SelectItems': 'ByItemGroup',
    'ReadRows': 'ByRange',
    'Gather': 'ByUserGroup',
    'Publish': 'Together',
  }.items():
    assert shuffle in shuffles
    inputs, sides = par_do(steps, step).inputs, side_inputs(par_do(steps, step))
    main = [collection for tag, collection in inputs.items() if tag not in sides]
    assert [producer(components, collection) for collection in main] == [shuffle]


def side_inputs(step) -> list[str]:
  if step.spec.urn != f'{_URN}pardo:v1':
    return []
  payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
  return list(payload.side_inputs)


def test_no_side_input_grows_with_the_ratings(components, steps):
  found = {
    producer(components, step.inputs[tag])
    for step in steps.values()
    for tag in side_inputs(step)
  }
  # A pair of numbers for each group, and the items that lost all of their ratings.
  assert found == {'SelectItems', 'Gather', 'FindVanished'}


def test_there_is_one_leaf(components, steps):
  used = {collection for step in steps.values() for collection in step.inputs.values()}
  leaves = {
    name
    for name, step in steps.items()
    if step.outputs and not used & set(step.outputs.values())
  }
  assert leaves == {'Publish'}


def test_no_main_session_is_sent(dataflow):
  options, proto = dataflow
  assert not options.view_as(pipeline_options.SetupOptions).save_main_session
  for environment in proto.components.environments.values():
    for artifact in environment.dependencies:
      assert b'main_session' not in artifact.SerializeToString()


def test_workers_run_this_python(components):
  (environment,) = {
    environment.urn: environment for environment in components.environments.values()
  }.values()
  docker = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
  version = f'{sys.version_info.major}.{sys.version_info.minor}'
  assert f'python{version}' in docker.container_image


def test_what_workers_install(tmp_path):
  """`--setup_file=./setup.py` sends an sdist, built like this."""
  subprocess.run(
      [sys.executable, '-m', 'build', '--no-isolation', '--sdist', '--outdir',
       str(tmp_path)],
      cwd=prepared.ROOT, check=True, capture_output=True,
  )  # fmt: skip
  (sdist,) = tmp_path.glob('*.tar.gz')
  venv.create(tmp_path / 'worker', with_pip=True)
  python = tmp_path / 'worker' / 'bin' / 'python'
  subprocess.run([python, '-m', 'pip', 'install', '--quiet', sdist], check=True)
  program = (
    'import importlib.util, beam_pipelines.prepare_pipeline\n'
    'assert importlib.util.find_spec("tensorflow") is None\n'
    'print(beam_pipelines.__file__)'
  )
  done = subprocess.run(
    [python, '-c', program], cwd=tmp_path, check=True, capture_output=True, text=True
  )
  assert str(tmp_path) in done.stdout
