import numpy as np
import pytest
from PIL import Image

from effarch.errors import UserError
from effarch.infrastructure.data.dataset import PADDING, decode
from effarch.infrastructure.data.digits import Digits
from effarch.infrastructure.data.image_folder import ImageFolder
from effarch.infrastructure.data.pixel_sequence import PixelSequence

SPLITS = ("train", "validation", "test")


@pytest.fixture
def colours(tmp_path):
  """A config of 3x5 images of two classes, one all black and one all white."""
  rng = np.random.default_rng(0)
  for name in ("ant", "bee"):
    (tmp_path / "images" / name).mkdir(parents=True)
    for number in range(8):
      pixels = rng.integers(0, 256, (3, 5, 3), np.uint8)
      if number == 7:
        pixels[:] = 255 * (name == "bee")
      Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
  return {"name": "image_folder", "path": str(tmp_path / "images")}


@pytest.mark.parametrize("split", SPLITS)
def test_tokens_are_the_pixels_of_the_source_row_by_row(split):
  expected = Digits(split_seed=3).load(split)
  source = PixelSequence({"name": "digits", "split_seed": 3})
  found = source.load(split)
  assert source.input_shape == (64,)
  assert source.vocab_size == 257
  assert found.inputs.dtype == np.int16
  assert found.inputs.min() > PADDING
  for image, tokens in zip(expected.inputs, found.inputs, strict=True):
    rows = [int(value) + 1 for row in image for (value,) in row]
    assert tokens.tolist() == rows
  np.testing.assert_array_equal(found.labels, expected.labels)
  assert found.class_names == source.class_names == expected.class_names


@pytest.mark.parametrize("split", SPLITS)
def test_grey_is_the_luma_of_colour(colours, split):
  expected = ImageFolder(colours["path"]).load(split)
  found = PixelSequence(colours).load(split)
  luma = expected.inputs @ np.array([0.299, 0.587, 0.114])
  grey = found.inputs.reshape(-1, 3, 5) - 1
  assert np.abs(grey - luma).max() <= 0.5 + 1e-9
  np.testing.assert_array_equal(found.labels, expected.labels)


def test_black_and_white_are_the_first_and_the_last_token(colours):
  parts = [PixelSequence(colours).load(split).inputs for split in SPLITS]
  tokens = np.concatenate(parts)
  assert (tokens == 1).all(1).sum() == 1
  assert (tokens == 256).all(1).sum() == 1


def test_channels_of_colour_are_tokens_one_after_the_other(colours):
  source = PixelSequence(colours, grayscale=False)
  image = ImageFolder(colours["path"]).load("train").inputs[0]
  tokens = source.load("train").inputs[0]
  assert source.input_shape == (3 * 5 * 3,)
  by_hand = [int(v) + 1 for row in image for pixel in row for v in pixel]
  assert tokens.tolist() == by_hand


@pytest.mark.parametrize("grayscale", [True, False])
def test_without_tokens_models_see_floats_for_each_place(colours, grayscale):
  source = PixelSequence(colours, grayscale=grayscale, as_tokens=False)
  inputs = source.load("train").inputs
  channels = 1 if grayscale else 3
  assert source.input_shape == (15, channels)
  assert source.vocab_size == 0
  assert inputs.dtype == np.uint8
  assert inputs.shape[1:] == (15, channels)
  tokens = PixelSequence(colours, grayscale=grayscale).load("train").inputs
  np.testing.assert_array_equal(inputs.reshape(len(inputs), -1), tokens - 1)
  seen = np.asarray(decode(inputs))
  assert -1 <= seen.min() < seen.max() <= 1


def test_shapes_of_examples_and_batches_agree(colours):
  for as_tokens in (True, False):
    source = PixelSequence(colours, as_tokens=as_tokens)
    batch = source.load("test").inputs
    assert source.example(len(batch)).shape == batch.shape
    assert decode(batch).dtype == source.example().dtype


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ({"name": "digit"}, "^source.name: 'digit' is unknown; did you mean"),
    ({}, "^source.name: None is unknown"),
    ({"name": "digits", "seed": 1}, "^source.seed: unknown"),
    ({"name": "image_folder"}, "^source.path: missing"),
    ({"name": "pathfinder", "size": 33}, "^source.size: 33 is not"),
  ],
)
def test_a_wrong_config_of_the_images_stops_at_once(config, message):
  with pytest.raises(UserError, match=message):
    PixelSequence(config)


def test_what_is_no_split_is_refused():
  with pytest.raises(ValueError, match="split: 'dev'"):
    PixelSequence({"name": "digits"}).load("dev")
