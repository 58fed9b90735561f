"""NeuMF with item transitions around it, through the command line."""

import json

import commands
import prepared
import trained


def test_transitions_change_what_neumf_recommends_and_nothing_of_its_training(
  sample_log, tmp_path
):
  dataset = prepared.prepare(sample_log, tmp_path / 'data', '--successors=100')
  plain = trained.train(dataset.directory, tmp_path / 'plain')
  wrapped = trained.train(
    dataset.directory, tmp_path / 'wrapped', '--successor_logits=1'
  )
  assert [row['loss'] for row in trained.numbers(wrapped)] == [
    row['loss'] for row in trained.numbers(plain)
  ]
  assert trained.metrics(wrapped)['model'] == 'neumf'
  full = [trained.metrics(made)['test']['full']['ndcg@10'] for made in (plain, wrapped)]
  # The sample's next item follows from the last ones.
  assert full[1] > full[0]

  # A new user with a history is somebody for it, and nobody for NeuMF alone.
  items = dataset.vocabulary('items.tsv').keys
  (tmp_path / 'new.csv').write_text(f'new,{items[3]}\nnew,{items[8]}\n')
  sources = []
  for made in (plain, wrapped):
    done = commands.run(
      'ncf_tfdata.recommend',
      f'--run_dir={made}',
      f'--history_file={tmp_path}/new.csv',
      f'--output={tmp_path}/lists.jsonl',
    )
    assert done.returncode == 0, done.stderr
    (line,) = map(json.loads, (tmp_path / 'lists.jsonl').read_text().splitlines())
    assert not {items[3], items[8]} & set(line['items'])
    sources.append(line['source'])
  assert sources == ['popularity', 'model']
