"""Where a training stands, and its checkpoint: the chief's state, shared by all."""

import dataclasses
import pathlib
import shutil

import keras
import tensorflow as tf

from ncf_tfdata.errors import UserError
from ncf_tfdata.run import STATES, Run

# Of the files of a state, before its number.
_NAME = 'state'


@dataclasses.dataclass
class Position:
  """How far a training has come.

  Attributes:
    epoch: Epochs done.
    step: Steps done of the next one.
    loss: Sum of the losses of those steps.
    seconds: Time that they took.
  """

  epoch: int = 0
  step: int = 0
  loss: float = 0.0
  seconds: float = 0.0


class Checkpoint:
  """Model, optimizer and position, of which the last save is kept.

  Args:
    model: That is trained.
    optimizer: Built.
    run: In whose directory it lies.
    chief: Whether this worker is the one that writes.

  Raises:
    UserError: What is there of an earlier start cannot be read.
  """

  def __init__(
    self,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    run: Run,
    chief: bool,
  ):
    self._chief, self._folder = chief, run.checkpoints
    self._position = {
      field.name: tf.Variable(
        field.default,
        dtype=tf.int64 if isinstance(field.default, int) else tf.float64,
        trainable=False,
      )
      for field in dataclasses.fields(Position)
    }
    self._list = run.checkpoints / STATES
    try:
      self._manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(model=model, optimizer=optimizer, **self._position),
        str(run.checkpoints),
        max_to_keep=1,
        checkpoint_name=_NAME,
      )
    except ValueError as error:  # its list is no UTF-8
      raise self._damaged() from error

  def restore(self) -> Position:
    """Restores what was saved last, if anything was; returns its position.

    The chief removes what was being written when an earlier start was killed.

    Raises:
      UserError: It cannot be read.
    """
    latest = self._manager.latest_checkpoint
    if latest is None and self._list.exists():
      # TensorFlow warns, and would begin anew.
      raise self._damaged()
    if latest:
      try:
        self._manager.checkpoint.restore(latest).assert_consumed()
      except (tf.errors.OpError, AssertionError, ValueError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise UserError(
          f'the checkpoint {latest} cannot be restored ({reason}). '
          'Train again with --overwrite.'
        ) from error
    if self._chief:
      self._remove_rest(latest)
    values = {name: value.numpy().item() for name, value in self._position.items()}
    return Position(**values)

  def _remove_rest(self, latest: str | None) -> None:
    """Removes all that is of no whole state, and states but the last."""
    kept = pathlib.Path(latest).name if latest else None
    for pattern in (f'{_NAME}-*', f'{STATES}.tmp*', 'tmp.*'):
      for path in self._folder.glob(pattern):
        if path.name.partition('.')[0] == kept:
          continue
        if path.is_dir():
          shutil.rmtree(path)
        else:
          path.unlink()

  def _damaged(self) -> UserError:
    return UserError(f'{self._list} is damaged. Train again with --overwrite.')

  def save(self, position: Position) -> None:
    """Saves the model and the optimizer as they are, and the position."""
    if not self._chief:
      return
    for name, variable in self._position.items():
      variable.assign(getattr(position, name))
    self._manager.save(checkpoint_number=None)
