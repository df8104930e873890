"""What augmentations refuse."""

import jax
import jax.numpy as jnp
import pytest

from effarch.learning.augment import AUGMENTATIONS

REQUIRED = {"alternating_flip": {"epochs": 3}, "switch_out": {"vocab_size": 9}}
SHAPES = {
  "images": ((4, 8, 8, 3), "float32"),
  "tokens": ((4, 8), "int32"),
  "signals": ((4, 8, 1), "float32"),
  "features": ((4, 8), "float32"),
}
MOVES = ("random_swap", "random_delete", "random_insert")
TOKENS = ("word_dropout", "switch_out", "span_masking", *MOVES)
TAKES = {
  **{name: {"images"} for name in AUGMENTATIONS},
  "mixup": {"images", "signals", "features"},
  "smote": {"features"},
  "spec_augment": {"signals"},
  **{name: {"tokens"} for name in TOKENS},
}
MIXES = ("mixup", "cutmix", "mixup_cutmix")


def outcome(name, inputs, labels=(4, 3)):
  """Traces a technique's hook, as the step's compilation would."""
  technique = AUGMENTATIONS[name](**REQUIRED.get(name, {}))
  batch = {
    "inputs": jax.ShapeDtypeStruct(*inputs),
    "labels": jax.ShapeDtypeStruct(labels, "float32"),
    "index": jax.ShapeDtypeStruct((4,), "int32"),
    "progress": jax.ShapeDtypeStruct((), "float32"),
  }
  return jax.eval_shape(technique.batch, batch, jax.random.key(0))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_inputs_of_other_kinds_are_refused_in_a_line(name, kind):
  inputs = SHAPES[kind]
  if kind in TAKES[name]:
    assert outcome(name, inputs)["inputs"].shape == inputs[0]
    return
  with pytest.raises(ValueError, match="are no") as error:
    outcome(name, inputs)
  message = str(error.value)
  assert message.startswith(
    f"{AUGMENTATIONS[name].__name__}: inputs {inputs[1]}"
  )
  assert "\n" not in message


@pytest.mark.parametrize("name", MOVES)
def test_tokens_with_labels_of_their_own_do_not_move(name):
  with pytest.raises(ValueError, match="moves tokens, and each has a label"):
    outcome(name, SHAPES["tokens"], (4, 8, 3))


@pytest.mark.parametrize("name", MIXES)
def test_labels_of_places_do_not_mix(name):
  with pytest.raises(ValueError, match="are not one for each example"):
    outcome(name, SHAPES["images"], (4, 8, 3))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_type_of_floats_is_kept(name, dtype):
  kind = min(TAKES[name])
  shape, given = SHAPES[kind]
  dtype = given if kind == "tokens" else jnp.dtype(dtype)
  assert outcome(name, (shape, dtype))["inputs"].dtype == dtype


@pytest.mark.parametrize(
  ("name", "arguments"),
  [
    ("alternating_flip", {"epochs": 0}),
    ("rotate", {"max_degrees": -1.0}),
    ("shear", {"max_shear": -0.1}),
    ("colour_jitter", {"contrast": 1.1}),
    ("blur", {"probability": 2.0}),
    ("blur", {"max_sigma": 0.0}),
    ("cutout", {"size": -1}),
    ("random_erasing", {"probability": -0.1}),
    ("random_erasing", {"min_area": 0.5}),
    ("random_erasing", {"max_area": 1.5}),
    ("random_erasing", {"max_aspect": 0.5}),
    ("rand_augment", {"num_ops": -1}),
    ("rand_augment", {"magnitude": 31.0}),
    ("rand_augment", {"max_translation": -1.0}),
    ("worst_case", {"num_versions": 0}),
    ("worst_case", {"num_ops": -1}),
    ("worst_case", {"magnitude": -1.0}),
    ("mixup", {"alpha": -1.0}),
    ("cutmix", {"alpha": float("nan")}),
    ("mixup_cutmix", {"mixup_alpha": -1.0}),
    ("mixup_cutmix", {"cutmix_alpha": -1.0}),
    ("mixup_cutmix", {"cutmix_probability": 1.1}),
    ("smote", {"probability": 1.1}),
    ("smote", {"num_neighbors": 0}),
    ("word_dropout", {"probability": 1.1}),
    ("word_dropout", {"token": 0}),
    ("switch_out", {"vocab_size": 1}),
    ("switch_out", {"temperature": -1.0}),
    ("span_masking", {"rate": 1.0}),
    ("span_masking", {"mean_length": 0.5}),
    ("span_masking", {"token": 0}),
    ("random_swap", {"share": 1.1}),
    ("random_delete", {"probability": 1.1}),
    ("random_insert", {"probability": -0.1}),
    ("spec_augment", {"max_time": -1}),
    ("spec_augment", {"num_frequency_masks": -1}),
  ],
)
def test_refuses_the_impossible(name, arguments):
  (argument,) = arguments
  with pytest.raises(ValueError, match=f"^{argument}: "):
    AUGMENTATIONS[name](**{**REQUIRED.get(name, {}), **arguments})
