"""Every stage of `prepare` by itself: what goes in, and what comes out."""

import dataclasses
import pathlib
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import toy_job
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.typehints.decorators import TypeCheckError

from beam_pipelines import (
  cuts,
  files,
  histories,
  inspection,
  parsed,
  prepare_pipeline,
  publish,
  range_reader,
  ratings,
  runners,
  transitions,
)
from beam_pipelines.catalogue import RARE, ItemTimes, Tally
from beam_pipelines.histories import Chunk, Users
from beam_pipelines.inspection_stages import InspectUsers
from beam_pipelines.item_stages import (
  CountItems,
  CutFiles,
  FindVanishedItems,
  SelectItems,
  WriteItems,
)
from beam_pipelines.parsed import Parsed
from beam_pipelines.publish import Note, Publish
from beam_pipelines.shard_stages import WriteShards
from beam_pipelines.spill import Stored
from beam_pipelines.stage import Stage
from beam_pipelines.transition_stages import CountTransitions
from beam_pipelines.user_stages import GatherUsers, MeasureUsers, ReadRows
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.dataset import SUCCESSORS, TEST, TRAIN, VALIDATION
from ncf_tfdata.inspection import Inspection
from ncf_tfdata.manifest import Cuts

RANGE = (0, 0, 100, 'text', 'log')
LATER_RANGE = (0, 100, 200, 'text', 'log')


@pytest.fixture
def job(tmp_path):
  log = tmp_path / 'log'
  log.write_text('u1::a::5::30\nu1::b::1::10\nno rating\nu2::a::4::20\n')
  return toy_job.make(
    log, tmp_path / 'out', num_item_groups=1, num_shards=1, min_rating=2
  )


def pipeline() -> beam.Pipeline:
  return beam.Pipeline(options=runners.options([], 0))


def plain(value):
  """Arrays as lists and records as their fields, for comparison."""
  if isinstance(value, Stored):
    return plain(value.get())
  if isinstance(value, np.ndarray):
    return value.tolist()
  if isinstance(value, pa.Array):
    return value.to_pylist()
  if dataclasses.is_dataclass(value):
    return tuple(plain(getattr(value, f.name)) for f in dataclasses.fields(value))
  if isinstance(value, tuple | list):
    return type(value)(map(plain, value))
  return value


def check(found: beam.PCollection, label: str, expected: list) -> None:
  """Compares elements, in any order, once the pipeline has run."""
  assert_that(found | f'Plain{label}' >> beam.Map(plain), equal_to(expected), label)


def create(root: beam.Pipeline, label: str, values: list, kind) -> beam.PCollection:
  return root | label >> beam.Create(values).with_output_types(kind)


def stored(root: beam.Pipeline, label: str, values: list) -> beam.PCollection:
  """Groups and a value of each, as stages pass them on without a scratch disk."""
  values = [(group, Stored(value)) for group, value in values]
  return create(root, label, values, tuple[int, Stored])


def counts(notes: beam.PCollection) -> beam.PCollection:
  return notes | 'NoteCounts' >> beam.Map(lambda note: sorted(note.counts.items()))


def staged(job, name: str) -> str:
  """What a stage wrote as a piece of a file."""
  return (pathlib.Path(f'{job.staging}-pieces') / name).read_text()


def numbering(root: beam.Pipeline, size: int) -> tuple:
  """Sizes of the one group of items there is, and no gaps."""
  sizes = create(root, 'ItemSizes', [(0, size)], tuple[int, int])
  return sizes, create(root, 'Vanished', [], np.ndarray)


def test_cut_files(tmp_path):
  for name, size in (('a', 3), ('b', files.RANGE_BYTES + 1)):
    (tmp_path / name).write_bytes(b'x' * size)
  sources = tuple(files.match(str(tmp_path)))
  whole, cut = str(tmp_path / 'a'), str(tmp_path / 'b')
  expected = [
    (0, 0, 3, 'text', whole),
    (1, 0, files.RANGE_BYTES, 'text', cut),
    (1, files.RANGE_BYTES, files.RANGE_BYTES + 1, 'text', cut),
  ]
  with pipeline() as root:
    check(root | CutFiles(sources), 'Ranges', expected)


def test_count_items(job):
  with pipeline() as root:
    key = (0, 0, job.files[0].size, 'text', job.files[0].path)
    counted = root | beam.Create([key]) | CountItems(job)
    check(counted.tallies, 'Tallies', [(0, (key, (['a', 'b'], [2, 1], [2, 0])))])
    check(
      counts(counted.notes),
      'Notes',
      [[('read', 4), ('rejected', 1)], []],
    )
  rejects = next(pathlib.Path(f'{job.staging}-pieces').glob('rejects-*')).read_text()
  assert rejects == 'log\t26\texpected 4 fields, found 1\tno rating\n'


def test_select_items():
  first = Tally(pa.array(['c', 'a', 'b']), np.array([1, 3, 1]), np.array([1, 3, 1]))
  later = Tally(pa.array(['a', 'c']), np.array([1, 5]), np.array([0, 5]))
  with pipeline() as root:
    found = [(7, (LATER_RANGE, Stored(later))), (7, (RANGE, Stored(first)))]
    tallies = root | beam.Create(found)
    selected = tallies | SelectItems(min_item_count=2)
    check(
      selected.ids,
      'Ids',
      [(RANGE, (7, [1, 0, RARE])), (LATER_RANGE, (7, [0, 1]))],
    )
    check(selected.sizes, 'Sizes', [(7, 2)])
    check(selected.keys, 'Keys', [(7, ['a', 'c'])])


@pytest.mark.parametrize('kept', [False, True])
def test_read_rows(job, tmp_path, kept):
  job = dataclasses.replace(job, scratch=str(tmp_path / 'scratch') if kept else None)
  (tmp_path / 'scratch').mkdir()
  key = (0, 0, job.files[0].size, 'text', job.files[0].path)
  with pipeline() as root:
    # In the order in which the range has them: `a` is item 4, `b` is rated 1 only.
    ids = create(
      root,
      'Ids',
      [(key, (0, np.array([4, 5], np.int32)))],
      tuple[files.RangeKey, tuple[int, np.ndarray]],
    )
    counted = root | 'Range' >> beam.Create([key]) | CountItems(job)
    sizes = create(root, 'Sizes', [(0, 6)], tuple[int, int])
    rows = (ids, counted.parsed) | ReadRows(job, sizes)
    chunk = ((0, 0), ['u1', 'u2'], [0, 1], [4, 4], [10, 0], 20)
    check(rows.chunks, 'Chunks', [(0, chunk)])
    check(
      counts(rows.notes), 'Notes', [[('filtered_items', 0), ('filtered_ratings', 1)]]
    )
  # Counts and the chunk are left, and what was parsed is gone.
  assert len(list((tmp_path / 'scratch').iterdir())) == 2 * kept


def test_what_was_parsed_is_not_read_again(job, tmp_path):
  writer = parsed.ParsedWriter(str(tmp_path), job.min_rating)
  (block,) = ratings.read(
    range_reader.RangeReader((0, 0, 100, 'text', job.files[0].path)), job.schema
  )
  writer.put(block)
  pathlib.Path(job.files[0].path).unlink()
  key = (0, 0, job.files[0].size, 'text', job.files[0].path)
  kind = tuple[files.RangeKey, tuple[int, np.ndarray]]
  with pipeline() as root:
    ids = create(root, 'Ids', [(key, (0, np.array([4, 5], np.int32)))], kind)
    kept = create(root, 'Kept', [(key, writer.close())], tuple[files.RangeKey, Parsed])
    sizes = create(root, 'Sizes', [(0, 6)], tuple[int, int])
    rows = (ids, kept) | ReadRows(job, sizes)
    check(
      rows.chunks, 'Chunks', [(0, ((0, 0), ['u1', 'u2'], [0, 1], [4, 4], [10, 0], 20))]
    )


@pytest.mark.parametrize('kept', [False, True])
def test_gather_users(job, tmp_path, kept):
  job = dataclasses.replace(
    job,
    num_shards=3,
    rules=dataclasses.replace(job.rules, max_user_history=2),
    scratch=str(tmp_path) if kept else None,
  )
  early, late = (
    Chunk((0, offset), pa.array(users), np.array(user), np.array(item), np.array(time))
    for offset, users, user, item, time in (
      (0, ['u1', 'u2'], [0, 1, 0], [8, 0, 1], [9, 1, 7]),
      (50, ['u1'], [0], [2], [8]),
    )
  )
  with pipeline() as root:
    chunks = stored(root, 'Chunks', [(1, late), (1, early)])
    gathered = chunks | GatherUsers(job)
    check(
      gathered.users | beam.Map(lambda element: (element[0], plain(element[1])[:3])),
      'Users',
      # The third-last of u1 is beyond the longest history.
      [(0, ([], [], [])), (1, (['u1', 'u2'], [2, 1], [2, 8, 0])), (2, ([], [], []))],
    )
    dropped = [('dropped_history', 1), ('duplicates', 0), ('filtered_users', 0)]
    check(counts(gathered.notes), 'Notes', [[], dropped, []])


@pytest.mark.parametrize('cut', [False, True])
def test_measure_users(job, cut):
  plan = cuts.Plan(by_time=True, quantile=0.5, at='', validation=True)
  job = dataclasses.replace(job, cut=plan if cut else None)
  time = np.array([5, 9, 1], np.uint8)
  users = Users(
    pa.array(['u1', 'u2']), np.array([2, 1]), np.array([2, 8, 2]), {}, None, time, 100
  )
  with pipeline() as root:
    sizes = create(root, 'Sizes', [(0, 2), (1, 7)], tuple[int, int])
    measured = stored(root, 'Users', [(3, users)]) | MeasureUsers(job, sizes)
    check(measured.sizes, 'UserSizes', [(3, 2)])
    check(measured.seen, 'Seen', [(1, [2, 8])])
    check(counts(measured.notes), 'Notes', [[('kept', 3), ('users', 2)]])
    first_seen = [(1, ([2, 8], [101, 109]))]
    found = measured.first_seen | beam.MapTuple(
      lambda group, items: (group, (items.get().ids, items.get().times()))
    )
    check(found, 'FirstSeen', first_seen if cut else [])
    check(measured.times, 'Times', [([1, 5, 9], 100)] if cut else [])


def test_find_vanished_items():
  with pipeline() as root:
    sizes = create(root, 'Sizes', [(1, 2), (0, 3)], tuple[int, int])
    some = [(0, np.array([2])), (0, np.array([0, 2])), (1, np.array([3]))]
    seen = stored(root, 'Seen', some)
    check((sizes, seen) | FindVanishedItems(), 'Vanished', [[1], [4]])


USERS = Users(
  pa.array(['u1', 'u2']), np.array([4, 2]), np.array([3, 1, 0, 2, 0, 1]), {}
)


@pytest.mark.parametrize('keep', [0, 5])
def test_write_shards(job, keep):
  plan = dataclasses.replace(job.transitions, keep=keep)
  job = dataclasses.replace(job, transitions=plan)
  with pipeline() as root:
    user_sizes = create(root, 'UserSizes', [(0, 2)], tuple[int, int])
    users = stored(root, 'Users', [(0, USERS)])
    written = users | WriteShards(job, user_sizes, *numbering(root, 5))
    # The last two rows of u1 are held out; u2 is too short.
    check(written.counts, 'Counts', [(0, ([0, 1, 3], [1, 2, 1], None))])
    train = [(0, ([0, 0, 1, 1], [3, 1, 0, 1]))]
    check(written.train, 'Train', train if keep else [])
    check(
      written.notes | beam.Map(lambda note: [(f.split, f.rows) for f in note.files]),
      'Files',
      [[(TRAIN, 4), (VALIDATION, 1), (TEST, 1)]],
    )
  assert staged(job, 'users-000000.tsv') == 'u1\t2\nu2\t2\n'


def test_write_items(job):
  with pipeline() as root:
    sizes = create(root, 'Sizes', [(0, 1), (1, 3)], tuple[int, int])
    vanished = create(root, 'Vanished', [np.array([2])], np.ndarray)
    keys = root | 'Keys' >> beam.Create([(1, pa.array(['a', 'b', 'c\td']))])
    some = [
      (1, (np.array([1, 3]), np.array([5, 1]), None)),
      (1, (np.array([3]), 1, None)),
    ]
    rows = stored(root, 'Counts', some)
    none = stored(root, 'NoTimes', [])
    written = (keys, rows, none) | WriteItems(job.staging, sizes, vanished)
    check(written.counts, 'Written', [(1, [5, 2])])
    check(counts(written.notes), 'Notes', [[('items', 2)]])
  assert staged(job, 'items-000001.tsv') == 'a\t5\nc\\td\t2\n'


def test_count_transitions(job):
  plan = dataclasses.replace(job.transitions, keep=1, num_shards=2)
  with pipeline() as root:
    rows = [
      transitions.TrainRows(np.array([0, 0, 0]), np.array([0, 1, 2])),
      transitions.TrainRows(np.array([0, 0, 1]), np.array([0, 1, 3])),
    ]
    stored = [(group, Stored(each)) for group, each in enumerate(rows)]
    train = root | 'Train' >> beam.Create(stored)
    item_counts = [(0, np.array([2, 2])), (2, np.array([1, 1]))]
    count = CountTransitions(plan, *numbering(root, 4))
    notes = (train, root | 'Counts' >> beam.Create(item_counts)) | count
    check(counts(notes), 'Notes', [[(SUCCESSORS, 2)], [(SUCCESSORS, 0)]])
  # Item 0 was followed twice by 1, and 1 once by 2; nothing followed 2 and 3.
  weight = np.array([2, 1]) << 16
  best = transitions.Pairs(np.array([0, 1]), np.array([1, 2]), weight)
  for shard, pairs in enumerate((best, best.take(np.zeros(0, int)))):
    path = pathlib.Path(job.staging) / dataset_lib.shard_name(SUCCESSORS, shard, 2)
    assert path.read_bytes() == transitions.encode(pairs)[0]


@pytest.mark.parametrize('by_time', [False, True])
def test_inspect_users(job, by_time):
  plan = cuts.Plan(by_time=True, quantile=0.5, at='', validation=True)
  job = dataclasses.replace(job, cut=plan if by_time else None)
  # Two groups of a user each; a user's last two rows are of one time.
  users = [
    Users(
      pa.array([name]), np.array([3]), np.array([0, 1, 2]), {}, None,
      np.array([0, 9, 9], np.uint8), 100, histories.Repeats(4, 1, 1),
    )
    for name in ('u1', 'u2')
  ]  # fmt: skip
  held_out = inspection.held_out(
    users[0], np.array([True, False, False]), {TEST: np.array([2])}
  )
  with pipeline() as root:
    sizes, _ = numbering(root, 3)
    found = (
      stored(root, 'Users', list(enumerate(users))),
      root | 'HeldOut' >> beam.Create([held_out]),
      stored(
        root, 'FirstSeen', [(0, ItemTimes(np.arange(3), np.array([0, 1, 9]), 100))]
      ),
    )
    moments = [Cuts(first=100, last=109, test=105)]
    cut = create(root, 'Moments', moments, Cuts | None)
    made = found | InspectUsers(job, sizes, cut if by_time else None)
    counted = {
      'rows': 6, 'users': 2, 'tied_rows': 4, 'tied_users': 2,
      'log_rows': 8, 'repeated_rows': 2, 'consecutive_repeats': 2,
      'rules': 0, 'shuffled_rules': 0, 'bots': 0, 'bot_rows': 0, 'test_targets': 1,
    }  # fmt: skip
    if by_time:
      counted |= {'rows_after_test_cut': 4, 'users_after_test_cut': 0}
      counted |= {'items_after_test_cut': 1, 'test_cold_targets': 1}
    distances = {'test_since_row_before': (0,) * 3, 'test_since_train': (9,) * 3}
    expected = Inspection(counted, distances, {})
    assert_that(
      made | 'Measured' >> beam.Map(lambda note: note.inspection), equal_to([expected])
    )


def test_publish(job, tmp_path):
  users, items = 'users-000000.tsv', 'items-000000.tsv'
  for name in (users, items):
    publish.staging.write_piece(job.staging, name, b'key\t0\n')
  plan = dataclasses.replace(job.plan, allow_empty_splits=True)
  read = {'read': 3, 'rejected': 1, 'kept': 2, 'users': 1, TRAIN: 2}
  pieces = (
    publish.Piece(dataset_lib.USERS, (0,), users),
    publish.Piece(dataset_lib.ITEMS, (0,), items),
  )
  with pipeline() as root:
    notes = [Note(counts=read, first_reject=((0, 0), 'x')), Note(pieces=pieces)]
    parts = tuple(
      root | f'Part{part}' >> beam.Create([note]) for part, note in enumerate(notes)
    )
    _ = parts | Publish(plan)
  dataset = dataset_lib.Dataset(str(tmp_path / 'out'))
  assert dataset.manifest.counts == read
  assert dataset.vocabulary(dataset_lib.USERS).keys == ('key',)


def test_the_graph_reads_like_the_picture(job):
  root = pipeline()
  prepare_pipeline.build(
    root,
    dataclasses.replace(
      job,
      transitions=dataclasses.replace(job.transitions, keep=1),
      core=2,
      cut=cuts.Plan(by_time=True, quantile=0.5, at='', validation=True),
      inspect=True,
    ),
  )
  proto = root.to_runner_api()
  (top,) = (proto.components.transforms[name] for name in proto.root_transform_ids)
  names = [proto.components.transforms[name].unique_name for name in top.subtransforms]
  assert names == [
    'CutFiles',
    'CountItems',
    'SelectItems',
    'ReadRows',
    'GatherUsers',
    'PeelCore',
    'MeasureUsers',
    'FindVanishedItems',
    'FindCuts',
    'CutsNote',
    'WriteShards',
    'WriteItems',
    'CountTransitions',
    'InspectUsers',
    'Publish',
  ]
  # What stands in the picture of the module is there.
  for name in set(names) - {'CutsNote'}:
    assert name in prepare_pipeline.__doc__


class Ends(NamedTuple):
  first: beam.PCollection[str]
  last: beam.PCollection[int]


class Cut(Stage):
  def expand(self, words: beam.PCollection[str]) -> Ends:
    last = words | 'Last' >> beam.Map(lambda word: word[-1]).with_output_types(str)
    return Ends(words, last)


def test_a_stage_that_is_connected_wrongly_is_an_error_by_its_name(job):
  root = pipeline()
  with pytest.raises(TypeCheckError, match='type hint violation at SelectItems'):
    _ = root | beam.Create([('a', 1)]) | SelectItems(1)
  with pytest.raises(TypeCheckError, match='at WriteItems input position 1'):
    keys = root | 'Keys' >> beam.Create([(1, pa.array(['a']))])
    sizes, vanished = numbering(root, 1)
    _ = (keys, sizes, sizes) | WriteItems(job.staging, sizes, vanished)


def test_a_stage_that_makes_what_it_does_not_promise_is_an_error_by_its_name():
  root = pipeline()
  with pytest.raises(TypeCheckError, match='at Cut output position 1'):
    _ = root | beam.Create(['word']) | Cut()
