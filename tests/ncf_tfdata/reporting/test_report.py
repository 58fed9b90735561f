"""The report of a run: one file that needs no other, and figures."""

import dataclasses
import html.parser
import shutil

import numpy as np
import pytest
import toy_dataset
import toy_run

from ncf_tfdata import inspection
from ncf_tfdata.data import records
from ncf_tfdata.evaluation import baselines, ranking, summary
from ncf_tfdata.models import saved
from ncf_tfdata.reporting import report

_VOID = {'meta', 'br', 'link', 'path', 'use', 'rect', 'line', 'circle', 'stop'}
_KS = (1, 5, 10)


class _Page(html.parser.HTMLParser):
  """Collects headings, references and tags that were left open."""

  def __init__(self):
    super().__init__()
    self.open, self.references, self.text = [], [], []

  def handle_starttag(self, tag, attrs):
    if tag not in _VOID:
      self.open.append(tag)
    self.references += [v for k, v in attrs if k in ('src', 'href', 'xlink:href')]

  def handle_startendtag(self, tag, attrs):
    self.references += [v for k, v in attrs if k in ('src', 'href', 'xlink:href')]

  def handle_endtag(self, tag):
    if tag not in _VOID:
      assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  items = toy_dataset.tastes(num_users=80)
  return toy_dataset.write(tmp_path_factory.mktemp('data'), items, num_items=40)


def _evaluate(run, dataset, split='test', full=True):
  """What `evaluate` leaves in a run."""
  rows = records.train_rows(dataset)
  model = saved.load(run, dataset)
  scorers = {model.name: model}
  for spec in ('popularity', 'successors:reverse=0.5'):
    fit = baselines.create(spec)
    scorers[spec] = fit(*rows, dataset.num_users, dataset.num_items)
  count = dataset.vocabulary('items.tsv').counts
  summaries, found = {}, {}
  for name, scorer in scorers.items():
    batches = records.evaluation_batches(dataset, split, 1000)
    if full:
      found[name] = ranking.rank_full(scorer, batches, dataset.num_items, _KS)
    else:
      found[name] = ranking.rank_sampled(scorer, batches)
    summaries[name] = summary.summarize(found[name], _KS, count, dataset.num_users)
    system = summary.MODEL if name == model.name else name
    summary.save_ranks(summary.ranks_path(run.directory, split, system), found[name])
  own = summaries.pop(model.name)
  run.write_metrics(
    {
      'model': model.name,
      'best_epoch': 2,
      'checkpoint_sha256': run.checkpoint_sha256(),
      split: own,
      'baselines': {
        **{
          name: {split: {'fit_on': 'train', **one}} for name, one in summaries.items()
        },
        # As train leaves it: without ranks and intervals.
        'unjudged': {split: {'sampled': {'hr@10': 0.1}}},
      },
      'comparisons': {
        split: summary.with_holm(
          {
            name: summary.compare(found[model.name], found[name], 10)
            for name in summaries
          }
        )
      },
    }
  )


@pytest.fixture(scope='module')
def run(dataset, tmp_path_factory):
  run = toy_run.write(tmp_path_factory.mktemp('runs') / 'toy', dataset)
  _evaluate(run, dataset)
  return run


def _parse(path):
  page = _Page()
  page.feed(path.read_text())
  assert not page.open
  return page


def test_report_is_one_whole_file(run, dataset):
  path = report.write(run, dataset, 'test')
  assert path == run.directory / 'report.html'
  page = _parse(path)
  # Nothing but glyphs and markers of its own figures is referred to.
  assert all(reference.startswith('#') for reference in page.references)
  assert path.read_text().count('<svg') == 4
  assert '$' not in ''.join(page.text)


@pytest.mark.slow
def test_report_says_what_was_judged_and_how(run, dataset):
  text = ''.join(_parse(report.write(run, dataset, 'test')).text)
  assert dataset.sha256 in text
  assert run.checkpoint_sha256()[:12] in text
  assert '--note=<b>&' in text  # Escaped, or the parser would have made tags of it.
  assert '--eval_negatives=15' in text
  for system in ('neumf', 'popularity', 'successors:reverse=0.5'):
    assert system in text
  assert 'unjudged' not in text
  assert 'Krichene' in text
  value = run.metrics()['test']['sampled']['ndcg@10']
  assert f'{value:.4f}'.lstrip('0') in text


@pytest.mark.slow
def test_report_draws_the_log_where_it_was_inspected(
  run, dataset, tmp_path, monkeypatch
):
  run = type(run)(shutil.copytree(run.directory, tmp_path / 'run'))
  assert 'The log' not in report.write(run, dataset, 'test').read_text()
  found = inspection.Inspection({'rows': 8, 'tied_rows': 2}, {}, {})
  manifest = dataclasses.replace(dataset.manifest, inspection=found)
  monkeypatch.setattr(dataset, 'manifest', manifest)
  text = report.write(run, dataset, 'test').read_text()
  assert '<h2>The log</h2>' in text
  assert '25.0 %' in text
  assert (run.directory / 'plots' / 'log.png').exists()


@pytest.mark.slow
def test_figures_are_pngs_too(run, dataset):
  report.write(run, dataset, 'test')
  plots = sorted((run.directory / 'plots').iterdir())
  assert [path.stem for path in plots] == [
    'hit_rate_by_k',
    'learning_curves',
    'popularity',
    'segments',
  ]
  for path in plots:
    assert path.read_bytes().startswith(b'\x89PNG')
  # Each has a text alternative: what it is, and its numbers.
  text = (run.directory / 'report.html').read_text()
  assert text.count('<svg role="img" aria-label=') == len(plots)
  assert text.count('<summary>In numbers</summary>') == len(plots)


@pytest.mark.slow
def test_the_same_run_makes_the_same_report(run, dataset):
  first = report.write(run, dataset, 'test').read_bytes()
  assert report.write(run, dataset, 'test').read_bytes() == first


def test_report_of_sampled_ranking_alone(dataset, tmp_path):
  run = toy_run.write(tmp_path / 'sampled', dataset)
  _evaluate(run, dataset, split='validation', full=False)
  page = _parse(report.write(run, dataset, 'validation'))
  assert 'second last row' in ''.join(page.text)


@pytest.mark.slow
def test_systems_that_lack_a_ranking_have_their_place(run, dataset, tmp_path):
  other = type(run)(shutil.copytree(run.directory, tmp_path / 'run'))
  metrics = other.metrics()
  counts = {
    'rows': 60, 'lists': 20, 'unknown_users': 0, 'unknown_items': 7, 'repeated': 0,
    'unknown_item_rows': 9, 'seen': 0, 'held_out': 80, 'without_list': 60, 'listed': 3,
    'largest_k': 10, 'short': 0, 'candidates': 0.5, 'beyond': 1,
  }  # fmt: skip
  path = summary.ranks_path(other.directory, 'test', 'popularity')
  judged = metrics['baselines']['popularity']['test']
  for lacking in ('sampled', 'full'):
    left = {name: value for name, value in judged.items() if name != lacking}
    name = f'no {lacking}'
    metrics.setdefault('predictions', {})[name] = {
      'test': {**left, 'file': 'lists.csv', 'sha256': 'abc', 'counts': counts}
    }
    ranks = dataclasses.replace(summary.load_ranks(path), **{lacking: None})
    if lacking == 'full':
      ranks = dataclasses.replace(ranks, ks=(), recommended=None)
    summary.save_ranks(summary.ranks_path(other.directory, 'test', name), ranks)
  other.write_metrics(metrics)
  page = _parse(report.write(other, dataset, 'test'))
  text = ''.join(page.text)
  assert text.count('–––') == 2 * 4  # In the first table, and at three cut-offs.
  assert '7 items, in 9 rows, are not in the dataset: ignored.' in text
  assert '60 of 80 held-out rows are of users without a list' in text
  # Both stand in each figure that can show them.
  svgs = path.parents[2].joinpath('report.html').read_text().split('<svg')[1:]
  for name in ('no sampled', 'no full'):
    assert sum(name in svg for svg in svgs) >= 2


@pytest.mark.slow
def test_report_without_validation_rows(tmp_path):
  items = toy_dataset.tastes(num_users=40)
  dataset = toy_dataset.write(tmp_path / 'data', items, num_items=40, holdout=1)
  run = toy_run.write(tmp_path / 'run', dataset)
  run.epochs.write_text('epoch,loss\n1,0.6\n')
  _evaluate(run, dataset)
  text = ''.join(_parse(report.write(run, dataset, 'test')).text)
  assert 'no validation rows' in text


def test_more_popular_lists_rise_sooner():
  count = np.array([100, 10, 1])
  lines = {
    name: np.cumsum(lists) / lists.sum()
    for name, lists, _ in report.plots.popularity_lines(
      count, np.array([1, 1, 2, 0]), {'a': np.array([4, 0, 0])}, {'a': '#000000'}
    )
  }
  assert lines['a'][0] == 1
  assert lines['held out'][0] == 0.25
