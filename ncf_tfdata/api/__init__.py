"""What `import ncf_tfdata` offers: training, and what is asked of a trained run.

Imports no TensorFlow; the calls that need it do.
"""

from ncf_tfdata.api.evaluation import Evaluation as Evaluation
from ncf_tfdata.api.evaluation import evaluate as evaluate
from ncf_tfdata.api.recommendations import Recommendation as Recommendation
from ncf_tfdata.api.recommendations import Recommendations as Recommendations
from ncf_tfdata.api.run import Run as Run
from ncf_tfdata.api.run import open_run as open_run
from ncf_tfdata.api.training import train as train
from ncf_tfdata.api.tuning import Tuned as Tuned
from ncf_tfdata.api.tuning import tune as tune
