"""What a technique trains beside a model, which does not know of it.

An attachment is one more attribute of the model, so that its parameters are
trained, checkpointed and spread over devices like any others. The model's class
and paths stay, its calls don't touch it, and `finish` takes it off.
"""

from __future__ import annotations

from flax import nnx

from effarch.infrastructure.training import Technique


class Attachment(nnx.Module):
  """Holds parts for a technique.

  Args:
    owner: who made them.
    parts: modules.
  """

  def __init__(self, owner: Technique, parts: list[nnx.Module]):
    self.owner = owner
    self.parts = nnx.List(parts)


def attach(
  model: nnx.Module, owner: Technique, parts: list[nnx.Module]
) -> nnx.Module:
  """Returns the model, with parts for a technique."""
  taken = sum(isinstance(each, Attachment) for each in vars(model).values())
  setattr(model, f"attachment_{taken}", Attachment(owner, parts))
  return model


def attached(
  model: nnx.Module, owner: Technique
) -> tuple[nnx.Module, nnx.List[nnx.Module]]:
  """Returns what a technique was given as a model, and its parts there.

  Other techniques may have wrapped that model since.
  """
  host, name = _place(model, owner)
  return host, getattr(host, name).parts


def detach(model: nnx.Module, owner: Technique) -> nnx.Module:
  """Returns the model without a technique's parts."""
  delattr(*_place(model, owner))
  return model


def _place(model, owner) -> tuple[nnx.Module, str]:
  return next(
    (module, name)
    for _, module in nnx.iter_modules(model)
    for name, value in vars(module).items()
    if isinstance(value, Attachment) and value.owner == owner
  )
