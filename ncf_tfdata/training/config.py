"""How a model is trained: optimizer, epochs, batches, devices, and what is watched."""

from __future__ import annotations

import dataclasses

import numpy as np

from ncf_tfdata.config import Config, setting
from ncf_tfdata.evaluation import metrics
from ncf_tfdata.models.configs import ObjectiveConfig

# A run may be taken up with other values of these: its numbers stay the same.
OPERATIONAL = frozenset({'steps_per_call', 'checkpoint_every_steps', 'profile_steps'})


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
  """The optimizer and its learning rate."""

  name: str = setting(
    'adam',
    "Keras's optimizers, and an Adam whose step touches used rows only.",
    choices=('adam', 'lazy_adam', 'adagrad', 'rmsprop', 'sgd'),
    flag='optimizer',
  )
  learning_rate: float = setting(0.001, 'Learning rate.', minimum=0)
  learning_rate_decay: float = setting(
    1.0, 'Factor on the learning rate after each epoch.', minimum=0
  )
  cosine_decay: bool = setting(
    False, 'The learning rate falls to 0 along a half cosine over --epochs.'
  )
  warmup_steps: int = setting(
    0, 'Steps in which the learning rate rises linearly.', minimum=0
  )
  beta_2: float = setting(
    0.999, "Decay of the Adams' second moment.", minimum=0, maximum=1
  )
  average_weights: float = setting(
    0.0,
    'If not 0, momentum of a moving average of the weights, which is then judged '
    'and kept in their place.',
    minimum=0,
    maximum=0.99999,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
  """All of a training but its model."""

  objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
  optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
  warm_start: str | None = setting(
    None,
    'Finished run of the same model whose weights this one starts from. Rows of users '
    'and items go by original key; new ones start as ever, and those of keys that are '
    'gone are dropped. Steps and learning rate start anew.',
  )
  warm_start_data_dir: str | None = setting(
    None, "Dataset directory of --warm_start. Default: that run's."
  )
  warm_start_moments: bool = setting(
    False,
    "Takes over what --warm_start's optimizer kept of each weight when it ended, which "
    'else starts anew.',
  )
  train_since: str | None = setting(
    None,
    'Fits only the train interactions after this moment; earlier ones are history. '
    'A date, which is its midnight (UTC), a time, or a number in the unit of the log. '
    'Needs a dataset with times: prepare --split=time.',
  )
  epochs: int = setting(
    20,
    'Passes over the train interactions. With --warm_start it may be 0: then that '
    "run's model is judged as it is.",
    minimum=0,
  )
  batch_size: int = setting(
    4096, 'Train interactions per step, over all replicas.', minimum=1
  )
  seed: int = setting(0, 'Of initial weights, order, negatives and dropout.', minimum=0)
  monitor: str = setting('ndcg@10', 'What chooses the best epoch, on validation.')
  patience: int = setting(
    0,
    'Stops after so many epochs without a better --monitor; 0 never stops early.',
    minimum=0,
  )
  full_validation: bool = setting(
    False,
    'Also ranks the whole catalogue after each epoch: full_ndcg@10 and so on.',
  )
  mixed_precision: str = setting(
    'off',
    'What layers compute in; weights and logits stay float32.',
    choices=('off', 'bfloat16', 'float16'),
  )
  jit_compile: bool = setting(True, 'Compiles the step by XLA.')
  strategy: str = setting(
    'default',
    'One device, or a replica on each of the devices of this machine.',
    choices=('default', 'mirrored'),
  )
  logical_cpus: int = setting(
    1,
    'Splits the CPU into so many devices, to try --strategy=mirrored without GPUs.',
    minimum=1,
  )
  steps_per_call: int = setting(
    100,
    'Most steps between two looks at the progress and at signals; fewer where they '
    'take more than a second.',
    minimum=1,
  )
  checkpoint_every_steps: int = setting(
    2000,
    'Steps between checkpoints within an epoch; there is one after each epoch too.',
    minimum=1,
  )
  profile_steps: tuple[int, ...] = setting(
    (),
    'First step to trace for the profiler of TensorBoard, and the step to stop before, '
    'counted over all epochs: 100,120.',
  )

  def check(self) -> None:
    self._check_monitor()
    self._check_start()
    steps = self.profile_steps
    if steps and not (len(steps) == 2 and 0 <= steps[0] < steps[1]):
      raise self.invalid(
        '`profile_steps` must be the first step and the one to stop before, such as '
        '100,120.',
        'profile_steps',
      )
    if self.optimizer.name == 'lazy_adam' and self.objective.l2_tables:
      raise self.objective.invalid(
        'The optimizer lazy_adam touches the rows of a batch, and `l2_tables` every '
        'row. Use `l2`, which acts on the rows of a batch.',
        'l2_tables',
      )

  def _check_start(self) -> None:
    if self.warm_start:
      return
    if not self.epochs:
      raise self.invalid('`epochs` must be at least 1 without `warm_start`.', 'epochs')
    for name in ('warm_start_data_dir', 'warm_start_moments'):
      if getattr(self, name):
        raise self.invalid(f'`{name}` is for `warm_start`, which is not given.', name)

  def _check_monitor(self) -> None:
    names = list(metrics.means(np.zeros(1), metrics.KS))
    full = [f'full_{name}' for name in names]
    known = ['loss', *names, *full]
    if self.monitor not in known:
      raise self.invalid(
        f'`monitor` must be a name that is logged: {", ".join(known)}.', 'monitor'
      )
    if self.monitor in full and not self.full_validation:
      raise self.invalid(
        'This `monitor` is logged with `full_validation` only.',
        'monitor',
        'full_validation',
      )
