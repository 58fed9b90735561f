"""Beam's job of recommendations in this process, on toy models."""

import json

import apache_beam as beam
import tensorflow as tf
from apache_beam.options import pipeline_options

from beam_pipelines import exported_model, files, recommend_pipeline
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models import saved
from ncf_tfdata.serving import saved_model


def export(made, dataset, directory):
  server = saved_model.Server(saved.load(made, dataset), dataset)
  tf.saved_model.save(server, str(directory), signatures=server.signatures)
  return directory


def job_of(
  model, source, tmp_path, num_shards=3, mark=None, events=False, k=10, **options
):
  staging, folder = tmp_path / 'staging', tmp_path / 'out'
  for directory in (staging, folder):
    directory.mkdir(exist_ok=True)
  return recommend_pipeline.Job(
    saved_model=str(model),
    files=tuple(files.match(str(source))),
    mark=mark,
    vocabulary=False,
    events=events,
    lists=exported_model.ListOptions(k=k, **options),
    item_names=None,
    output=recommend_pipeline.Output(
      str(folder), 'all', '.jsonl', num_shards, str(staging), overwrite=True
    ),
  )


def answers(job, *flags) -> dict[str, dict]:
  """Runs a job in this process: lines by user, who is in one shard once."""
  options = pipeline_options.PipelineOptions(['--runner=FnApiRunner', *flags])
  with beam.Pipeline(options=options) as root:
    recommend_pipeline.build(root, job)
  lines = [
    json.loads(line)
    for name in job.output.existing()
    for line in _text(job, name).splitlines()
  ]
  found = {line['user']: line for line in lines}
  assert len(found) == len(lines)
  return found


def _text(job, name) -> str:
  with open(f'{job.output.folder}/{name}', encoding='utf8') as stream:
    return stream.read()


def events(path, dataset):
  """People with events, known ones among them, their lines mixed."""
  items = dataset.vocabulary(dataset_lib.ITEMS).keys
  lines = [('u3', items[4]), ('new', items[7]), ('новый', items[1]), ('u3', items[9])]
  lines += [('new', items[2]), ('10', 'no such item'), ('9', items[5])]
  lines += [('new', items[i]) for i in (30, 31, 32)]
  path.write_text(''.join(f'{user},{item}\n' for user, item in lines))
  return lines
