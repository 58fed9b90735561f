"""Packaging. Beam workers install this without extras, and so without TensorFlow."""

import pathlib
import runpy

import setuptools

_ROOT = pathlib.Path(__file__).parent
_PACKAGE = _ROOT / 'ncf_tfdata'
# Neither file imports more than the standard library.
_VERSION = runpy.run_path(str(_PACKAGE / '_version.py'))['__version__']
_COMMANDS = runpy.run_path(str(_PACKAGE / 'console.py'))['MODULES']

setuptools.setup(
  name='ncf-tfdata',
  version=_VERSION,
  description=(
    'Neural collaborative filtering for TensorFlow: an Apache Beam job makes '
    'TFRecords of a ratings log of any size, and a tf.data trainer and an honest '
    'evaluator make recommendations of them.'
  ),
  long_description=(_ROOT / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  # CONTRIBUTING.md says what was run on each.
  python_requires='>=3.11,<3.14',
  classifiers=[
    f'Programming Language :: Python :: {version}'
    for version in ('3.11', '3.12', '3.13')
  ],
  packages=setuptools.find_packages(include=['beam_pipelines*', 'ncf_tfdata*']),
  package_data={'': ['*.html', 'py.typed']},
  entry_points={
    'console_scripts': [f'ncf-{name}=ncf_tfdata.console:{name}' for name in _COMMANDS],
  },
  install_requires=[
    'absl-py>=2.1',
    'apache-beam>=2.77,<2.78',
    'fsspec>=2024.6',
    # Beam computes the checksums of TFRecords with it, and so do we.
    'google-crc32c>=1.5',
    'numpy>=1.26,<2.5',
    'pyarrow>=16,<26',
    'tqdm>=4.66',
  ],
  extras_require={
    # To train, evaluate and recommend.
    'train': [
      # `ncf_tfdata/_compat.py` knows its inner parts.
      'keras>=3.12,<3.16',
      'matplotlib>=3.8',
      # Tells how much memory is free, before a baseline takes it.
      'psutil>=5.9',
      'scipy>=1.13',
      # Keras's TensorBoard callback needs it, and TensorFlow no longer brings it.
      'tensorboard>=2.20',
      'tensorflow>=2.21,<2.22',
    ],
    # To download known datasets by their TFDS names, and to read our own.
    'tfds': [
      # TFDS 4.9.10 imports it on Python 3.11 without naming it.
      'importlib_resources',
      'tensorflow-datasets>=4.9.9,<5',
    ],
    # For two more baselines, ALS and BPR.
    'implicit': ['implicit>=0.7.2'],
    # For `ncf_tfdata.tune`.
    'tune': ['optuna>=5.0,<6'],
    # For --runner=DaskRunner.
    'dask': ['dask>=2024.4.2,<2026.9', 'distributed>=2024.4.2,<2026.9'],
    # For --runner=DataflowRunner and gs:// paths, and for s3:// paths.
    'gcp': [
      'apache-beam[gcp]>=2.77,<2.78',
      # Both for --setup_file.
      'build>=1.2',
      'setuptools>=68',
      'gcsfs>=2024.6',
    ],
    'aws': ['apache-beam[aws]>=2.77,<2.78', 's3fs>=2024.6'],
    # For benchmarks/preparation_peer.py.
    'bench': ['polars>=1.20,<3'],
    # For `make docs`. Zensical is young: a new minor may change its configuration.
    'docs': ['mkdocstrings[python]>=1.0,<2', 'zensical>=0.0.73,<0.1'],
    'test': [
      # With moto, which stands in for S3; its `server` extra brings far more.
      'apache-beam[aws]>=2.77,<2.78',
      'flask>=3',
      'flask-cors>=5',
      'hypothesis>=6.100',
      'moto[s3]>=5,<6',
      # Drives a browser that is there already; it brings none.
      'playwright>=1.50,<2',
      'pytest>=8',
      'pytest-cov>=7',
      'pytest-xdist>=3.6',
      's3fs>=2024.6',
      'scikit-learn>=1.4',
      # Builds the wheel that a test installs.
      'setuptools>=68',
      # The published protos of TensorFlow Serving; no server.
      'tensorflow-serving-api>=2.18,<3',
      'wheel>=0.43',
    ],
    'lint': ['mypy>=1.11', 'pre-commit>=4', 'ruff>=0.6'],
  },
)
