"""What an evaluation must reach, as a scheduler asks for it: test/full/ndcg@10>=.2.

    [SPLIT/][RANKING/]METRIC@K RELATION NUMBER

SPLIT is validation or test, by default the one that is judged. RANKING is sampled or
full, by default full. RELATION is >=, >, <= or <. Metrics are those of metrics.json.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Mapping
from typing import Any, Self

from ncf_tfdata.evaluation import metrics, summary

_RELATIONS = {
  '>=': operator.ge,
  '>': operator.gt,
  '<=': operator.le,
  '<': operator.lt,
}
_SPLITS = ('validation', 'test')
# Of the top lists, which only a full ranking makes.
_LIST_METRICS = ('coverage', 'gini', 'novelty')
_FORM = re.compile(
  rf'(?:({"|".join(_SPLITS)})/)?(?:({"|".join(summary.RANKINGS)})/)?'
  r'([a-z]+)@([1-9][0-9]*)\s*(>=|>|<=|<)\s*([-+.\deE]+)'
)


@dataclasses.dataclass(frozen=True)
class Requirement:
  """A bound of a metric.

  Attributes:
    split: Of the held-out interactions; None for the one that is judged.
    ranking: `summary.SAMPLED` or `summary.FULL`.
    metric: By its name in metrics.json, such as ndcg@10.
    k: Its cut-off.
    relation: Of the metric to the bound: >=, >, <= or <.
    bound: The number.
  """

  split: str | None
  ranking: str
  metric: str
  k: int
  relation: str
  bound: float

  @classmethod
  def parse(cls, text: str) -> Self:
    """Reads an expression.

    Raises:
      ValueError: It is none, or there is no such metric.
    """
    found = _FORM.fullmatch(text.strip())
    if not found:
      raise ValueError(f'{text!r} is no [SPLIT/][RANKING/]METRIC@K>=NUMBER')
    split, ranking, name, k, relation, number = found.groups()
    ranking = ranking or summary.FULL
    known = [*metrics.ROW_METRICS, *(_LIST_METRICS if ranking == summary.FULL else ())]
    if name not in known:
      raise ValueError(
        f'{text!r} asks for {name}, which is none of {", ".join(known)} of the '
        f'{ranking} ranking'
      )
    try:
      bound = float(number)
    except ValueError as error:
      raise ValueError(f'{number!r} of {text!r} is no number') from error
    return cls(split, ranking, f'{name}@{k}', int(k), relation, bound)

  def holds(self, value: float) -> bool:
    """Whether a value is within the bound; no NaN is."""
    return not math.isnan(value) and _RELATIONS[self.relation](value, self.bound)


@dataclasses.dataclass(frozen=True)
class Check:
  """A requirement, and what was reached.

  Attributes:
    requirement: What was asked for.
    split: Of which held-out interactions.
    system: Whose value it is.
    value: The metric.
  """

  requirement: Requirement
  split: str
  system: str
  value: float

  @property
  def met(self) -> bool:
    return self.requirement.holds(self.value)

  def __str__(self) -> str:
    asked = self.requirement
    return (
      f'{self.split}/{asked.ranking}/{asked.metric} of {self.system} is '
      f'{self.value:.4f}, required {asked.relation} {asked.bound:g}'
    )


def value(summaries: Mapping[str, Any], asked: Requirement) -> float:
  """The metric that is asked for, of what metrics.json holds of a split, or NaN."""
  return float(summaries.get(asked.ranking, {}).get(asked.metric, math.nan))
