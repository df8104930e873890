"""StableHLO files: portable artifacts, as `jax.export` serializes them.

`jax.export.deserialize(file).mlir_module_serialized` is what compilers other
than JAX's read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jax.extend import core

from effarch.errors import UserError
from effarch.infrastructure.export.program import Note, flat


def convert(model: nnx.Module, example: jax.ShapeDtypeStruct) -> bytes:
  """Returns a StableHLO file of a model, for any platform.

  Weights that are noted to be quantized are stored in integers, two of four
  bits in a byte. What is computed is rounded as the model does it.

  Args:
    model: in evaluation mode, from a batch to logits.
    example: a batch of one example; the file takes one at a time.

  Raises:
    UserError: the model calls what no platform but its own has.
  """
  call = core.jaxpr_as_fun(flat(model, example, _stored))
  try:
    exported = export.export(
      jax.jit(lambda inputs: call(inputs)[0]),
      platforms=["cpu"],
      # It is lowered for one, and has nothing that is for this one only.
      disabled_checks=[export.DisabledSafetyCheck.platform()],
    )(example)
  except ValueError as error:
    reason = " ".join(str(error).split())[:200]
    raise UserError(f"StableHLO can't hold this model ({reason})") from error
  return bytes(exported.serialize())


def _stored(array: jax.Array, note: Note) -> jax.Array:
  """Returns, traced, what is read from a constant in integers."""
  integers = note.integers(array)
  if note.bits == 8:
    return note.floats(jnp.asarray(integers))
  places = np.arange(0, 8, note.bits, dtype=np.uint8)
  codes = integers.reshape(-1).view(np.uint8) & (2**note.bits - 1)
  codes = np.pad(codes, (0, -len(codes) % len(places)))
  packed = (codes.reshape(-1, len(places)) << places).sum(-1, dtype=np.uint8)
  # To the left and back, so that the sign is kept.
  left = jnp.asarray(packed)[:, None] << (8 - note.bits - places)
  unpacked = left.astype(jnp.int8) >> (8 - note.bits)
  return note.floats(unpacked.reshape(-1)[: array.size].reshape(array.shape))
