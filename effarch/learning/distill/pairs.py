"""Which layers of a student learn from which of a teacher's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flax import nnx

from effarch.errors import UserError
from effarch.learning.watch import find


def pairs(
  student: nnx.Module,
  teacher: nnx.Module,
  layers: Iterable[Sequence[str]],
) -> list[tuple[str, str]]:
  """Returns paths of single modules, in pairs.

  Two lists of modules are paired as TinyBERT pairs layers (arXiv:1909.10351):
  the student's `m`th of `M` with the teacher's `m N / M`th of `N`, rounded
  down, so that the last meets the last.

  Raises:
    UserError: a path is that of no module.
  """
  found = []
  for ours, theirs in layers:
    own, others = _items(student, ours), _items(teacher, theirs)
    for place, path in enumerate(own, 1):
      match = max(1, place * len(others) // len(own))
      found.append((path, others[match - 1]))
  return found


def _items(model: nnx.Module, path: str) -> list[str]:
  module = find(model, path)
  if not isinstance(module, nnx.List):
    return [path]
  items = enumerate(module)
  found = [f"{path}.{n}" for n, item in items if isinstance(item, nnx.Module)]
  if not found:
    raise UserError(f"config.techniques.layers: {path!r} holds no modules")
  return found
