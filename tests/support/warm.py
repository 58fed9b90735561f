"""What commands import, imported once: `commands` forks each of them from here.

No command itself, and nothing that computes in TensorFlow when it is imported, whose
threads a fork would not have.
"""

import importlib

from ncf_tfdata import tensorflow_messages

# Without what Keras takes along for nothing, as in a command.
tensorflow_messages.quieten()

for name in (
  'tensorflow',
  'matplotlib.pyplot',
  'pyarrow.csv',
  'pyarrow.parquet',
  'beam_pipelines.preparation',
  'beam_pipelines.prepare_pipeline',
  'beam_pipelines.recommend_pipeline',
  'beam_pipelines.runners',
  'ncf_tfdata.api',
  'ncf_tfdata.models.history_task',
  'ncf_tfdata.models.neumf_task',
  'ncf_tfdata.reporting.report',
  'ncf_tfdata.training.trainer',
):
  importlib.import_module(name)
