"""Writes the reference pages of flags and configuration classes from the code.

    python scripts/write_reference.py            # or: make reference
    python scripts/write_reference.py --check    # fails where a page is out of date

A page holds what the command's module says of itself, and each of its flags with
values, default and meaning, all from absl's registry. Another page holds the settings
of every configuration class.
"""

import importlib
import inspect
import json
import pathlib
import re
import runpy
import subprocess
import sys
from concurrent import futures
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
REFERENCE = ROOT / 'docs' / 'reference'
PAGES = REFERENCE / 'commands'
INDEX = REFERENCE / 'flags.md'
CONFIGURATION = REFERENCE / 'configuration.md'

# Module, name of its page.
COMMANDS = (
  ('beam_pipelines.prepare', 'prepare'),
  ('ncf_tfdata.train', 'train'),
  ('ncf_tfdata.evaluate', 'evaluate'),
  ('ncf_tfdata.recommend', 'recommend'),
  ('ncf_tfdata.similar', 'similar'),
  ('ncf_tfdata.export', 'export'),
  ('ncf_tfdata.explore', 'explore'),
  ('ncf_tfdata.launch', 'launch'),
  ('ncf_tfdata.tune', 'tune'),
  ('beam_pipelines.recommend', 'beam-recommend'),
  ('beam_pipelines.sample', 'sample'),
  ('beam_pipelines.sample_job', 'sample-job'),
)
_GENERATED = '<!-- Written by scripts/write_reference.py: run `make reference`. -->'


def describe(module: str) -> dict[str, Any]:
  """Reads a command's docstring and its key flags, in a process of its own.

  Two commands have flags of the same names, which one registry cannot hold.
  """
  return _in_a_process(f'--describe={module}')


def _in_a_process(flag: str) -> Any:
  done = subprocess.run(
    [sys.executable, __file__, flag], cwd=ROOT, stdout=subprocess.PIPE, check=True
  )
  return json.loads(done.stdout)


def _print_description(module: str) -> None:
  """Runs a command up to the moment at which it would parse its flags."""
  from absl import app, flags

  def instead(main, **_: Any) -> None:
    found = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    print(
      json.dumps(
        {
          'module': module,
          'docstring': sys.modules['__main__'].__doc__,
          'flags': [_flag(flag) for flag in sorted(found, key=lambda f: f.name)],
        }
      )
    )

  app.run = instead
  sys.argv = [module]
  ours = sys.modules['__main__']
  try:
    # So that absl takes its flags for the main module's.
    runpy.run_module(module, run_name='__main__', alter_sys=True)
  finally:
    sys.modules['__main__'] = ours


def _flag(flag: Any) -> dict[str, str]:
  return {
    'name': flag.name,
    'default': (flag.default_as_str or '').strip("'"),
    'values': _values(flag),
    # absl puts the values of an enumeration before its help.
    'meaning': re.sub('^<[^>]*>: ', '', flag.help or ''),
  }


def _values(flag: Any) -> str:
  """What a flag takes: names of an enumeration, or a type and its range."""
  if values := getattr(flag.parser, 'enum_values', None):
    return ', '.join(f'`{value}`' for value in values)
  kind = flag.parser.flag_type()
  kind = {'bool': 'true, false', 'int': 'integer', 'float': 'number'}.get(kind, kind)
  kind = 'list, comma-separated' if kind.startswith('comma') else kind
  if flag.flag_type().startswith('multi '):
    kind = f'{kind}, may be repeated'
  lower = getattr(flag.parser, 'lower_bound', None)
  upper = getattr(flag.parser, 'upper_bound', None)
  if lower is not None and upper is not None:
    return f'{kind}, {lower} to {upper}'
  if lower is not None:
    return f'{kind}, at least {lower}'
  return kind if upper is None else f'{kind}, at most {upper}'


def page(command: dict[str, Any]) -> str:
  """Makes the page of one command."""
  first, _, rest = command['docstring'].strip().partition('\n')
  lines = [_GENERATED, '', f'# {command["module"]}', '', first, '', _fenced(rest), '']
  for flag in command['flags']:
    default = f', default `{flag["default"]}`' if flag['default'] else ''
    lines += [f'## `--{flag["name"]}`', '', f'{flag["values"]}{default}', '']
    lines += [_sentence(flag['meaning']), '']
  return '\n'.join(lines)


def _sentence(help_text: str) -> str:
  text = ' '.join(help_text.split()).replace('<', '&lt;')
  return text[:1].upper() + text[1:]


def _fenced(text: str) -> str:
  """Puts the indented parts of a docstring into fences, to keep their form."""
  blocks = []
  for block in text.strip('\n').split('\n\n'):
    if block.startswith('    '):
      body = '\n'.join(line[4:] for line in block.split('\n'))
      blocks.append(f'```text\n{body}\n```')
    else:
      blocks.append(block.replace('<', '&lt;'))
  return '\n\n'.join(blocks)


def index(commands: list[dict[str, Any]]) -> str:
  """Makes the page that lists the commands."""
  lines = [_GENERATED, '', '# Flags', '', 'Every flag of every command.', '']
  lines += ['| command | what it does | flags |', '|---|---|---|']
  for command, (module, name) in zip(commands, COMMANDS, strict=True):
    first = command['docstring'].strip().partition('\n')[0]
    link = f'[`python -m {module}`](commands/{name}.md)'
    lines.append(f'| {link} | {first} | {len(command["flags"])} |')
  lines += [
    '',
    'absl reads the flags. So `--flagfile=FILE` takes flags from a file, `--help` '
    'lists them, and a flag that stands later wins. A command refuses a flag it does '
    'not know.',
  ]
  return '\n'.join(lines) + '\n'


def _print_configurations() -> None:
  """Prints all public configuration classes with settings of their own modules."""
  from ncf_tfdata import config

  found = []
  packages = [ROOT / 'beam_pipelines', ROOT / 'ncf_tfdata']
  for path in sorted(file for folder in packages for file in folder.rglob('*.py')):
    name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    # Others need not be imported.
    if 'setting(' not in path.read_text() or name == config.__name__:
      continue
    module = importlib.import_module(name)
    found += [
      {
        'name': f'{name}.{each.__name__}',
        'docstring': (each.__doc__ or '').strip().partition('\n')[0],
        'rows': [row._asdict() for row in config.describe(each)],
      }
      for each in vars(module).values()
      if inspect.isclass(each)
      and issubclass(each, config.Config)
      and each.__module__ == name
      and not each.__name__.startswith('_')
    ]
  print(json.dumps(found))


def configuration(classes: list[dict[str, Any]]) -> str:
  """Makes the page of the configuration classes."""
  lines = [_GENERATED, '', '# Configuration classes', '']
  lines += [
    'Flags are made from these frozen dataclasses. A setting has the name of its flag '
    'where no other is given.',
    '',
  ]
  for each in classes:
    lines += [f'## `{each["name"]}`', '', each['docstring'], '']
    lines += ['| setting | type | default | meaning |', '|---|---|---|---|']
    for row in each['rows']:
      flag = f' Flag: `--{row["flag"]}`.' if row['flag'] != row['name'] else ''
      limits = f' {_sentence(row["range"])}.' if row['range'] else ''
      meaning = _sentence(row['help']).replace('|', r'\|')
      cells = (f'`{row["name"]}`', row['type'], f'`{row["default"]}`')
      kinds = ' | '.join(cell.replace('|', 'or') for cell in cells)
      lines.append(f'| {kinds} | {meaning}{limits}{flag} |')
    lines.append('')
  return '\n'.join(lines)


def pages() -> dict[pathlib.Path, str]:
  """Makes all pages: their text by path."""
  with futures.ThreadPoolExecutor(2) as pool:
    commands = list(pool.map(describe, [module for module, _ in COMMANDS]))
  made = {INDEX: index(commands)}
  made[CONFIGURATION] = configuration(_in_a_process('--configurations'))
  for command, (_, name) in zip(commands, COMMANDS, strict=True):
    made[PAGES / f'{name}.md'] = page(command)
  return made


def main() -> None:
  """Writes the pages, or checks them."""
  sys.path.insert(0, str(ROOT))
  if sys.argv[1:] == ['--configurations']:
    _print_configurations()
    return
  if sys.argv[1:] and sys.argv[1].startswith('--describe='):
    _print_description(sys.argv[1].partition('=')[2])
    return
  made = pages()
  stale = [
    path for path, text in made.items() if not path.exists() or path.read_text() != text
  ]
  if sys.argv[1:] == ['--check']:
    if stale:
      names = ', '.join(str(path.relative_to(ROOT)) for path in stale)
      sys.exit(f'error: {names} not up to date. Run: make reference')
    return
  PAGES.mkdir(parents=True, exist_ok=True)
  for path in stale:
    path.write_text(made[path])
    print(path.relative_to(ROOT))


if __name__ == '__main__':
  main()
