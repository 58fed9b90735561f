"""The built-in sample by a Beam job: a folder of files, for sizes of any kind.

    python -m beam_pipelines.sample_job --ratings=1000000000 --output=FOLDER

The files in name order, end to end, are the very bytes that `sample` writes to one
file. What is no flag of this command goes to Beam, such as `--runner`.
"""

import os
import time
from collections.abc import Sequence

from absl import flags

from beam_pipelines import command, sample
from ncf_tfdata.errors import UserError

_BLOCKS_PER_FILE = 16  # about 64 MB, which a worker holds at once
_RATING_BYTES = 26


def num_files(spec: sample.Spec) -> int:
  """Number of files that hold the sample."""
  return -(-sample.num_blocks(spec) // _BLOCKS_PER_FILE)


def write_file(index: int, spec: sample.Spec, directory: str) -> str:
  """Writes one file, which appears whole or not at all; returns its name."""
  from beam_pipelines import progress, staging

  first = index * _BLOCKS_PER_FILE
  end = min(first + _BLOCKS_PER_FILE, sample.num_blocks(spec))
  name = f'ratings-{index:05d}-of-{num_files(spec):05d}.dat'
  content = b''.join(sample.block(spec, block) for block in range(first, end))
  staging.write(directory, name, content)
  progress.advance('writing', 1)
  return name


def run(spec: sample.Spec, output: str, beam_arguments: Sequence[str] = ()) -> None:
  """Writes the sample to a folder; on a local disk that appears once it is whole.

  Args:
    spec: Size and seed.
    output: The resolved folder, local or of a store that Beam knows; nothing is there.
    beam_arguments: `--name=value` of Beam's own flags.

  Raises:
    UserError: There is something at `output`, or it cannot be written.
  """
  import apache_beam as beam

  # In an importable module by its own name, for workers that are other processes.
  from beam_pipelines import outputs, runners, sample_job, staging, terminal

  local = outputs.is_local(output)
  if os.path.lexists(output) if local else outputs.names(output):
    raise UserError(f'--output={output} exists. Remove it, or choose another.')
  staging.sweep(output, ())
  directory = staging.staging_directory(output) if local else output
  options = runners.options(list(beam_arguments), spec.ratings * _RATING_BYTES)
  print(runners.describe(options), flush=True)
  staging.create_directory(directory)
  try:
    with terminal.pipeline(options, 'files') as root:
      _ = (
        root
        | 'Files' >> beam.Create(range(num_files(spec)))
        | 'Spread' >> beam.Reshuffle()
        | 'Write' >> beam.Map(sample_job.write_file, spec, directory)
      )
    if local:
      _place(directory, output)
  finally:
    if local:
      staging.discard_directory(directory)


def _place(directory: str, output: str) -> None:
  try:
    os.rename(directory, output)
  except OSError as error:
    raise UserError(f'cannot put the sample at {output}: {error}.') from error


def main(argv: Sequence[str]) -> None:
  """Writes a sample and says what it is."""
  from beam_pipelines import outputs

  spec = sample.Spec(_RATINGS.value, _SEED.value)
  output = outputs.resolve(_OUTPUT.value)
  start = time.monotonic()
  run(spec, output, argv[1:])
  seconds = time.monotonic() - start
  print(
    f'{spec.ratings:,} ratings in {num_files(spec):,} files, {seconds:.1f} s, '
    f'{spec.ratings / seconds:,.0f} ratings/s: {output}'
  )
  print(f'Next: python -m beam_pipelines.prepare --input={output}')


if __name__ == '__main__':
  # Here, because workers import this module by its name, beside the command.
  _RATINGS = flags.DEFINE_integer(
    'ratings', 10**8, 'Number of ratings.', sample.MIN_RATINGS, sample.MAX_RATINGS
  )
  _SEED = flags.DEFINE_integer('seed', 0, 'Seed; another seed is another sample.')
  _OUTPUT = flags.DEFINE_string('output', None, 'The folder to write.', required=True)
  command.run(main)
