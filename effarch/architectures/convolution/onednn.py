"""Convolutions by oneDNN, which XLA's compiler for CPUs contains.

jaxlib for x86 is built with oneDNN, and its compiler knows the call
`__onednn$convolution`; by itself it takes other routes, 1.5 to 100 times
slower (`benchmarks/depthwise.py`). The call is documented nowhere: `available`
tries it once, and what is missing or wrong is not used. Of oneDNN's ways only
those that it has written for this processor's vectors are taken (`brgconv`,
`jit_dw`), as others are slow, and one of them waits for ever (`gemm`, jaxlib
0.10): so there must be AVX2, groups of one channel or a single group, and
padding that is less than the window. Programs with such calls can't be kept
in JAX's persistent cache: XLA does not write them down, and JAX warns of it.

Axes as in `window`: `B *S C` inputs, `*K C/G F` kernels, `B *O F` outputs.
All arrays here are float32.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from effarch.architectures.convolution.window import Window

# Numbers in a block of columns: about what the caches of a core hold.
_COLUMNS = 2**21
# Zeros beside a row that oneDNN's narrowest block of outputs reaches over.
_MOST_PADDING = 3


@functools.cache
def available() -> bool:
  """Whether this compiler for CPUs knows the calls, and answers rightly."""
  if " avx2 " not in _processor():
    return False
  x = np.arange(96, dtype=np.float32).reshape(1, 4, 4, 6) % 7
  kernel = np.arange(54, dtype=np.float32).reshape(3, 3, 1, 6) % 5
  window = Window((1, 1), ((1, 1), (1, 1)), (1, 1), 6)
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  wanted = sum(
    padded[:, i : i + 4, j : j + 4] * kernel[i, j]
    for i in range(3)
    for j in range(3)
  )
  rows = x.reshape(16, 6)
  try:
    device = jax.local_devices(backend="cpu")[0]
    with jax.default_device(device), jax.ensure_compile_time_eval():
      found = jax.jit(functools.partial(forward, window))(x, kernel)
      products = jax.jit(_transposed_product)(rows, rows)
  except RuntimeError:  # No such call, or no CPU among the platforms.
    return False
  return np.array_equal(found, wanted) and np.array_equal(
    products, rows.T @ rows
  )


def _processor() -> str:
  """Returns what Linux says of the processor; nothing where it is not Linux."""
  path = pathlib.Path("/proc/cpuinfo")
  return path.read_text() if path.exists() else ""


def _call(target: str, shape: Sequence[int], config: dict, *operands):
  call = jax.ffi.ffi_call(
    target,
    jax.ShapeDtypeStruct(tuple(shape), jnp.float32),
    vmap_method="sequential",
    custom_call_api_version=1,
    legacy_backend_config=json.dumps(config),
  )
  return call(*operands)


def forward(window: Window, x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns the convolution."""
  if x.ndim == 3:
    lifted = Window(
      (1, *window.strides),
      ((0, 0), *window.padding),
      (1, *window.dilation),
      window.groups,
    )
    return forward(lifted, x[:, None], kernel[None])[:, 0]
  spatial, taps = x.shape[1:-1], kernel.shape[:-2]
  shape = len(x), *window.out(spatial, taps), kernel.shape[-1]
  if not _takes_padding(window, taps):
    x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
    window = dataclasses.replace(window, padding=((0, 0), (0, 0)))

  def texts(values):
    return [str(value) for value in values]

  data = {
    "data": {"batch_dim": "0", "feature_dim": "3", "spatial_dims": ["1", "2"]}
  }
  config = {
    "dims": "4",
    "feature_groups": str(window.groups),
    "input": data,
    "output": data,
    "kernel": {
      "filter": {
        "input_feature_dim": "2",
        "output_feature_dim": "3",
        "spatial_dims": ["0", "1"],
        "shape": texts(kernel.shape),
      }
    },
    "window": {
      "strides": texts(window.strides),
      "window_dilations": texts(window.dilation),
      "pad_left": texts(left for left, _ in window.padding),
      "pad_right": texts(right for _, right in window.padding),
    },
  }
  return _call(
    "__onednn$convolution", shape, {"onednn_conv_config": config}, x, kernel
  )


def _takes_padding(window: Window, taps: Sequence[int]) -> bool:
  """Whether oneDNN's filters of single channels reckon with this padding.

  These are the conditions of its `jit_uni_dw_conv_kernel_utils`.
  """
  if window.groups == 1:
    return True
  reaches = [
    (k - 1) * d + 1 for k, d in zip(taps, window.dilation, strict=True)
  ]
  less = all(max(p) < r for p, r in zip(window.padding, reaches, strict=True))
  few = max(window.padding[-1]) <= _MOST_PADDING
  wide = taps[-1] > 7 and max(window.strides) > 1
  return less and few and not (wide and any(map(any, window.padding)))


def _transposed_product(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns `a.T @ b`."""
  return _call(
    "__onednn$matmul",
    (a.shape[1], b.shape[1]),
    {"onednn_matmul_config": {"transpose_a": True}},
    *(a, b),
  )


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
  gradient, padding = _cropped(gradient, pads)
  if 0 in gradient.shape:
    return jnp.zeros(shape, gradient.dtype)
  one = Window((1,) * len(start), padding, tuple(dilation), window.groups)
  return forward(one, gradient, kernel[np.ix_(*cut)])


def _cropped(
  x: jax.Array, pads: Sequence[tuple[int, int]]
) -> tuple[jax.Array, tuple[tuple[int, int], ...]]:
  """Returns the input without what negative padding takes off, and the rest."""
  cuts = [
    slice(max(0, -left), max(0, size + min(0, right)))
    for size, (left, right) in zip(x.shape[1:-1], pads, strict=True)
  ]
  padding = tuple((max(0, left), max(0, right)) for left, right in pads)
  return x[(slice(None), *cuts)], padding


def kernel_gradient(
  window: Window, taps: Sequence[int], x: jax.Array, gradient: jax.Array
) -> jax.Array:
  """Returns the gradient of the kernel, whose lengths are `taps`.

  Channel by channel (`C = F = G`), it is itself a convolution, of each image
  with its gradient as the kernel, whose taps are as far apart as the outputs
  were. Of all channels (`G = 1`), blocks of images are laid out as columns, a
  row for each output, and multiplied by the gradients.
  """
  if window.groups > 1:
    return _channelwise(window, taps, x, gradient)
  per_image = math.prod(taps) * x.shape[-1] * math.prod(gradient.shape[1:-1])
  size = max(1, min(len(x), _COLUMNS // per_image))
  blocks, left = divmod(len(x), size)
  features = gradient.shape[-1]

  def block(start, size):
    columns = _columns(
      window, taps, lax.dynamic_slice_in_dim(x, start, size), gradient
    )
    rows = lax.dynamic_slice_in_dim(gradient, start, size)
    return _transposed_product(columns, rows.reshape(-1, features))

  def body(index, total):
    return total + block(index * size, size)

  total = jnp.zeros((math.prod(taps) * x.shape[-1], features), x.dtype)
  total = (
    lax.fori_loop(0, blocks, body, total) if blocks > 1 else block(0, size)
  )
  if left:
    total += block(len(x) - left, left)
  return total.reshape(*taps, x.shape[-1], features)


def _columns(
  window: Window, taps: Sequence[int], x: jax.Array, gradient: jax.Array
) -> jax.Array:
  """Returns what each output sees, `B *O` rows of `*K C` numbers."""
  x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
  seen = []
  for tap in np.ndindex(*taps):
    cuts = []
    for axis, t in enumerate(tap):
      first = t * window.dilation[axis]
      stop = first + (gradient.shape[1 + axis] - 1) * window.strides[axis] + 1
      cuts.append(slice(first, stop, window.strides[axis]))
    seen.append(x[(slice(None), *cuts)])
  columns = jnp.concatenate(seen, axis=-1)
  return columns.reshape(-1, columns.shape[-1])


def _channelwise(
  window: Window, taps: Sequence[int], x: jax.Array, gradient: jax.Array
) -> jax.Array:
  pads = [
    (left, (t - 1) * step + (n - 1) * stride + 1 - size - left)
    for size, t, n, step, stride, (left, _) in zip(
      x.shape[1:-1],
      taps,
      gradient.shape[1:-1],
      window.dilation,
      window.strides,
      window.padding,
      strict=True,
    )
  ]
  x, padding = _cropped(x, pads)
  turned = Window(window.dilation, padding, window.strides, window.groups)

  def body(index, total):
    image = lax.dynamic_slice_in_dim(x, index, 1)
    rows = lax.dynamic_index_in_dim(gradient, index, keepdims=False)
    return total + forward(turned, image, rows[..., None, :])

  total = jnp.zeros((1, *taps, x.shape[-1]), x.dtype)
  total = lax.fori_loop(0, len(x), body, total)
  return total.reshape(*taps, 1, x.shape[-1])
