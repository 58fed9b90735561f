"""Curves over a size in powers of ten: exponents, and a plot of times and memory."""

import json
import math
from collections.abc import Mapping, Sequence

import matplotlib.figure
import matplotlib.ticker
import side_by_side


def exponent(sizes: Sequence[Mapping], by: str, name: str) -> float:
  """The slope of `ms` in logarithms: 1 grows as the size does.

  It is between the last size and the largest one that is at most a tenth of it, or the
  one before it where none is.

  Args:
    sizes: In ascending order, two or more; each has `by` and a dict `name` with `ms`.
    by: What the size is.
    name: What was measured.
  """
  last = sizes[-1]
  decade = [size for size in sizes[:-1] if size[by] * 10 <= last[by]]
  before = (decade or sizes[:-1])[-1]
  return math.log(last[name]['ms'] / before[name]['ms']) / math.log(
    last[by] / before[by]
  )


def result(
  what: str, sizes: Sequence[Mapping], by: str, labels: Mapping[str, str]
) -> dict:
  """What a benchmark saves: sizes, and the exponent of what has a label.

  Args:
    what: It is of.
    sizes: As of `exponent`.
    by: What the size is.
    labels: What lines are called, as of `draw`.
  """
  exponents = {name: exponent(sizes, by, name) for name in labels}
  return {'what': what, 'sizes': sizes, 'exponents': exponents}


def redraw(name: str, by: str, labels: Mapping[str, str]) -> None:
  """Draws a saved `result` to docs/images/NAME.png."""
  kept = json.loads((side_by_side.RESULTS / f'{name}.json').read_text())
  draw(f'{name}.png', kept['sizes'], by, labels)


def draw(
  image: str, sizes: Sequence[Mapping], by: str, labels: Mapping[str, str]
) -> None:
  """Draws `ms` and `peak_mib` of what has a label over the size, in logarithms.

  Args:
    image: Name of the file in docs/images.
    sizes: As of `exponent`.
    by: What the size is.
    labels: What the lines are called.
  """
  from ncf_tfdata.reporting import plots

  places = [size[by] for size in sizes]
  with plots.styled():
    figure = matplotlib.figure.Figure(figsize=(10, 5), layout='constrained')
    times, memory = figure.subplots(1, 2)
    for name, label in labels.items():
      label = f'{label}, exponent {exponent(sizes, by, name):.2f}'
      times.plot(places, [size[name]['ms'] for size in sizes], marker='o', label=label)
      gibibytes = [size[name]['peak_mib'] / 1024 for size in sizes]
      memory.plot(places, gibibytes, marker='o')
    times.set(title='milliseconds', xlabel=by, xscale='log', yscale='log')
    figure.legend(loc='outside lower center', ncols=2)
    memory.set(title='peak memory, GiB', xlabel=by, xscale='log')
    memory.set_yscale('log', base=2)
    memory.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter('{x:g}'))
    (side_by_side.IMAGES / image).write_bytes(plots.png(figure))
