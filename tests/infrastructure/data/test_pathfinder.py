import hashlib

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from effarch.infrastructure.data.pathfinder import Pathfinder

SIZES = {"num_train": 40, "num_validation": 30, "num_test": 20}


def find_discs(image):
  """Which pixels belong to which disc: they alone are brighter than dashes."""
  discs, count = ndimage.label(image > 191, np.ones((3, 3)))
  assert count == 2
  return discs


def is_connected(image):
  """Follows the dashes from disc to disc, with eyes for the pixels alone."""
  places = np.argwhere(image > 32)
  # Farther than over a gap, nearer than to another curve
  reach = 2.24 * len(image) / 32
  pairs = cKDTree(places).query_pairs(reach, output_type="ndarray")
  graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=[len(places)] * 2)
  _, curves = connected_components(graph, directed=False)
  discs = find_discs(image)[tuple(places.T)]
  first, second = (set(curves[discs == disc]) for disc in (1, 2))
  assert len(first) == len(second) == 1
  return first == second


@pytest.mark.parametrize(
  ("settings", "count"),
  [
    ({"size": 32}, 500),
    ({"size": 48}, 100),
    ({"size": 64}, 200),
    ({"size": 128, "contour_length": 9}, 30),
    ({"size": 256, "contour_length": 6}, 10),
    ({"contour_length": 3, "num_distractors": 0}, 100),
    ({"contour_length": 6, "num_distractors": 15}, 300),
  ],
)
def test_discs_are_on_one_curve_where_the_label_says_so(settings, count):
  dataset = Pathfinder(num_train=count, **settings).load("train")
  found = [is_connected(image[:, :, 0]) for image in dataset.inputs]
  np.testing.assert_array_equal(found, dataset.labels)
  assert dataset.class_names == ("apart", "connected")


@pytest.fixture(scope="module", params=[9, 6])
def parts(request):
  source = Pathfinder(
    contour_length=request.param, num_train=2000, num_validation=2000
  )
  return source.load("train"), source.load("validation")


def skill(model, features, parts):
  """Returns the share of right answers about images not trained on."""
  train, validation = parts
  model.fit(features(train), train.labels)
  return model.score(features(validation), validation.labels)


def middles_of_discs(dataset):
  middles = []
  for image in dataset.inputs[..., 0]:
    discs = find_discs(image)
    middles.append(np.ravel(ndimage.center_of_mass(image, discs, [1, 2])))
  return np.array(middles)


def distance_of_discs(dataset):
  middles = middles_of_discs(dataset)
  return np.hypot(*(middles[:, :2] - middles[:, 2:]).T)[:, None]


def coarse_pixels(dataset):
  blocks = dataset.inputs.reshape(-1, 8, 4, 8, 4)
  return blocks.mean((2, 4)).reshape(-1, 64) / 9


def brightness(dataset):
  return dataset.inputs.mean((1, 2))


@pytest.mark.parametrize(
  "features",
  [middles_of_discs, distance_of_discs, coarse_pixels, brightness],
)
def test_what_is_seen_without_following_curves_tells_nothing(parts, features):
  # By chance, 2000 answers are 50 % right, give or take 1.1 %.
  for model in (
    HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=15),
    LogisticRegression(C=1e-3, max_iter=500),
  ):
    assert 0.46 < skill(model, features, parts) < 0.54


def test_classes_are_equally_frequent_and_no_image_comes_twice(parts):
  images = np.concatenate([part.inputs for part in parts])
  assert len(np.unique(images, axis=0)) == 4000
  for part in parts:
    assert abs(part.labels.mean() - 0.5) < 0.025


def test_size_draws_the_same_images_finer():
  coarse, fine = (
    Pathfinder(size=size, num_train=20).load("train") for size in (32, 64)
  )
  np.testing.assert_array_equal(coarse.labels, fine.labels)
  halved = fine.inputs.reshape(20, 32, 2, 32, 2).mean((2, 4))
  for one, other in zip(coarse.inputs, halved, strict=True):
    # An image moved by one pixel comes to less than 0.5.
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(("size", "radius"), [(32, 1.5), (64, 2), (256, 5)])
def test_discs_have_their_size_and_dashes_their_grey(size, radius):
  dataset = Pathfinder(size=size, contour_length=6, num_train=30).load("train")
  images = dataset.inputs[..., 0]
  assert (images.max((1, 2)) == 255).all()
  assert (np.where(images < 192, images, 0).max((1, 2)) >= 150).all()
  # Of the discs' soft edges, the inner half is brighter than the dashes.
  area = (images > 191).sum() / 60
  np.testing.assert_allclose(area, np.pi * (radius - 0.25) ** 2, rtol=0.15)


def test_distractors_are_drawn_beside_the_same_number_of_long_curves():
  def mean(num_distractors):
    source = Pathfinder(
      contour_length=6, num_distractors=num_distractors, num_train=50
    )
    return source.load("train").inputs.mean()

  # Two curves of 6 dashes; 5 short ones have 2 each.
  none, five = mean(0), mean(5)
  assert 1.3 < five / none < 1.9


def test_arrays_are_as_told():
  source = Pathfinder(size=48, contour_length=6, **SIZES)
  for split in ("train", "validation", "test"):
    dataset = source.load(split)
    assert len(dataset) == SIZES[f"num_{split}"]
    assert dataset.inputs.dtype == np.uint8
    assert dataset.inputs.shape[1:] == source.input_shape == (48, 48, 1)
    assert dataset.labels.dtype == np.int32
  assert source.vocab_size == 0


def test_a_smaller_part_is_the_beginning_of_a_larger_one():
  few, more = (
    Pathfinder(contour_length=6, num_test=count).load("test")
    for count in (1, 90)
  )
  np.testing.assert_array_equal(few.inputs, more.inputs[:1])


def test_seed_and_split_decide_the_images():
  def images(seed, split):
    sizes = dict.fromkeys(SIZES, 20)
    return Pathfinder(contour_length=6, seed=seed, **sizes).load(split).inputs

  first = images(1, "train")
  np.testing.assert_array_equal(first, images(1, "train"))
  for other in (images(2, "train"), images(1, "validation"), images(1, "test")):
    together = np.concatenate([first, other])
    assert len(np.unique(together, axis=0)) == 40


@pytest.mark.parametrize(
  ("settings", "digest"),
  [
    ({}, "010a0e1f4a4fa626"),
    ({"size": 48, "contour_length": 9, "seed": 5}, "8ca4efaa55cdc904"),
    (
      {"size": 128, "contour_length": 6, "num_distractors": 15},
      "56d8ffae83b3dacd",
    ),
  ],
)
def test_images_are_the_same_on_every_machine(settings, digest):
  # Results are compared between machines and versions of NumPy; a change here
  # makes them another data set.
  dataset = Pathfinder(num_validation=200, **settings).load("validation")
  content = dataset.inputs.tobytes() + dataset.labels.astype("<i4").tobytes()
  assert hashlib.sha256(content).hexdigest()[:16] == digest


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"size": 16}, "size: 16 is not a multiple of 16 from 32 to 256"),
    ({"size": 40}, "size: 40 is not"),
    ({"size": 272}, "size: 272 is not"),
    ({"contour_length": 2}, r"contour_length: 2 is not in \[3, 16\]"),
    ({"contour_length": 17}, "contour_length: 17 is not"),
    ({"num_distractors": -1}, "num_distractors: -1 is negative"),
    ({"num_train": 0}, "num_train: 0 is not positive"),
    ({"num_validation": -3}, "num_validation: -3 is not positive"),
    ({"num_test": 0}, "num_test: 0 is not positive"),
  ],
)
def test_refuses_what_cannot_be_drawn(settings, message):
  with pytest.raises(ValueError, match=f"^{message}"):
    Pathfinder(**settings)


def test_refuses_what_is_no_split():
  with pytest.raises(ValueError, match="split: 'dev'"):
    Pathfinder().load("dev")
