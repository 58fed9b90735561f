"""The quickstart notebook runs, cell by cell, in a directory of its own."""

import ast
import json

import prepared
import pytest

pytestmark = pytest.mark.slow

_NOTEBOOK = prepared.ROOT / 'docs' / 'quickstart.ipynb'


def _cells() -> list[str]:
  cells = json.loads(_NOTEBOOK.read_text())['cells']
  return [''.join(c['source']) for c in cells if c['cell_type'] == 'code']


def _run(cell: str, names: dict) -> object:
  """Runs a cell; what its last line is, as a notebook shows it."""
  tree = ast.parse(cell)
  last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
  exec(compile(tree, str(_NOTEBOOK), 'exec'), names)
  if last is None:
    return None
  return eval(compile(ast.Expression(last.value), str(_NOTEBOOK), 'eval'), names)


def test_the_quickstart_runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  names: dict = {}
  shown = [_run(cell, names) for cell in _cells()]
  prepared_table, _, ndcg, table, numbers, lists, new, signatures, model = shown
  assert '5,000' in repr(prepared_table)
  assert 0 < ndcg <= 1
  assert numbers.keys() == {'history', 'popularity', 'ease', 'transitions'}
  assert 'ease' in repr(table) and 'the whole catalogue' in repr(table)
  # What the page says: a network has to beat what is popular.
  assert numbers['history'] > numbers['popularity']
  assert repr(lists).startswith('user 1, by model')
  assert new[0] == 'model' and len(new[1]) == 5
  assert 'recommend' in signatures
  assert model.dim == 32


def test_it_holds_no_output():
  for cell in json.loads(_NOTEBOOK.read_text())['cells']:
    assert not cell.get('outputs') and cell.get('execution_count') is None
