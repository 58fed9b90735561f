"""An exported model as the workers of `recommend` ask it: users in, their lists out.

RunInference loads it once a process; nothing here imports TensorFlow before that.

Beam's own `TFModelHandlerTensor` is not what we need: it loads Keras models, which a
SavedModel of Keras 3 is not, stacks examples of one shape, wants tensorflow_hub, and
imports TensorFlow where the graph is built.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.ml.inference import base

from ncf_tfdata.errors import UserError
from ncf_tfdata.serving import reasons, recommendation_files, recommender

NAMESPACE = 'recommend'
# A distribution: of the ids to exclude or to allow, how many are of no item.
IGNORED = 'ignored'


@dataclasses.dataclass(frozen=True)
class ListOptions:
  """What each list is to be; the rules are for all users.

  Attributes:
    k: How many items it has.
    exclude: Original ids of items that are not recommended.
    allow: All that may be recommended; without any, everything.
    only: Categories of the only items, such as `genres:Comedy`; without any, all items.
    min_score: No lower score is recommended; None for every score.
    explain: Whether each recommendation has its reasons.
  """

  k: int = 10
  exclude: tuple[str, ...] = ()
  allow: tuple[str, ...] = ()
  only: tuple[str, ...] = ()
  min_score: float | None = None
  explain: bool = False

  @property
  def has_rules(self) -> bool:
    """Whether anything is ruled out."""
    return bool(self.exclude or self.allow or self.only or self.min_score is not None)


@dataclasses.dataclass(frozen=True)
class People:
  """A batch of users of one shard.

  Attributes:
    shard: Which.
    number: The batch's place in it.
    users: Original ids.
    later: Of each, items since the dataset, oldest first; None where none are given.
  """

  shard: int
  number: int
  users: tuple[str, ...]
  later: tuple[tuple[str, ...], ...] | None


class _Export:
  """What `ncf_tfdata.export` wrote, once it is known to be able to answer."""

  def __init__(self, path: str, options: ListOptions):
    """Loads it.

    Raises:
      UserError: The worker has no TensorFlow, another version exported the model, or
        no item of it has one of the categories.
    """
    try:
      import tensorflow as tf
    except ImportError as error:
      raise UserError(
        f'a worker cannot import TensorFlow ({error}). Install ncf-tfdata[train] there.'
      ) from error
    self._path, self._options = path, options
    self._model = tf.saved_model.load(path)
    signatures = self._model.signatures
    old = not hasattr(self._model, 'batch_rows')
    old |= options.has_rules and not _takes_categories(signatures)
    # Only a model that reads histories has reasons.
    reads_history = 'recommend_after' in signatures
    old |= options.explain and reads_history and 'explain_after' not in signatures
    if old:
      raise UserError(
        f'the model at {path} is not of this version. Export it again with '
        '`python -m ncf_tfdata.export`.'
      )
    self._rows = int(self._model.batch_rows)
    self._rules = {}
    if options.has_rules:
      least = -np.inf if options.min_score is None else options.min_score
      self._rules = {
        'exclude': _one_row(options.exclude),
        'allow': _one_row(options.allow),
        'only': _one_row(options.only),
        'min_score': tf.constant(least, tf.float32),
      }
      self._refuse_categories()
    # How many ids to exclude or to allow are of no item.
    self.ignored = self._ignored(self._rules) if self._rules else 0

  def _refuse_categories(self) -> None:
    """Refuses categories that no item has, as the command does: an export counts them.

    Raises:
      UserError: There is one.
    """
    nothing = dict.fromkeys(('exclude', 'allow'), _one_row(()))
    for pair in self._options.only:
      if self._ignored({**self._rules, **nothing, 'only': _one_row((pair,))}):
        raise UserError(
          f'received --only={pair}, expected a category that an item of the model has. '
          'Run `python -m ncf_tfdata.recommend` with it, which says what there are.'
        )

  def _ignored(self, rules: dict[str, Any]) -> int:
    """How much of rules is of no item, as the export counts it for one user."""
    import tensorflow as tf

    found = self._model.signatures['recommend_by_rules'](
      user=tf.constant(['']), k=tf.constant(1), **rules
    )
    return int(found['ignored'][0])

  def lists(self, people: People) -> recommendation_files.Lists:
    """Answers people, as many at once as the model's memory allows for.

    Raises:
      UserError: The model reads no histories, and the people have some.
    """
    rows = range(0, len(people.users), self._rows)
    return recommendation_files.Lists.joined(
      [self._ask(people, slice(start, start + self._rows)) for start in rows]
    )

  def _ask(self, people: People, part: slice) -> recommendation_files.Lists:
    import tensorflow as tf

    after = '' if people.later is None else '_after'
    inputs = {'user': tf.constant(people.users[part], tf.string)}
    if people.later is not None:
      later = people.later[part]
      width = max(map(len, later))
      # Filled up with what is no item.
      padded = [[*items, *[''] * (width - len(items))] for items in later]
      inputs['later'] = tf.constant(padded, tf.string)
    signatures = self._model.signatures
    if f'recommend{after}' not in signatures:
      raise UserError(
        f'the model at {self._path} reads no history. Ask it with --users_file or '
        '--data_dir.'
      )
    name = f'recommend{after}{"_by_rules" if self._rules else ""}'
    found = signatures[name](**inputs, **self._rules, k=tf.constant(self._options.k))
    told = None
    if self._options.explain:
      told = self._reasons(signatures.get(f'explain{after}'), inputs, found['items'])
    item, score, known = (found[name].numpy() for name in ('items', 'scores', 'known'))
    return _lists(people.users[part], item, score, known, told)

  def _reasons(
    self, signature: Any, inputs: dict[str, Any], items: Any
  ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Reasons of items [n, k], as `explain` returns them; none without a signature."""
    import tensorflow as tf

    if signature is None:
      # The model reads no history, and so nothing of one is in its scores.
      none = (*items.shape, reasons.COUNT)
      return np.full(none, b'', object), np.zeros(none, np.float32), {}
    found = signature(**inputs, items=items, count=tf.constant(reasons.COUNT))
    parts = {name: found[name].numpy() for name in reasons.MEANING if name in found}
    return found['because'].numpy(), found['effects'].numpy(), parts


def _one_row(texts: Sequence[str]) -> Any:
  """A rule for all users, as the signatures take it: string [1, m]."""
  import tensorflow as tf

  return tf.constant([texts or ('',)], tf.string)


def _takes_categories(signatures: Any) -> bool:
  if 'recommend_by_rules' not in signatures:
    return False
  _, inputs = signatures['recommend_by_rules'].structured_input_signature
  return 'only' in inputs


def _lists(
  users: Sequence[str],
  item: np.ndarray,
  score: np.ndarray,
  known: np.ndarray,
  told: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]] | None,
) -> recommendation_files.Lists:
  """What an export answers, as the other command has it."""
  texts = [item] if told is None else [item, told[0]]
  # Each key is decoded once; that of no item comes first, as -1.
  keys, code = np.unique(
    np.concatenate([[b''], *(text.ravel() for text in texts)]), return_inverse=True
  )
  item_code, because = code[1 : 1 + item.size] - 1, code[1 + item.size :] - 1
  found = recommender.Recommendations(item_code.reshape(item.shape), score, known)
  labels = recommendation_files.Labels([key.decode() for key in keys[1:]])
  if told is None:
    return labels.lists(users, found)
  _, effects, parts = told
  return labels.lists(
    users, found, reasons.Reasons(because.reshape(effects.shape), effects, parts)
  )


class SavedModelHandler(base.ModelHandler[People, Any, Any]):
  """Asks what `ncf_tfdata.export` wrote; answers are (shard, (number, Lists))."""

  def __init__(self, path: str, options: ListOptions):
    """Takes the directory of the SavedModel, and what each list is to be."""
    # An element is a batch already.
    super().__init__(min_batch_size=1, max_batch_size=1)
    self._path, self._options = path, options

  def load_model(self) -> Any:
    """The export.

    Raises:
      UserError: The worker has no TensorFlow, another version exported the model, or
        no item of it has one of the categories.
    """
    return _Export(self._path, self._options)

  def run_inference(
    self,
    batch: Sequence[People],
    model: Any,
    inference_args: dict[str, Any] | None = None,
  ) -> Iterator[Any]:
    """Answers people.

    Raises:
      UserError: The model reads no histories, and the people have some.
    """
    for people in batch:
      Metrics.distribution(NAMESPACE, IGNORED).update(model.ignored)
      yield people.shard, (people.number, model.lists(people))
