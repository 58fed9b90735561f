"""What all models share."""

import tensorflow as tf

from ncf_tfdata.models import ranking_model


def test_latest_items_stand_behind_pads():
  past = tf.ragged.constant([[], [1, 2, 3, 4], [5]], tf.int64, row_splits_dtype='int64')
  latest = ranking_model.latest_items(past, length=3, pad=9)
  assert latest.numpy().tolist() == [[9, 9, 9], [2, 3, 4], [9, 9, 5]]
  nothing = tf.ragged.constant([[], []], tf.int64, ragged_rank=1)
  assert ranking_model.latest_items(nothing, 2, 9).numpy().tolist() == [[9, 9], [9, 9]]
