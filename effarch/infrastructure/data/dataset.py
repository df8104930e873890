"""What a data source gives: arrays in memory, and how models see them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num
from sklearn.model_selection import train_test_split

from effarch.errors import UserError

# Fills what is shorter than its array; no other token has this number.
PADDING = 0
# The label of a place that nothing is asked of.
UNASKED = -1


class Source:
  """Where examples come from; sources are frozen dataclasses.

  Attributes:
    input_shape: of one example; the last axis of tokens is their sequence.
    class_names: one for each class; of language models, one for each token.
    vocab_size: how many tokens there are, with the padding that is token 0;
      0 where inputs are pixels or floats.
    label_shape: of one example's labels: `()` for one class, `(T,)` for a
      class for each token.
  """

  input_shape: Any
  class_names: Any
  vocab_size: Any = 0
  label_shape: Any = ()

  def load(self, split: str) -> Dataset:
    """Returns the part `"train"`, `"validation"` or `"test"`.

    Raises:
      UserError: the data is absent or damaged.
    """
    raise NotImplementedError

  def example(self, batch_size: int = 1) -> jax.ShapeDtypeStruct:
    """Returns shape and type of what a model is called with."""
    dtype = jnp.int32 if self.vocab_size else jnp.float32
    return jax.ShapeDtypeStruct((batch_size, *self.input_shape), dtype)


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Examples with their labels.

  Args:
    inputs: `N ...`; pixels are uint8, tokens int16 or int32 with `PADDING`
      at the end, all else is float.
    labels: `N`, int32, the class's place in `class_names`; or `N T`, such for
      each token, and `UNASKED` where there is none.
    class_names: one for each class.
  """

  inputs: np.ndarray
  labels: np.ndarray
  class_names: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.labels)

  @property
  def num_classes(self) -> int:
    """How many classes there are, seen here or not."""
    return len(self.class_names)

  def subset(self, indices: np.ndarray) -> Dataset:
    """Returns the examples at `indices`."""
    return dataclasses.replace(
      self, inputs=self.inputs[indices], labels=self.labels[indices]
    )


def decode(
  inputs: Num[Array, " ..."] | Num[np.ndarray, " ..."],
) -> Num[Array, " ..."]:
  """Returns what models see: uint8 pixels in [-1, 1], tokens as int32."""
  if inputs.dtype == jnp.uint8:
    return jnp.asarray(inputs, jnp.float32) / 127.5 - 1.0
  if jnp.issubdtype(inputs.dtype, jnp.integer):
    return jnp.asarray(inputs, jnp.int32)
  return jnp.asarray(inputs)


def hold_out(
  dataset: Dataset, fraction: float, seed: int, source: str = "config.data"
) -> tuple[Dataset, Dataset]:
  """Splits at random, every class in proportion.

  Args:
    dataset: to be split.
    fraction: in (0, 1); the second part's share.
    seed: the same seed gives the same split.
    source: where the examples come from, for the error.

  Returns:
    The rest and the part held out.

  Raises:
    UserError: there are too few examples, of all or of one class.
  """
  try:
    rest, part = train_test_split(
      np.arange(len(dataset)),
      test_size=fraction,
      random_state=seed,
      stratify=dataset.labels,
    )
  except ValueError as error:
    counts = np.bincount(dataset.labels, minlength=dataset.num_classes)
    least = int(np.argmin(counts))
    raise UserError(
      f"{source}: {fraction} of {len(dataset)} examples can't be held out with "
      f"every class in proportion; class {dataset.class_names[least]} has "
      f"{counts[least]}, and each part needs one of each class"
    ) from error
  return dataset.subset(np.sort(rest)), dataset.subset(np.sort(part))


def check_fraction(name: str, value: float) -> None:
  """Refuses a share that leaves one part empty.

  Raises:
    ValueError: `value` is not in (0, 1).
  """
  if not 0 < value < 1:
    raise ValueError(f"{name}: {value} is not in (0, 1)")


def check_split(split: str) -> None:
  """Refuses what is not the name of a split.

  Raises:
    ValueError: `split` is neither train, validation nor test.
  """
  if split not in ("train", "validation", "test"):
    raise ValueError(f"split: {split!r} is not train, validation or test")
