"""A NeuMF that starts from a GMF and an MLP trained alone (He et al., Neural
collaborative filtering, WWW 2017, section 3.4.1)."""

from typing import cast

import numpy as np

from ncf_tfdata.errors import UserError
from ncf_tfdata.models.neumf import NeuMF
from ncf_tfdata.models.ranking_model import Model


def fuse(model: NeuMF, gmf: Model, mlp: Model, alpha: float) -> None:
  """Gives `model` weights whose logit is alpha · GMF's + (1 - alpha) · MLP's.

  Args:
    model: What is to be trained on.
    gmf: A `NeuMF` without an MLP, of the model's shapes otherwise.
    mlp: A `NeuMF` without a GMF.
    alpha: In [0, 1].

  Raises:
    UserError: The halves are not what the model is made of.
  """
  first = _half(model, gmf, 'mlp_dim', ('gmf_dim', 'gmf_weights', 'item_bias'))
  second = _half(model, mlp, 'gmf_dim', ('mlp_dim', 'mlp_layers', 'item_bias'))

  def joined(name: str, scale: float = 1.0) -> np.ndarray:
    parts = scale * getattr(first, name).numpy(), getattr(second, name).numpy()
    return np.concatenate(parts, axis=1)

  def mixed(name: str) -> np.ndarray:
    parts = getattr(first, name).numpy(), getattr(second, name).numpy()
    return alpha * parts[0] + (1 - alpha) * parts[1]

  model.item_table.assign(joined('item_table'))
  if model.gmf_head is None or first.gmf_head is None:
    # A product without weights of its own has no other scale than its vectors'.
    model.user_table.assign(joined('user_table', alpha))
  else:
    model.user_table.assign(joined('user_table'))
    model.gmf_head.assign(alpha * first.gmf_head.numpy())
  if model.item_bias is not None:
    model.item_bias.assign(mixed('item_bias'))
  model.head_bias.assign(mixed('head_bias'))
  model.mlp_head.assign((1 - alpha) * second.mlp_head.numpy())
  model.first_kernel.assign(second.first_kernel.numpy())
  model.first_bias.assign(second.first_bias.numpy())
  for layer, trained in zip(model.tower, second.tower, strict=True):
    layer.set_weights(trained.get_weights())


def _half(model: NeuMF, half: Model, absent: str, same: tuple[str, ...]) -> NeuMF:
  """The half itself, once it is known to be one and shaped as the model's."""
  wanted, found = model.get_config(), half.get_config()
  # Neither another kind of model nor one with transitions has such an option.
  if found.get(absent) != 0:
    raise UserError(
      f'Received a pretrained {half.name}, which is not what {absent} 0 makes; '
      'expected a run of --model=gmf and one of --model=mlp.'
    )
  for name in same:
    if found[name] != wanted[name]:
      raise UserError(
        f'Received a pretrained {half.name} with --{name}={found[name]}; expected '
        f"{wanted[name]}. Train it again with this run's flags."
      )
  return cast(NeuMF, half)
