"""Runs `train` as a user does."""

import csv
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys

import commands

# Sums of floats then have one order.
ONE_THREAD = {'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '1'}

# A recipe that takes seconds, and draws in the pipeline and in the step.
QUICK = (
  '--gmf_dim=8',
  '--mlp_dim=8',
  '--mlp_layers=16,8',
  '--dropout=0.2',
  '--batch_size=256',
  '--epochs=3',
  '--steps_per_call=4',
  # Compiling takes longer than these trainings; who tests it asks for it.
  '--nojit_compile',
)

# The same of a model that remembers, in windows.
HISTORY = (
  '--model=history',
  '--members=2',
  '--history_length=10',
  '--history_dim=16',
  '--history_heads=2',
  '--history_hidden=16',
  '--loss=softmax',
  '--shared_negatives=64',
  '--sampler=popularity',
)


def command(data_dir: object, run_dir: object, *arguments: object) -> list[str]:
  """The words of a `train` command."""
  module = [sys.executable, '-m', 'ncf_tfdata.train']
  paths = [f'--data_dir={data_dir}', f'--run_dir={run_dir}']
  return [*module, *paths, *QUICK, *map(str, arguments)]


def environment() -> dict[str, str]:
  """Of a `train` command."""
  return {**os.environ, **ONE_THREAD}


def run(data_dir, run_dir, *arguments) -> subprocess.CompletedProcess:
  """Trains to the end."""
  words = command(data_dir, run_dir, *arguments)
  return commands.run(*words[2:], **ONE_THREAD)


def start(data_dir, run_dir, output, *arguments) -> multiprocessing.Process:
  """Begins to train; `output` is a directory for what the command says."""
  words = command(data_dir, run_dir, *arguments)
  return commands.start(words[2:], str(output), **ONE_THREAD)


def train(data_dir, run_dir, *arguments) -> pathlib.Path:
  """Trains to the end, which it must reach; returns the run directory."""
  done = run(data_dir, run_dir, *arguments)
  assert done.returncode == 0, done.stdout + done.stderr
  return pathlib.Path(run_dir)


def refused(data_dir, run_dir, *arguments) -> str:
  """Trains where it must fail; returns the one line that says why."""
  done = run(data_dir, run_dir, *arguments)
  assert done.returncode == 1, done.stdout + done.stderr
  assert 'Traceback' not in done.stderr
  lines = [line for line in done.stderr.split('\n') if line.startswith('error: ')]
  assert len(lines) == 1, done.stderr
  return lines[0]


def metrics(run_dir: pathlib.Path) -> dict:
  """What metrics.json says."""
  return json.loads((run_dir / 'metrics.json').read_text())


def numbers(run_dir: pathlib.Path) -> list[dict[str, str]]:
  """The lines of epochs.csv, without what a clock has a part in."""
  with (run_dir / 'epochs.csv').open() as stream:
    rows = list(csv.DictReader(stream))
  timed = ('seconds', 'examples/s', 'examples_per_second', 'time')
  return [{k: v for k, v in row.items() if k not in timed} for row in rows]
