"""Turn a ratings log of any size into a dataset directory, with Apache Beam.

    from beam_pipelines import PrepareConfig, prepare

    made = prepare(PrepareConfig(input='ratings.csv', output='data/mine'))
    made.counts['train']

Names are imported when they are first asked for, Beam when a job is set up.
"""

from typing import TYPE_CHECKING

from ncf_tfdata import lazy
from ncf_tfdata._version import __version__ as __version__

if TYPE_CHECKING:
  from beam_pipelines.config import FilterConfig as FilterConfig
  from beam_pipelines.config import GrowthConfig as GrowthConfig
  from beam_pipelines.config import InspectionConfig as InspectionConfig
  from beam_pipelines.config import LogConfig as LogConfig
  from beam_pipelines.config import PrepareConfig as PrepareConfig
  from beam_pipelines.feature_config import FeatureConfig as FeatureConfig
  from beam_pipelines.preparation import Prepared as Prepared
  from beam_pipelines.preparation import prepare as prepare
  from beam_pipelines.split_config import SplitConfig as SplitConfig

_HOMES = {
  'config': (
    'FilterConfig',
    'GrowthConfig',
    'InspectionConfig',
    'LogConfig',
    'PrepareConfig',
  ),
  'feature_config': ('FeatureConfig',),
  'preparation': ('Prepared', 'prepare'),
  'split_config': ('SplitConfig',),
}

__getattr__, __dir__, __all__ = lazy.names(__name__, _HOMES)
