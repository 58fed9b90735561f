"""The devices of a training: the strategy that shares a batch out to them."""

import tensorflow as tf

from ncf_tfdata import _compat
from ncf_tfdata.training import workers
from ncf_tfdata.training.config import TrainConfig


def create_strategy(config: TrainConfig) -> tf.distribute.Strategy:
  """The strategy of a configuration on this machine, or that of `TF_CONFIG`'s workers.

  Raises:
    ArgumentError: The batch cannot be shared out evenly, or TensorFlow has started
      with other logical devices.
    UserError: `TF_CONFIG` is none.
  """
  if workers.place().workers > 1:
    return _evenly(_multi_worker(config), config)
  if config.logical_cpus > 1:
    _split_cpu(config)
  if config.strategy == 'default':
    return tf.distribute.get_strategy()
  devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices()
  names = [device.name for device in devices]
  return _evenly(tf.distribute.MirroredStrategy(names), config)


def _split_cpu(config: TrainConfig) -> None:
  (cpu, *_) = tf.config.list_physical_devices('CPU')
  wanted = [tf.config.LogicalDeviceConfiguration()] * config.logical_cpus
  try:
    tf.config.set_logical_device_configuration(cpu, wanted)
  except RuntimeError as error:
    if len(tf.config.list_logical_devices('CPU')) != config.logical_cpus:
      raise config.invalid(
        '`logical_cpus` must be set before TensorFlow has started.', 'logical_cpus'
      ) from error


def _multi_worker(config: TrainConfig) -> tf.distribute.Strategy:
  if config.logical_cpus > 1:
    raise config.invalid(
      'With several workers in TF_CONFIG, each of which is one CPU or all its GPUs, '
      '`logical_cpus` must be 1.',
      'logical_cpus',
    )
  strategy = tf.distribute.MultiWorkerMirroredStrategy()
  _compat.drop_health_check(strategy)
  return strategy


def _evenly(
  strategy: tf.distribute.Strategy, config: TrainConfig
) -> tf.distribute.Strategy:
  """The strategy itself, once it is known to share a batch out evenly."""
  replicas = strategy.num_replicas_in_sync
  if config.batch_size % replicas:
    raise config.invalid(
      f'`batch_size` must be a multiple of the {replicas} replicas.', 'batch_size'
    )
  return strategy
