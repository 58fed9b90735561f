"""A run's report: one HTML file that holds all it shows, and its figures as PNGs.

Made from what the run directory keeps (metrics.json, ranks, epochs.csv, flags.cfg) and
the dataset's manifest and vocabulary: no model is needed.
"""

import pathlib
import string
from collections.abc import Mapping
from typing import Any

from ncf_tfdata import atomic, times
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.evaluation import candidates, predictions, protocol
from ncf_tfdata.evaluation.ranking import Ranks
from ncf_tfdata.evaluation.summary import (
  FULL,
  MODEL,
  RANKINGS,
  SAMPLED,
  family,
  headline,
  load_ranks,
  rankings,
  ranks_path,
)
from ncf_tfdata.reporting import (
  in_words,
  log_section,
  markup,
  numbers,
  plots,
  table,
)
from ncf_tfdata.reporting.markup import bounds, escape, number

_TEMPLATE = pathlib.Path(__file__).with_name('report.html')
_MEASURES = {'hr': 'HR', 'ndcg': 'NDCG', 'mrr': 'MRR'}


def write(run: run_lib.Run, dataset: dataset_lib.Dataset, split: str) -> pathlib.Path:
  """Writes report.html and plots/*.png into a run that has been evaluated on `split`.

  Returns:
    Path of the HTML file.

  Raises:
    UserError: The ranks of the run or of one of its baselines are missing.
  """
  with plots.styled():
    page = _Report(run, dataset, split).page()
  path = run.directory / run_lib.REPORT
  atomic.write_text(path, page)
  return path


class _Report:
  """The parts of one page."""

  def __init__(self, run: run_lib.Run, dataset: dataset_lib.Dataset, split: str):
    self._run, self._dataset, self._split = run, dataset, split
    self._metrics = run.metrics() or {}
    self._model = self._metrics['model']
    own = self._metrics[split]
    self._rankings = [ranking for ranking in RANKINGS if ranking in own]
    self._ks = sorted(
      int(name.removeprefix('hr@')) for name in own[SAMPLED] if name.startswith('hr@')
    )
    self._k = headline(self._ks)
    self._among = own.get('candidates', candidates.ALL)
    self._systems = {self._model: own} | self._others(own)
    self._ranks = {name: self._load(name) for name in self._systems}
    self._candidates = {
      SAMPLED: dataset.negatives(split) + 1,
      FULL: dataset.catalogue_size,
    }
    self._colours = plots.colours(list(self._systems))

  def _others(self, own: Mapping[str, Any]) -> dict[str, Any]:
    """Those with the very metrics that the model has, best first.

    Others are of an earlier evaluation with other flags, or of train, which keeps no
    ranks. A system by file may lack a ranking.
    """
    comparable: dict[str, Any] = {}
    for kind in ('baselines', 'predictions'):
      for name, by_split in self._metrics.get(kind, {}).items():
        found = by_split.get(self._split, {})
        rankings = [each for each in self._rankings if each in found]
        whole = rankings == self._rankings or (kind == 'predictions' and rankings)
        if (
          'segments' in found
          and whole
          and found.get('candidates') == own.get('candidates')
          and all(found[each].keys() == own[each].keys() for each in rankings)
        ):
          comparable[name] = found

    def place(name: str) -> list[float]:
      # By the full ranking, where there is one.
      return [
        -comparable[name].get(each, {}).get(f'ndcg@{self._k}', -1.0)
        for each in reversed(self._rankings)
      ]

    return {name: comparable[name] for name in sorted(comparable, key=place)}

  def _load(self, system: str) -> Ranks:
    name = MODEL if system == self._model else system
    return load_ranks(ranks_path(self._run.directory, self._split, name))

  def page(self) -> str:
    """The whole HTML."""
    dataset = self._dataset
    lead = (
      f'{self._split.capitalize()} rows of {escape(self._sources())}: '
      f'{dataset.rows(self._split):,} users, {dataset.catalogue_size:,} items, '
      f'{dataset.rows(dataset_lib.TRAIN):,} train rows. '
      f'Dataset <code>{dataset.sha256[:12]}</code>, weights '
      f'<code>{self._metrics.get("checkpoint_sha256", "")[:12]}</code>.'
    )
    return string.Template(_TEMPLATE.read_text()).substitute(
      title=escape(f'{self._model} · {self._run.directory.name}'),
      lead=lead,
      cards=self._cards(),
      systems=self._systems_table(),
      files=self._files(),
      comparisons=self._comparisons(),
      cut_offs=self._cut_offs(),
      learning=self._learning() + self._lags(),
      hit_rate=self._hit_rate(),
      segments=self._segments(),
      popularity=self._popularity(),
      lists=self._lists(),
      log=self._log(),
      protocol=escape(protocol.describe(dataset, self._split, self._among)),
      card=self._protocol_card(),
      configuration=self._configuration(),
    )

  def _sources(self) -> str:
    sources = [source.name for source in self._dataset.manifest.sources]
    return ', '.join(sources) or self._dataset.directory.name

  def _system(self, name: str) -> str:
    return (
      f'<span class="swatch" style="background:{self._colours[name]}"></span>'
      f'{escape(name)}'
    )

  def _figure(self, name: str, figure: Any, caption: str, numbers: str) -> str:
    """A figure, and behind it the same in numbers, for who cannot see it."""
    path = self._run.directory / run_lib.PLOTS / f'{name}.png'
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(plots.png(figure))
    picture = plots.svg(figure).replace(
      '<svg', f'<svg role="img" aria-label="{escape(caption)}"', 1
    )
    return (
      f'<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>'
      f'<details class="numbers"><summary>In numbers</summary>{numbers}</details>'
    )

  def _cards(self) -> str:
    cards = []
    for ranking in self._rankings:
      for measure in ('hr', 'ndcg'):
        name = f'{measure}@{self._k}'
        own = self._systems[self._model]
        others = {
          system: summary[ranking][name]
          for system, summary in self._systems.items()
          if system != self._model and ranking in summary
        }
        best = max(others, key=others.__getitem__, default=None)
        beside = f'beside {escape(best)} {number(others[best])}' if best else '&nbsp;'
        cards.append(
          f'<div class="card"><span>{_MEASURES[measure]}@{self._k}, {ranking}</span>'
          f'<b>{number(own[ranking][name])}</b>'
          f'<span>95&nbsp;%: {bounds(own["intervals"][ranking][name])}</span>'
          f'<span>{beside}</span></div>'
        )
    return ''.join(cards)

  def _cells(self, summary: Mapping[str, Any], ranking: str, k: int) -> list[str]:
    if ranking not in summary:
      return ['–'] * len(_MEASURES)
    return [
      f'{number(summary[ranking][name])}'
      f'<small>{bounds(summary["intervals"][ranking][name])}</small>'
      for name in (f'{measure}@{k}' for measure in _MEASURES)
    ]

  def _groups(self, before: int) -> list[tuple[str, int]]:
    known = ' seen before' if self._among == candidates.SEEN_BEFORE else ''
    titles = {
      SAMPLED: f'sampled, {self._candidates[SAMPLED]} candidates',
      FULL: f'full, {self._candidates[FULL]:,} items{known}',
    }
    return [('', before)] + [
      (titles[ranking], len(_MEASURES)) for ranking in self._rankings
    ]

  def _systems_table(self) -> str:
    rows = [
      [self._system(name)]
      + [
        cell
        for ranking in self._rankings
        for cell in self._cells(summary, ranking, self._k)
      ]
      for name, summary in self._systems.items()
    ]
    measures = [f'{title}@{self._k}' for title in _MEASURES.values()]
    return markup.table(
      ['system', *measures * len(self._rankings)],
      rows,
      self._groups(1),
      marked=self._system(self._model),
    )

  def _files(self) -> str:
    """What was counted in the files of other systems."""
    return ''.join(
      f'<p class="soft">{self._system(name)}, <code>{escape(summary["file"])}</code>: '
      f'{escape(" ".join(predictions.describe(summary["counts"])))}</p>'
      for name, summary in self._systems.items()
      if 'counts' in summary
    )

  def _cut_offs(self) -> str:
    rows = [
      [self._system(name), str(k)]
      + [
        cell for ranking in self._rankings for cell in self._cells(summary, ranking, k)
      ]
      for k in self._ks
      for name, summary in self._systems.items()
    ]
    header = ['system', 'K', *[*_MEASURES.values()] * len(self._rankings)]
    return markup.table(header, rows, self._groups(2), marked=self._system(self._model))

  def _comparisons(self) -> str:
    comparisons = self._metrics.get('comparisons', {}).get(self._split, {})
    # Baselines in the order of the table above, other runs after them.
    others = [name for name in self._systems if name in comparisons]
    others += [name for name in comparisons if name not in others]
    if not others:
      return ''
    rows = []
    for other in others:
      cells = []
      for ranking in self._rankings:
        cells += self._difference(comparisons[other].get(ranking))
      rows.append([f'{escape(self._model)} − {escape(other)}', *cells])
    groups = [('', 1)] + [(ranking, 2) for ranking in self._rankings]
    measures = [f'NDCG@{self._k}', 'p, Holm']
    test = (
      '<p>Paired randomisation test over users: 9,999 draws of random signs. p-values '
      f'are adjusted by Holm’s method (1979) for all {family(comparisons)} comparisons '
      'of these rows; in grey, what each would be alone.</p>'
    )
    return test + markup.table(
      ['difference', *measures * len(self._rankings)], rows, groups
    )

  def _difference(self, result: Mapping[str, Any] | None) -> list[str]:
    if result is None:
      return ['', '']
    alone, holm = (
      escape(table.p_value(result[name]).removeprefix('p ').removeprefix('= '))
      for name in ('p_value', 'p_holm')
    )
    return [
      f'{number(result["difference"])}'
      f'<small>{bounds((result["lower"], result["upper"]))}</small>',
      f'{holm}<small>{alone}</small>',
    ]

  def _learning(self) -> str:
    history = self._run.history()
    if not history:
      return '<p class="soft">The run has no epochs.csv.</p>'
    validated = 'ndcg@10' in history[0]
    best = self._metrics.get('best_epoch') if validated else None
    caption = 'Loss over train rows, and metrics of validation rows after each epoch.'
    if not validated:
      caption = 'Loss over train rows. The dataset has no validation rows.'
    return self._figure(
      'learning_curves',
      plots.learning_curves(history, best),
      caption,
      numbers.learning_curves(history),
    )

  def _lags(self) -> str:
    weights = self._run.lags()
    if weights is None:
      return ''
    return self._figure(
      'lags',
      plots.lags(weights),
      'Weights of past items by lag in each head of the pool encoder, size alone, '
      'mean over members. Beyond 5 several lags are put together.',
      numbers.lags(weights),
    )

  def _hit_rate(self) -> str:
    ranks = {
      ranking: {
        name: rankings(one)[ranking]
        for name, one in self._ranks.items()
        if ranking in rankings(one)
      }
      for ranking in self._rankings
    }
    return self._figure(
      'hit_rate_by_k',
      plots.hit_rate_by_k(ranks, self._candidates, self._colours),
      'Share of users whose held-out item is among the first K.',
      numbers.hit_rate_by_k(ranks, self._candidates),
    )

  def _segments(self) -> str:
    cuts = self._dataset.manifest.cuts
    per_second = 1 if cuts is None else times.units_per_second(cuts.last)
    systems = in_words.systems(self._systems, per_second)
    unit = '' if cuts else ', where its unit is the second'
    return self._figure(
      'segments',
      plots.segments(systems, self._rankings, f'ndcg@{self._k}'),
      f'NDCG@{self._k} with 95 % intervals. Above: quarters of the users by rows '
      'before the held-out one. Below: users by their held-out item; head, middle and '
      'tail hold a third of the train rows each. Then, where the log has times: '
      f'quarters by the time since the row before{unit}.',
      numbers.segments(systems, self._rankings, f'ndcg@{self._k}'),
    )

  def _popularity(self) -> str:
    if FULL not in self._rankings:
      return '<p class="soft">Needs full ranking.</p>'
    lists = {
      name: ranks.recommended[ranks.ks.index(self._k)]
      for name, ranks in self._ranks.items()
      if ranks.recommended is not None
    }
    count = self._dataset.vocabulary(dataset_lib.ITEMS).counts
    positive = self._ranks[self._model].positive
    return self._figure(
      'popularity',
      plots.popularity(count, positive, lists, self._k),
      'A system whose line runs above the one of the held-out items recommends '
      'more popular items than users take; below it, less popular ones.',
      numbers.popularity(count, positive, lists),
    )

  def _lists(self) -> str:
    if FULL not in self._rankings:
      return ''
    rows = [
      [
        self._system(name),
        f'{100 * summary[FULL][f"coverage@{self._k}"]:.1f} %',
        number(summary[FULL][f'gini@{self._k}'], 3),
        f'{summary[FULL][f"novelty@{self._k}"]:.2f} bits',
      ]
      for name, summary in self._systems.items()
      if FULL in summary
    ]
    header = ['system', f'coverage@{self._k}', f'Gini@{self._k}', f'novelty@{self._k}']
    return markup.table(header, rows, marked=self._system(self._model))

  def _log(self) -> str:
    manifest = self._dataset.manifest
    if manifest.inspection is None:
      return ''
    what = manifest.inspection, manifest.cuts.last if manifest.cuts else None
    drawn = log_section.figure(*what)
    caption, told = log_section.caption(*what), log_section.numbers(*what)
    return f'<h2>The log</h2>\n{self._figure("log", drawn, caption, told)}'

  def _protocol_card(self) -> str:
    return markup.protocol_card(
      protocol.card(
        self._dataset,
        self._split,
        self._systems,
        self._run,
        self._among,
      )
    )

  def _configuration(self) -> str:
    text = '\n'.join(self._run.flags())
    return f'<pre>{escape(text.strip())}</pre>'
