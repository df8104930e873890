"""Convolutions by oneDNN, whose calls are in `onednn_calls`.

Axes as in `window`: `B *S C` inputs, `*K C/G F` kernels, `B *O F` outputs.
All arrays here are float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from effarch.architectures.convolution.columns import kernel_gradient
from effarch.architectures.convolution.onednn_calls import (
  available,
  cropped,
  forward,
)
from effarch.architectures.convolution.window import Window

__all__ = ["available", "forward", "input_gradient", "kernel_gradient"]


def input_gradient(
  window: Window,
  spatial: Sequence[int],
  gradient: jax.Array,
  kernel: jax.Array,
) -> jax.Array:
  """Returns the gradient of the input, whose lengths are `spatial`.

  Inputs as far from their outputs as each other meet the same taps. With
  strides there are several such phases: each is a convolution of the gradient,
  and they are woven into one another.
  """
  *taps, per_group, features = kernel.shape
  axes, groups = len(spatial), window.groups
  shape = *taps, per_group, groups, features // groups
  kernel = kernel.reshape(shape).swapaxes(axes, axes + 2)
  kernel = kernel.reshape(*taps, features // groups, groups * per_group)
  phases = [
    _phase(window, start, spatial, gradient, kernel)
    for start in np.ndindex(*window.strides)
  ]
  if len(phases) == 1:
    return phases[0]
  lengths = phases[0].shape[1:-1]  # The first are the longest.
  phases = [
    jnp.pad(
      phase,
      (
        (0, 0),
        *((0, n - m) for n, m in zip(lengths, phase.shape[1:-1], strict=True)),
        (0, 0),
      ),
    )
    for phase in phases
  ]
  # `*s B *n C` to `B n0 s0 n1 s1 C`.
  woven = jnp.stack(phases).reshape(*window.strides, *phases[0].shape)
  order = [axes]
  for axis in range(axes):
    order += [axes + 1 + axis, axis]
  woven = woven.transpose(*order, 2 * axes + 1)
  steps = zip(lengths, window.strides, strict=True)
  woven = woven.reshape(len(gradient), *(n * s for n, s in steps), -1)
  return woven[(slice(None), *(slice(n) for n in spatial))]


def _phase(
  window: Window,
  start: tuple[int, ...],
  spatial: Sequence[int],
  gradient: jax.Array,
  kernel: jax.Array,
) -> jax.Array:
  """Returns the gradients of inputs `start`, `start + stride`, ..."""
  cut, pads, dilation, lengths = [], [], [], []
  for axis, first in enumerate(start):
    stride, step = window.strides[axis], window.dilation[axis]
    place = first + window.padding[axis][0]
    # Input `stride n + first` meets tap `t` in output `n + (place - step t) /
    # stride`, if that is whole.
    met = [
      t for t in range(kernel.shape[axis]) if (step * t - place) % stride == 0
    ]
    length = len(range(first, spatial[axis], stride))
    lengths.append(length)
    if not met:
      continue
    apart = (met[1] - met[0]) * step // stride if len(met) > 1 else 1
    before = (step * met[-1] - place) // stride
    behind = length - gradient.shape[1 + axis] - before + (len(met) - 1) * apart
    cut.append(np.asarray(met[::-1]))
    pads.append((before, behind))
    dilation.append(apart)
  shape = len(gradient), *lengths, kernel.shape[-1]
  if len(cut) < len(start) or 0 in shape:
    return jnp.zeros(shape, gradient.dtype)
  gradient, padding = cropped(gradient, pads)
  if 0 in gradient.shape:
    return jnp.zeros(shape, gradient.dtype)
  one = Window((1,) * len(start), padding, tuple(dilation), window.groups)
  return forward(one, gradient, kernel[np.ix_(*cut)])
