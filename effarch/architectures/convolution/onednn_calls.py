"""Calls of oneDNN, which XLA's compiler for CPUs contains.

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
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from effarch.architectures.convolution.window import Window

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
      products = jax.jit(transposed_product)(rows, rows)
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


def transposed_product(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns `a.T @ b`."""
  return _call(
    "__onednn$matmul",
    (a.shape[1], b.shape[1]),
    {"onednn_matmul_config": {"transpose_a": True}},
    *(a, b),
  )


def cropped(
  x: jax.Array, pads: Sequence[tuple[int, int]]
) -> tuple[jax.Array, tuple[tuple[int, int], ...]]:
  """Returns the input without what negative padding takes off, and the rest."""
  cuts = [
    slice(max(0, -left), max(0, size + min(0, right)))
    for size, (left, right) in zip(x.shape[1:-1], pads, strict=True)
  ]
  padding = tuple((max(0, left), max(0, right)) for left, right in pads)
  return x[(slice(None), *cuts)], padding
