"""Starts what stands in for object stores: moto, and gcp-storage-emulator."""

import contextlib
import hashlib
import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import fsspec
import pytest

BUCKET = 'bucket'
_START_SECONDS = 60


class Store(NamedTuple):
  """A store with one empty bucket.

  Attributes:
    root: `s3://bucket`, or `gs://bucket`.
    flags: By which Beam finds it; all else does by variables that are set.
    environment: What Beam needs beside.
  """

  root: str
  flags: tuple[str, ...]
  environment: dict[str, str]

  def files(self, folder: str = '') -> dict[str, str]:
    """Names of all objects under a folder, below it, with their sha256."""
    system, path = fsspec.core.url_to_fs(f'{self.root}/{folder}'.rstrip('/'))
    system.invalidate_cache()
    return {
      name.removeprefix(f'{path}/'): hashlib.sha256(system.cat_file(name)).hexdigest()
      for name in system.find(path)
    }

  def put(self, name: str, content: bytes) -> str:
    """Makes an object; returns its path."""
    system, path = fsspec.core.url_to_fs(f'{self.root}/{name}')
    system.pipe_file(path, content)
    return f'{self.root}/{name}'


@contextlib.contextmanager
def s3() -> Iterator[Store]:
  """Moto's server; skips the test where a part is missing."""
  for module in ('boto3', 's3fs', 'flask', 'flask_cors'):
    pytest.importorskip(module, reason='no fake of S3: extra `test`')
  server_module = pytest.importorskip('moto.server', reason='no moto: extra `test`')
  import boto3

  server = server_module.ThreadedMotoServer('127.0.0.1', 0, verbose=False)
  server.start()
  try:
    host, port = server.get_host_and_port()
    endpoint = f'http://{host}:{port}'
    environment = {
      'AWS_ENDPOINT_URL': endpoint,
      'AWS_ACCESS_KEY_ID': 'key',
      'AWS_SECRET_ACCESS_KEY': 'secret',
      'AWS_DEFAULT_REGION': 'us-east-1',
    }
    with _set(environment):
      boto3.client('s3').create_bucket(Bucket=BUCKET)
      flags = (
        f'--s3_endpoint_url={endpoint}',
        '--s3_access_key_id=key',
        '--s3_secret_access_key=secret',
        '--s3_region_name=us-east-1',
      )
      yield Store(f's3://{BUCKET}', flags, {})
  finally:
    server.stop()


@contextlib.contextmanager
def gcs() -> Iterator[Store]:
  """An emulator of Cloud Storage; skips the test where a part is missing."""
  # Read when gcsfs is imported; otherwise it asks of each bucket in a minute's retries.
  os.environ['GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT'] = 'false'
  for module in ('gcsfs', 'google.cloud.storage'):
    pytest.importorskip(module, reason='no Google Cloud: extra `gcp`')
  emulator = pytest.importorskip(
    'gcp_storage_emulator.server', reason='no gcp-storage-emulator'
  )
  port = _free_port()
  server = emulator.create_server(
    '127.0.0.1', port, in_memory=True, default_bucket=BUCKET
  )
  server.start()
  metadata = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Metadata)
  threading.Thread(target=metadata.serve_forever, daemon=True).start()
  host = f'127.0.0.1:{metadata.server_port}'
  try:
    with _set({'STORAGE_EMULATOR_HOST': f'http://127.0.0.1:{port}'}):
      fsspec.filesystem('gs')  # Without credentials, and kept; they are for Beam,
      # which otherwise looks for some for half a minute.
      credentials = dict.fromkeys(('GCE_METADATA_HOST', 'GCE_METADATA_IP'), host)
      yield Store(f'gs://{BUCKET}', (), credentials)
  finally:
    metadata.shutdown()
    server.stop()


class _Metadata(http.server.BaseHTTPRequestHandler):
  """Says of every service account that a machine of Google's has: come in."""

  def do_GET(self):
    content = {
      'access_token': 'token',
      'expires_in': 3600,
      'token_type': 'Bearer',
      'email': 'someone',
      'scopes': [],
      'aliases': [],
    }
    body = b'project' if 'project-id' in self.path else json.dumps(content).encode()
    self.send_response(404 if 'universe' in self.path else 200)
    self.send_header('Metadata-Flavor', 'Google')
    self.send_header('Content-Type', 'application/json')
    self.end_headers()
    self.wfile.write(body)

  def log_message(self, *_):
    pass


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return free.getsockname()[1]


@contextlib.contextmanager
def _set(environment: dict[str, str]) -> Iterator[None]:
  with pytest.MonkeyPatch.context() as patch:
    for name, value in environment.items():
      patch.setenv(name, value)
    fsspec.AbstractFileSystem.clear_instance_cache()
    yield
