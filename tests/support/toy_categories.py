"""Categories of the items of a toy dataset, and who has what by a plain look."""

from collections.abc import Iterable

from toy_features import add, categories, numbers

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.features.records import Features

# An item has one where its number can be divided by 2, 3 and 4.
GENRES = ('Comedy', 'Drama, of old', 'sci:fi')


def values(number: int) -> dict[str, list[str]]:
  """Values by column of the item of a number; i1 has no genre."""
  genres = [name for place, name in enumerate(GENRES, 2) if number % place == 0]
  return {'genres': genres, 'shelf': [f's{number // 10}']}


def pairs(number: int) -> set[str]:
  """The same as `only` has them: genres:Comedy."""
  return {f'{name}:{value}' for name, has in values(number).items() for value in has}


def all_pairs(num_items: int = 40) -> list[str]:
  """Those that some item has."""
  return sorted(set().union(*map(pairs, range(num_items))))


def has(number: int, only: Iterable[str]) -> bool:
  """Whether an item has one of the values of each column; '' is none."""
  texts = [text for text in only if text]
  columns = {text.partition(':')[0] for text in texts}
  return all(
    any(text in pairs(number) for text in texts if text.partition(':')[0] == column)
    for column in columns
  )


def add_to(dataset: dataset_lib.Dataset) -> dataset_lib.Dataset:
  """Gives items `i0`, `i1`, … categories, and a number that is none."""
  every = range(dataset.num_items)
  columns = (
    categories('genres', [values(number)['genres'] for number in every]),
    numbers('weight', list(map(float, every))),
    categories('shelf', [values(number)['shelf'] for number in every]),
  )
  return add(dataset, Features(dataset.num_items, columns))
