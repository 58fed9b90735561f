"""Text for people, as the value of a call."""


class Table(str):
  """Text of aligned columns, which a notebook or a prompt shows as it is."""

  def __repr__(self) -> str:
    return str(self)
