"""Train, judge and serve neural collaborative filtering from a dataset directory.

    import ncf_tfdata as ncf

    dataset = ncf.Dataset('data/mine')
    run = ncf.train(dataset, ncf.HistoryConfig(), run_dir='runs/mine')
    run.evaluate(baselines=['ease', 'transitions']).table()
    run.recommend(users=['42'], k=10).table()

Names are imported when they are first asked for, TensorFlow when a model is made.
"""

from typing import TYPE_CHECKING

from ncf_tfdata import lazy
from ncf_tfdata._version import __version__ as __version__

if TYPE_CHECKING:
  from ncf_tfdata.api.evaluation import Evaluation as Evaluation
  from ncf_tfdata.api.evaluation import evaluate as evaluate
  from ncf_tfdata.api.recommendations import Recommendations as Recommendations
  from ncf_tfdata.api.run import Run as Run
  from ncf_tfdata.api.training import train as train
  from ncf_tfdata.api.tuning import Tuned as Tuned
  from ncf_tfdata.api.tuning import tune as tune
  from ncf_tfdata.dataset import Dataset as Dataset
  from ncf_tfdata.errors import ArgumentError as ArgumentError
  from ncf_tfdata.errors import UserError as UserError
  from ncf_tfdata.evaluation.config import EvaluateConfig as EvaluateConfig
  from ncf_tfdata.models.configs import GMFConfig as GMFConfig
  from ncf_tfdata.models.configs import HistoryConfig as HistoryConfig
  from ncf_tfdata.models.configs import MLPConfig as MLPConfig
  from ncf_tfdata.models.configs import ModelConfig as ModelConfig
  from ncf_tfdata.models.configs import NeuMFConfig as NeuMFConfig
  from ncf_tfdata.models.configs import ObjectiveConfig as ObjectiveConfig
  from ncf_tfdata.training.config import OptimizerConfig as OptimizerConfig
  from ncf_tfdata.training.config import TrainConfig as TrainConfig
  from ncf_tfdata.tuning.config import TuneConfig as TuneConfig

_HOMES = {
  'api': ('Evaluation', 'Recommendations', 'Run', 'Tuned', 'evaluate', 'train', 'tune'),
  'dataset': ('Dataset',),
  'errors': ('ArgumentError', 'UserError'),
  'evaluation.config': ('EvaluateConfig',),
  'models.configs': (
    'GMFConfig',
    'HistoryConfig',
    'MLPConfig',
    'ModelConfig',
    'NeuMFConfig',
    'ObjectiveConfig',
  ),
  'training.config': ('OptimizerConfig', 'TrainConfig'),
  'tuning.config': ('TuneConfig',),
}

__getattr__, __dir__, __all__ = lazy.names(__name__, _HOMES)
