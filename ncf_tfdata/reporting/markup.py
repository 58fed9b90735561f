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


def protocol_card(card: Mapping[str, Mapping[str, Any]]) -> str:
  """The table of an `evaluation.protocol.card`."""
  rows = []
  for group, values in card.items():
    cells = [
      f'{escape(name.replace("_", " "))} {_plain(values[name])}' for name in values
    ]
    if group == 'prepared_with':
      cells = [
        f'<code>--{escape(name)}={_plain(values[name])}</code>' for name in values
      ]
    if group == 'sha256':
      cells = [
        f'{escape(name.replace("_", " "))} <code>{escape(values[name])}</code>'
        for name in values
      ]
    # What is read as a sentence has a line of its own.
    between = (
      ', ' if group == 'dataset' else ' ' if group == 'prepared_with' else '<br>'
    )
    rows.append([escape(group.replace('_', ' ')), between.join(cells)])
  return table([], rows, text=True)


def _plain(value: Any) -> str:
  """A value as it is written on a line; of a list, between commas."""
  if isinstance(value, list):
    return escape(', '.join(map(str, value)))
  is_count = isinstance(value, int) and not isinstance(value, bool)
  return f'{value:,}' if is_count else escape(value)
