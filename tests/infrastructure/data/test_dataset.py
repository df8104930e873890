import chex
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.errors import UserError
from effarch.infrastructure.data.dataset import (
  Dataset,
  check_fraction,
  check_split,
  decode,
  hold_out,
)


def numbered(labels, class_names=("ant", "bee", "cow")):
  """Examples whose input is their own place."""
  labels = np.array(labels, np.int32)
  return Dataset(np.arange(len(labels)), labels, tuple(class_names))


@given(
  counts=st.lists(st.integers(5, 30), min_size=3, max_size=3),
  fraction=st.floats(0.2, 0.8),
  seed=st.integers(0, 2**32 - 1),
)
def test_held_out_part_and_rest_are_the_whole(counts, fraction, seed):
  dataset = numbered(np.repeat([0, 1, 2], counts))
  rest, part = hold_out(dataset, fraction, seed)
  together = np.sort(np.concatenate([rest.inputs, part.inputs]))
  np.testing.assert_array_equal(together, dataset.inputs)
  for piece in (rest, part):
    np.testing.assert_array_equal(piece.labels, dataset.labels[piece.inputs])
    assert piece.class_names == dataset.class_names
  # Every class in proportion, but for rounding.
  held = np.bincount(part.labels, minlength=3)
  assert np.abs(held - fraction * np.array(counts)).max() < 2


def test_seed_decides_what_is_held_out():
  dataset = numbered([0, 1, 2] * 20)
  first = hold_out(dataset, 0.3, seed=1)[1].inputs
  np.testing.assert_array_equal(first, hold_out(dataset, 0.3, 1)[1].inputs)
  assert not np.array_equal(first, hold_out(dataset, 0.3, 2)[1].inputs)


@pytest.mark.parametrize(
  ("labels", "fraction", "smallest"),
  [
    ([0, 0, 0, 0, 1, 1, 1, 2], 0.5, "class cow has 1"),
    ([0, 0, 0, 1, 1, 1, 2, 2], 0.1, "class cow has 2"),
    ([0, 0, 0, 1, 1, 2, 2, 2], 0.95, "class bee has 2"),
    ([0], 0.5, "class bee has 0"),
    ([], 0.5, "class ant has 0"),
  ],
)
def test_too_few_to_hold_out_is_told_with_the_smallest_class(
  labels, fraction, smallest
):
  with pytest.raises(UserError) as caught:
    hold_out(numbered(labels), fraction, 0, "my/folder")
  message = str(caught.value)
  assert message.startswith(f"my/folder: {fraction} of {len(labels)} examples")
  assert smallest in message
  assert "\n" not in message


def test_subset_keeps_labels_with_their_inputs():
  part = numbered([0, 1, 2, 1]).subset(np.array([3, 0]))
  np.testing.assert_array_equal(part.inputs, [3, 0])
  np.testing.assert_array_equal(part.labels, [1, 0])
  assert len(part) == 2
  assert part.num_classes == 3  # Whether or not they are all seen


def test_pixels_become_floats_from_minus_one_to_one():
  decoded = decode(jnp.arange(256, dtype=jnp.uint8).reshape(2, 128))
  chex.assert_shape(decoded, (2, 128))
  assert decoded.dtype == jnp.float32
  expected = np.linspace(-1, 1, 256).reshape(2, 128)
  np.testing.assert_allclose(decoded, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32, jnp.bfloat16])
def test_what_is_no_pixel_stays_as_it_is(dtype):
  given = jnp.array([0, 7, 255], dtype)
  decoded = decode(given)
  assert decoded.dtype == dtype
  chex.assert_trees_all_equal(decoded, given)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_that_leaves_a_part_empty_is_refused(value):
  with pytest.raises(ValueError, match=r"^share: .* is not in \(0, 1\)$"):
    check_fraction("share", value)


def test_a_share_inside_is_taken_and_so_are_the_three_splits():
  for value in (1e-9, 0.5, 1 - 1e-9):
    check_fraction("share", value)
  for split in ("train", "validation", "test"):
    check_split(split)


@pytest.mark.parametrize("split", ["", "Train", "val", "dev"])
def test_what_is_no_split_is_refused(split):
  with pytest.raises(ValueError, match=f"^split: '{split}' is not train"):
    check_split(split)
