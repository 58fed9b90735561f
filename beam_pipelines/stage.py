"""What a stage of a job is: a named transform that says what goes in and comes out."""

import typing

import apache_beam as beam

from beam_pipelines import _compat


class Stage(beam.PTransform[typing.Any, typing.Any]):
  """A composite whose types are the annotations of its `expand`.

  The argument of `expand` is a `PCollection[T]` or a tuple of such; what it returns is
  a `PCollection[T]`, or a NamedTuple of such. Beam itself reads single PCollections
  only. Both ends are checked when the pipeline is built: a stage that is connected to
  what it does not take, or makes what it does not promise, is an error by its name.

      class Lengths(NamedTuple):
        short: beam.PCollection[int]
        long: beam.PCollection[int]

      class Measure(Stage):
        def expand(self, words: beam.PCollection[str]) -> Lengths: ...
  """

  def default_type_hints(self) -> typing.Any:
    annotations = typing.get_type_hints(type(self).expand)
    made = annotations.pop('return')
    (taken,) = annotations.values()
    return _compat.type_hints(_element_types(taken), _element_types(made))


def _element_types(annotation: typing.Any) -> list[typing.Any]:
  """The element type of each PCollection of an annotation."""
  if typing.get_origin(annotation) is beam.PCollection:
    return list(typing.get_args(annotation))
  if isinstance(annotation, type) and issubclass(annotation, tuple):
    parts = tuple(typing.get_type_hints(annotation).values())  # of a NamedTuple
  else:
    parts = typing.get_args(annotation)
  return [kind for part in parts for kind in _element_types(part)]
