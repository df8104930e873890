"""RandAugment over a batch beside a loop over images, and beside its step.

  python -m benchmarks.augment [--json=FILE]

Two operations of magnitude 9 on 128 images of 32 x 32 x 3. First, images a
second: effarch's compiled batch on the default device; a loop over images in
NumPy, and one in PIL, on one core, as loaders have them. They do the same
operations at the same strengths, drawn beforehand for the loops. Then the
survey CNN's training step, the loop's own program, with RandAugment and without
it. All are timed in turns within one process.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shlex
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from PIL import Image, ImageEnhance, ImageOps
from rich.console import Console
from rich.table import Table

from effarch.architectures.models import MODELS
from effarch.infrastructure.data import decode
from effarch.infrastructure.training import (
  Loop,
  classification_loss,
  first_state,
  make_steps,
  provenance,
)
from effarch.infrastructure.training.mesh import data_mesh, replicated
from effarch.learning.augment import RandAugment
from effarch.learning.augment.policies import rand_augment

_BATCH, _ROUNDS, _WIDTHS = 128, 31, (0.05, 1.0)
_MAGNITUDE, _LAYERS, _GREY = 9, 2, 128
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# What is done, and what waits for it.
Contender = tuple[Callable[[], None], Callable[[], None]]


def numpy_affine(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """The nearest pixels of an image `H W C`; grey around it."""
  height, width, _ = image.shape
  y, x = np.mgrid[:height, :width] + 0.5
  row = np.floor(matrix[0, 0] * y + matrix[0, 1] * x + matrix[0, 2])
  column = np.floor(matrix[1, 0] * y + matrix[1, 1] * x + matrix[1, 2])
  inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
  found = np.full_like(image, _GREY)
  found[inside] = image[row[inside].astype(int), column[inside].astype(int)]
  return found


def numpy_blend(image: np.ndarray, other: np.ndarray, s: float) -> np.ndarray:
  mixed = other + np.float32(1 + 0.9 * s) * (image - other)
  return np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def numpy_rotate(image: np.ndarray, s: float) -> np.ndarray:
  cosine, sine = np.cos(np.deg2rad(30 * s)), np.sin(np.deg2rad(30 * s))
  linear = np.array([[cosine, sine], [-sine, cosine]])
  middle = np.array(image.shape[:2]) / 2
  offset = middle - linear @ middle
  return numpy_affine(image, np.concatenate([linear, offset[:, None]], 1))


def numpy_smooth(image: np.ndarray) -> np.ndarray:
  height, width, _ = image.shape
  smooth = image.astype(np.float32)
  total = sum(
    smooth[i : height - 2 + i, j : width - 2 + j]
    for i in range(3)
    for j in range(3)
  )
  smooth[1:-1, 1:-1] = (total + 4 * smooth[1:-1, 1:-1]) / 13
  return smooth


def numpy_autocontrast(image: np.ndarray, s: float) -> np.ndarray:
  low = image.min((0, 1)).astype(np.float32)
  width = np.maximum(image.max((0, 1)) - low, 1)
  return np.clip((image - low) * (255 / width) + 0.5, 0, 255).astype(np.uint8)


def numpy_equalize(image: np.ndarray, s: float) -> np.ndarray:
  found = image.copy()
  for channel in range(image.shape[-1]):
    counts = np.bincount(image[..., channel].ravel(), minlength=256)
    step = (counts.sum() - counts[counts > 0][-1]) // 255
    if step:
      table = (np.cumsum(counts) - counts + step // 2) // step
      found[..., channel] = np.minimum(table, 255)[image[..., channel]]
  return found


def matrix(yx=0.0, xy=0.0, y=0.0, x=0.0):
  return np.array([[1, yx, y], [xy, 1, x]])


NUMPY = {
  "identity": lambda x, s: x,
  "shear_x": lambda x, s: numpy_affine(x, matrix(xy=0.3 * s)),
  "shear_y": lambda x, s: numpy_affine(x, matrix(yx=0.3 * s)),
  "translate_x": lambda x, s: numpy_affine(x, matrix(x=round(10 * s))),
  "translate_y": lambda x, s: numpy_affine(x, matrix(y=round(10 * s))),
  "rotate": numpy_rotate,
  "brightness": lambda x, s: numpy_blend(x, np.float32(0), s),
  "contrast": lambda x, s: numpy_blend(x, (x @ _LUMA).mean(), s),
  "saturation": lambda x, s: numpy_blend(x, (x @ _LUMA)[..., None], s),
  "sharpness": lambda x, s: numpy_blend(x, numpy_smooth(x), s),
  "solarize": lambda x, s: np.where(x >= 256 * (1 - abs(s)), 255 - x, x),
  "posterize": lambda x, s: x & np.uint8(256 - 2 ** round(4 * abs(s))),
  "autocontrast": numpy_autocontrast,
  "equalize": numpy_equalize,
}


def pil_affine(image, *numbers):
  return image.transform(
    image.size, Image.Transform.AFFINE, numbers, fillcolor=(_GREY,) * 3
  )


PIL = {
  "identity": lambda x, s: x,
  "shear_x": lambda x, s: pil_affine(x, 1, 0.3 * s, 0, 0, 1, 0),
  "shear_y": lambda x, s: pil_affine(x, 1, 0, 0, 0.3 * s, 1, 0),
  "translate_x": lambda x, s: pil_affine(x, 1, 0, round(10 * s), 0, 1, 0),
  "translate_y": lambda x, s: pil_affine(x, 1, 0, 0, 0, 1, round(10 * s)),
  "rotate": lambda x, s: x.rotate(30 * s, fillcolor=(_GREY,) * 3),
  "brightness": lambda x, s: ImageEnhance.Brightness(x).enhance(1 + 0.9 * s),
  "contrast": lambda x, s: ImageEnhance.Contrast(x).enhance(1 + 0.9 * s),
  "saturation": lambda x, s: ImageEnhance.Color(x).enhance(1 + 0.9 * s),
  "sharpness": lambda x, s: ImageEnhance.Sharpness(x).enhance(1 + 0.9 * s),
  "solarize": lambda x, s: ImageOps.solarize(x, 256 * (1 - abs(s))),
  "posterize": lambda x, s: ImageOps.posterize(x, 8 - round(4 * abs(s))),
  "autocontrast": lambda x, s: ImageOps.autocontrast(x),
  "equalize": lambda x, s: ImageOps.equalize(x),
}


def loops(images: np.ndarray) -> dict[str, Contender]:
  """Loops over images from and to what models see."""
  generator = np.random.default_rng(1)
  names = generator.choice(list(NUMPY), (len(images), _LAYERS))
  signs = generator.choice([-1.0, 1.0], names.shape) * _MAGNITUDE / 30
  wait = lambda: None  # noqa: E731

  def in_numpy():
    for image, row, strengths in zip(images, names, signs, strict=True):
      for name, strength in zip(row, strengths, strict=True):
        image = NUMPY[name](image, strength)
      image.astype(np.float32) / 127.5 - 1

  def in_pil():
    for image, row, strengths in zip(images, names, signs, strict=True):
      image = Image.fromarray(image)
      for name, strength in zip(row, strengths, strict=True):
        image = PIL[name](image, strength)
      np.asarray(image, np.float32) / 127.5 - 1

  return {"NumPy, by image": (in_numpy, wait), "PIL, by image": (in_pil, wait)}


def batched(images: np.ndarray) -> Contender:
  seen, key, result = decode(images), jax.random.key(0), None
  augment = jax.jit(
    lambda x, step: rand_augment(x, jax.random.fold_in(key, step))
  )
  step = 0

  def call():
    nonlocal result, step
    step += 1
    result = augment(seen, step)

  return call, lambda: jax.block_until_ready(result)


def steps(techniques, width: float, images: np.ndarray) -> Contender:
  """The loop's own program."""
  number = Loop(epochs=1, batch_size=_BATCH).dispatched
  model = MODELS["survey_cnn"](
    (32, 32, 3), 10, width_multiplier=width, rngs=nnx.Rngs(0)
  )
  model.train()
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  tx = optax.adamw(1e-3, weight_decay=1e-4)
  mesh = data_mesh()
  state = jax.device_put(first_state(params, rest, tx), replicated(mesh))
  labels = np.arange(_BATCH, dtype=np.int32) % 10
  arrays = jax.device_put((images, labels, {}), replicated(mesh))
  indices = jnp.tile(jnp.arange(_BATCH, dtype=jnp.int32), (number, 1))
  key = jax.random.key(0)
  take = make_steps(
    graphdef, tx, techniques, classification_loss, 10, mesh, total_steps=1
  )

  def call():
    nonlocal state
    state, _ = take(state, arrays, indices, key)

  return call, lambda: jax.block_until_ready(state)


def seconds(contenders: dict[str, Contender]) -> dict[str, list[float]]:
  """Returns each contender's times, one for each round."""
  times = {name: [] for name in contenders}
  names = list(contenders)
  for round_number in range(_ROUNDS + 1):
    names.append(names.pop(0))  # Each goes first in its turn.
    for name in names:
      call, wait = contenders[name]
      start = time.perf_counter()
      call()
      wait()
      if round_number:  # The first round compiles and warms up.
        times[name].append(time.perf_counter() - start)
  return times


def quartiles(values: np.ndarray) -> list[float]:
  return [float(q) for q in np.percentile(values, (25, 50, 75))]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path)
  options = parser.parse_args()
  generator = np.random.default_rng(0)
  images = generator.integers(0, 256, (_BATCH, 32, 32, 3)).astype(np.uint8)
  words = ["python", "-m", "benchmarks.augment", *sys.argv[1:]]
  record = provenance(shlex.join(words))
  console = Console(width=100)

  times = seconds({"effarch": batched(images), **loops(images)})
  table = Table(title=f"RandAugment, {record['device']}")
  for title in ("", "images/s", "effarch is", "quartiles"):
    table.add_column(title, justify="right")
  rates = []
  for name, values in times.items():
    # Of turns side by side, so that a machine's drift meets both alike.
    low, ratio, high = quartiles(np.divide(values, times["effarch"]))
    rate = _BATCH / statistics.median(values)
    rates.append(
      {
        "form": name,
        "images_per_second": rate,
        "effarch_ratio": ratio,
        "effarch_ratio_quartiles": [low, high],
      }
    )
    cells = (f"{rate:,.0f}", f"{ratio:.1f}x", f"{low:.1f} to {high:.1f}x")
    table.add_row(name, *cells)
  console.print(table)

  table = Table(title=f"survey CNN, batch {_BATCH}, {record['device']}")
  for title in ("width", "ms a step", "with", "share", "quartiles"):
    table.add_column(title, justify="right")
  shares = []
  number = Loop(epochs=1, batch_size=_BATCH).dispatched
  for width in _WIDTHS:
    times = seconds(
      {
        "plain": steps((), width, images),
        "with": steps((RandAugment(),), width, images),
      }
    )
    low, share, high = quartiles(1 - np.divide(times["plain"], times["with"]))
    plain, augmented = (
      1e3 * statistics.median(times[name]) / number
      for name in ("plain", "with")
    )
    shares.append(
      {
        "width": width,
        "step_ms": plain,
        "augmented_step_ms": augmented,
        "share": share,
        "share_quartiles": [low, high],
      }
    )
    cells = (f"{plain:.3f}", f"{augmented:.3f}", f"{share:.1%}")
    table.add_row(str(width), *cells, f"{low:.1%} to {high:.1%}")
  console.print(table)
  if options.json:
    content = {"provenance": record, "rates": rates, "shares": shares}
    options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
  main()
