"""Segments by time as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ncf_tfdata import times


def span(name: str, per_second: int) -> str:
  """`35–10,763,283`, lengths of time in the log's unit, as `35 seconds to 4 months`."""
  ends = [times.words(int(end.replace(',', '')), per_second) for end in name.split('–')]
  return ends[0] if ends[0] == ends[-1] else f'{ends[0]} to {ends[-1]}'


def systems(
  summaries: Mapping[str, Mapping[str, Any]], per_second: int
) -> dict[str, dict[str, Any]]:
  """Summaries by system whose segments by `gap` are named in words.

  Args:
    summaries: `summary.summarize` of each.
    per_second: Units of the log's times in a second.
  """
  return {name: _in_words(found, per_second) for name, found in summaries.items()}


def _in_words(summary: Mapping[str, Any], per_second: int) -> dict[str, Any]:
  by_ranking = summary['segments'].get('gap')
  if by_ranking is None:
    return dict(summary)
  told = {
    ranking: [{**part, 'segment': span(part['segment'], per_second)} for part in parts]
    for ranking, parts in by_ranking.items()
  }
  return {**summary, 'segments': {**summary['segments'], 'gap': told}}
