"""What a convolution's window is, and what it makes of lengths.

Axes: `B` batch, `*S` one or two spatial axes, `C` input and `F` output
channels, `*K` the kernel's spatial axes, `G` groups of channels.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence

from jax import lax

Sizes = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Window:
  """A window's steps and margins, all for one or two spatial axes.

  Args:
    strides: steps from one output to the next.
    padding: zeros before and behind.
    dilation: steps from one tap of the kernel to the next.
    groups: `G`; each sees `C / G` channels and makes `F / G`.
  """

  strides: tuple[int, ...]
  padding: tuple[tuple[int, int], ...]
  dilation: tuple[int, ...]
  groups: int = 1

  @classmethod
  def of_one_tap(cls, axes: int) -> Window:
    """Returns the window that takes every place by itself."""
    return cls((1,) * axes, ((0, 0),) * axes, (1,) * axes)

  def out(self, spatial: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Returns the output's lengths."""
    return [
      max(0, (size + sum(pads) - (taps - 1) * dilation - 1) // stride + 1)
      for size, taps, stride, pads, dilation in zip(
        spatial,
        kernel,
        self.strides,
        self.padding,
        self.dilation,
        strict=True,
      )
    ]


def sizes(name: str, value: Sizes, axes: int) -> tuple[int, ...]:
  """Returns one positive size for each axis, from those or from one for all.

  Raises:
    ValueError: it is neither.
  """
  found = (value,) * axes if isinstance(value, int) else tuple(value)
  if len(found) != axes or min(found) < 1:
    raise ValueError(f"{name}: {value!r} is not {axes} positive sizes")
  return tuple(map(operator.index, found))


def window(
  spatial: Sequence[int],
  kernel_size: Sequence[int],
  *,
  strides: Sizes = 1,
  padding: Padding = "SAME",
  dilation: Sizes = 1,
  groups: int = 1,
) -> Window:
  """Returns the window for inputs of these lengths.

  Args:
    spatial: `*S`.
    kernel_size: `*K`.
    strides: one for all axes, or one each.
    padding: `"SAME"`, `"VALID"`, `"CAUSAL"` (one axis; nothing later is
      seen), or zeros: as many on all sides, as many for each axis, or pairs.
    dilation: one for all axes, or one each.
    groups: `G`.

  Raises:
    ValueError: a size is not positive, or the padding is none of these.
  """
  axes = len(spatial)
  strides, dilation = (
    sizes("strides", strides, axes),
    sizes("dilation", dilation, axes),
  )
  reach = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)]
  if isinstance(padding, str):
    if padding == "CAUSAL" and axes == 1:
      pads = [(reach[0] - 1, 0)]
    elif padding in ("SAME", "VALID"):
      pads = lax.padtype_to_pads(spatial, reach, strides, padding)
    else:
      raise ValueError(
        f"padding: {padding!r} is none of SAME, VALID and, for one axis, CAUSAL"
      )
  else:
    given = (padding,) * axes if isinstance(padding, int) else tuple(padding)
    pads = [(p, p) if isinstance(p, int) else tuple(p) for p in given]
    if len(pads) != axes or any(len(p) != 2 or min(p) < 0 for p in pads):
      raise ValueError(f"padding: {padding!r} is not zeros for {axes} axes")
  return Window(
    strides, tuple((int(a), int(b)) for a, b in pads), dilation, groups
  )
