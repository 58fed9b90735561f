"""Pieces of HTML that a report is put together from."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ncf_tfdata.reporting import table as text_table


def escape(text: Any) -> str:
  """Text as it stands in a page."""
  return html.escape(str(text))


def table(
  header: Sequence[str],
  rows: Iterable[Sequence[str]],
  groups: Sequence[tuple[str, int]] = (),
  marked: str | None = None,
  text: bool = False,
) -> str:
  """An HTML table; cells are HTML.

  Args:
    header: Column titles.
    rows: Cells, row by row.
    groups: Titles above the header, with how many columns each spans.
    marked: First cell of the rows that are set off.
    text: Whether cells after the first are text, not numbers.
  """
  kind = ' class="text"' if text else ''
  lines = ['<div class="scroll"><table><thead>']
  if groups:
    cells = ''.join(f'<th colspan="{span}">{title}</th>' for title, span in groups)
    lines.append(f'<tr class="group">{cells}</tr>')
  if header:
    lines.append(f'<tr>{"".join(f"<th>{title}</th>" for title in header)}</tr>')
  lines.append('</thead><tbody>')
  for first, *others in rows:
    cells = ''.join(f'<td{kind}>{cell}</td>' for cell in others)
    mark = ' class="model"' if marked is not None and first == marked else ''
    lines.append(f'<tr{mark}><td>{first}</td>{cells}</tr>')
  return '\n'.join([*lines, '</tbody></table></div>'])


def number(value: float, digits: int = 4) -> str:
  """`.7105`, or `−.0021`."""
  return text_table.number(value, digits).replace('-', '−')


def bounds(interval: Sequence[float]) -> str:
  """`[.701, .720]`."""
  lower, upper = interval
  return f'[{number(lower, 3)}, {number(upper, 3)}]'


# How the cells of a card's groups are written, and what stands between them; others are
# read as a sentence each.
_CARD = {
  'prepared_with': ('<code>--{name}={value}</code>', ' '),
  'dataset': ('{title} {value}', ', '),
  'inspection': ('{title} {value}', ', '),
  'drift': ('{title} {value}', ', '),
  'sha256': ('{title}: <code>{value}</code>', '<br>'),
}


def protocol_card(card: Mapping[str, Mapping[str, Any]]) -> str:
  """The table of an `evaluation.protocol.card`."""
  rows = []
  for group, values in card.items():
    form, between = _CARD.get(group, ('{title}: {value}', '<br>'))
    cells = [
      form.format(
        name=escape(name),
        title=escape(name.replace('_', ' ')),
        value=_plain(value, group),
      )
      for name, value in values.items()
    ]
    if cells:
      rows.append([escape(group.replace('_', ' ')), between.join(cells)])
  return table([], rows, text=True)


def _plain(value: Any, group: str) -> str:
  """A value as it stands in a cell of a group; a flag's as it is typed."""
  if isinstance(value, list):
    value = ','.join(map(str, value))
  is_count = group in ('dataset', 'inspection', 'drift') and isinstance(value, int)
  return f'{value:,}' if is_count else escape(value)
