"""What an evaluation must reach: expressions, and who is told of what."""

import dataclasses

import pytest
import toy_run

from ncf_tfdata import api
from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.evaluation.config import EvaluateConfig
from ncf_tfdata.evaluation.requirements import Requirement


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('ndcg@10>=.2', (None, 'full', 'ndcg@10', 10, '>=', 0.2)),
    ('test/full/ndcg@10>=.2', ('test', 'full', 'ndcg@10', 10, '>=', 0.2)),
    (' sampled/hr@1 > 0.5 ', (None, 'sampled', 'hr@1', 1, '>', 0.5)),
    ('validation/mrr@20<1e-1', ('validation', 'full', 'mrr@20', 20, '<', 0.1)),
    ('gini@10<=.9', (None, 'full', 'gini@10', 10, '<=', 0.9)),
  ],
)
def test_expressions_are_read(text, expected):
  assert dataclasses.astuple(Requirement.parse(text)) == expected


@pytest.mark.parametrize(
  'text',
  [
    '',
    'ndcg@10',
    'ndcg>=.2',
    'ndcg@10=.2',
    'ndcg@10>=',
    'ndcg@10>=nan',
    'ndcg@10>=1.2.3',
    'ndcg@0>=.2',
    'train/ndcg@10>=.2',
    'full/test/ndcg@10>=.2',
    'auc@10>=.2',
    'sampled/gini@10<.9',
  ],
)
def test_what_is_no_expression_is_refused_before_work_begins(text):
  with pytest.raises(ArgumentError, match='In `require`'):
    EvaluateConfig(require=('hr@10>.1', text))


def test_requirements_stand_between_commas_or_repeat():
  config = EvaluateConfig(require=('hr@1>.1,hr@5>.2', 'hr@10>.3'))
  assert [each.metric for each in config.requirements] == ['hr@1', 'hr@5', 'hr@10']


def test_what_is_not_measured_is_refused():
  with pytest.raises(ArgumentError, match='asks for ndcg@7'):
    EvaluateConfig(require=('ndcg@7>.1',))
  with pytest.raises(ArgumentError, match='needs `full_ranking`'):
    EvaluateConfig(require=('ndcg@10>.1',), full_ranking=False)
  EvaluateConfig(require=('sampled/ndcg@10>.1',), full_ranking=False)


@pytest.mark.parametrize(
  ('relation', 'held'), [('>=', 'yy'), ('>', 'ny'), ('<=', 'yn'), ('<', 'nn')]
)
def test_bounds_are_held_at_the_bound_and_above_it(relation, held):
  asked = Requirement.parse(f'hr@10{relation}.5')
  assert [asked.holds(value) for value in (0.5, 0.75)] == [each == 'y' for each in held]
  assert not asked.holds(float('nan'))


@pytest.mark.slow
def test_a_model_is_held_to_its_numbers_and_others_to_none(dataset, tmp_path):
  run = api.Run(toy_run.write(tmp_path / 'run', dataset), dataset)
  asked = [f'full/hr@10{relation}0' for relation in ('>=', '<')]
  found = run.evaluate(require=asked, baselines=['popularity'], progress=False)
  reached = found.systems['neumf']['full']['hr@10']
  assert [check.value for check in found.checks] == [reached, reached]
  assert [check.met for check in found.checks] == [True, False]
  line = f'test/full/hr@10 of neumf is {reached:.4f}, required < 0'
  assert found.missed == [line]
  assert f'{line}: missed' in found.table()
  # Another split is held to what the run keeps of it, which must be there.
  other = ['validation/full/hr@10>=0']
  with pytest.raises(UserError, match='--split=validation first'):
    run.evaluate(require=other, progress=False)
  run.evaluate(split='validation', baselines=[], progress=False)
  again = run.evaluate(require=other, baselines=[], progress=False)
  assert again.checks[0].value == run.metrics['validation']['full']['hr@10']


def test_baselines_alone_have_no_one_to_hold_to_it(dataset):
  with pytest.raises(UserError, match='give --run_dir or --predictions'):
    api.evaluate(dataset, require=['hr@10>.1'], progress=False)
