"""What is known of items and users beside the log."""

from __future__ import annotations

import dataclasses

from ncf_tfdata.config import Config, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig(Config):
  """Files of features. What is open is found out, and printed."""

  item_features: str | None = setting(
    None,
    'File of what is known of items, a row an item: comma, tab or `::` separated, each '
    'also gzipped, or Parquet. Categories, several of one item with | between them, '
    'numbers, texts and vectors. `sample` for the built-in sample.',
  )
  item_feature_columns: tuple[str, ...] = setting(
    (),
    'Columns to read, as NAME or NAME:KIND with a kind of category, number, text and '
    'vector: title:text,genres:category. Of a file without a header what each column '
    'is, item for the key and _ for one to leave out. Found out by default.',
  )
  item_feature_key: str | None = setting(
    None, "Column of the items' keys, as the log has them; the first by default."
  )
  user_features: str | None = setting(None, 'The same for users.')
  user_feature_columns: tuple[str, ...] = setting(
    (), 'As --item_feature_columns, with user for the key.'
  )
  user_feature_key: str | None = setting(
    None, "Column of the users' keys; the first by default."
  )
  feature_encoding: str = setting(
    'utf-8',
    "Encoding of text files of features: MovieLens-1M's movies.dat is latin-1.",
    choices=('utf-8', 'latin-1'),
  )

  @property
  def asked(self) -> bool:
    """Whether there is any such file."""
    return bool(self.item_features or self.user_features)

  def check(self) -> None:
    for field in dataclasses.fields(self):
      role, _, rest = field.name.partition('_feature_')
      if rest and getattr(self, field.name) and not getattr(self, f'{role}_features'):
        raise self.invalid(
          f'`{field.name}` needs `{role}_features`: the file that it is about.',
          field.name,
        )
