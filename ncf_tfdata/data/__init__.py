"""Readers of the dataset directory: tf.data streams and numpy blocks."""
