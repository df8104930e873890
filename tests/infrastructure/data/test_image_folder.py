import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from effarch.errors import UserError
from effarch.infrastructure.data import CIFAR10, ImageFolder

# Images of each class. `latest` and `strain` have a part's name in their own.
PARTS = {
  "train": {"ant": 10, "latest": 12, "strain": 11},
  "test": {"latest": 3, "strain": 2},
}
CLASSES = ("ant", "latest", "strain")
FRACTIONS = {"validation_fraction": 0.25, "test_fraction": 0.3}


def pixels(part, label, number, size=(3, 4)):
  """Noise that no other image has."""
  rng = np.random.default_rng([part == "test", label, number])
  return rng.integers(0, 256, (*size, 3), np.uint8)


def write_parts(root, **more):
  for part, classes in PARTS.items():
    for name, count in classes.items():
      (root / part / name).mkdir(parents=True)
      for number in range(count):
        image = pixels(part, CLASSES.index(name), number, **more)
        file = root / part / name / f"{number:02}.png"
        Image.fromarray(image).save(file)
  return root


def write_flat(root):
  """The same images as `train` has, and no parts."""
  write_parts(root / "all")
  return root / "all" / "train"


def pack(tree, path, around=""):
  with tarfile.open(path, "w:" + path.suffix[1:].replace("tar", "")) as file:
    file.add(tree, arcname=around or ".")
  return path


def rows(*datasets):
  """Pixels and labels, in an order of their own."""
  return sorted(
    (image.tobytes(), int(label))
    for dataset in datasets
    for image, label in zip(dataset.inputs, dataset.labels, strict=True)
  )


def expected(part):
  return sorted(
    (pixels(part, CLASSES.index(name), number).tobytes(), CLASSES.index(name))
    for name, count in PARTS[part].items()
    for number in range(count)
  )


def load_all(source):
  return [source.load(split) for split in ("train", "validation", "test")]


def cached(tmp_path):
  return list((tmp_path / "user-cache").rglob("*.*"))


@pytest.fixture
def opened(monkeypatch):
  """Collects the content of every image that is decoded."""
  contents = []
  real = Image.open

  def spy(file):
    contents.append(file.getvalue())
    return real(file)

  monkeypatch.setattr(Image, "open", spy)
  return contents


@pytest.mark.parametrize("around", ["", "my-test"])
def test_a_tree_with_parts_is_read_as_it_is_divided(tmp_path, around):
  root = write_parts(tmp_path / "here" / around)
  (root / "README.txt").write_text("No image")
  (root / "train" / "ant" / ".DS_Store").write_text("No image")
  source = ImageFolder(str(tmp_path / "here"), **FRACTIONS)
  assert source.input_shape == (3, 4, 3)
  assert source.class_names == CLASSES
  train, validation, test = load_all(source)
  assert rows(test) == expected("test")
  assert rows(train, validation) == expected("train")
  assert np.bincount(validation.labels).tolist() == [3, 3, 3]
  for dataset in (train, validation, test):
    assert dataset.class_names == CLASSES
    assert (dataset.inputs.dtype, dataset.labels.dtype) == (np.uint8, np.int32)


def test_a_tree_without_parts_is_divided_by_the_config(tmp_path):
  root = write_flat(tmp_path)
  parts = load_all(ImageFolder(str(root), **FRACTIONS))
  assert rows(*parts) == expected("train")
  assert [len(part) for part in parts] == [17, 6, 10]
  for name in ("train", "validation", "test"):
    first, again, other = (
      ImageFolder(str(root), **FRACTIONS, split_seed=seed).load(name)
      for seed in (1, 1, 2)
    )
    assert rows(first) == rows(again) != rows(other)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("around", ["", "top"])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz"])
def test_tree_and_archive_are_equal(tmp_path, flat, around, ending):
  tree = write_flat(tmp_path) if flat else write_parts(tmp_path / "tree")
  packed = pack(tree, tmp_path / f"packed{ending}", around)
  first, second = (ImageFolder(str(p), **FRACTIONS) for p in (tree, packed))
  assert first.input_shape == second.input_shape
  for one, other in zip(load_all(first), load_all(second), strict=True):
    np.testing.assert_array_equal(one.inputs, other.inputs)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.class_names == other.class_names


@pytest.mark.parametrize("flat", [False, True])
def test_training_decodes_no_test_image(tmp_path, opened, flat):
  root = write_flat(tmp_path) if flat else write_parts(tmp_path / "tree")
  source = ImageFolder(str(root), **FRACTIONS)
  assert source.input_shape == (3, 4, 3)
  source.load("train")
  source.load("validation")
  seen = set(opened)
  opened.clear()
  test = source.load("test")
  assert len(opened) == len(test)
  assert seen.isdisjoint(opened)


def test_images_are_decoded_once_and_again_when_one_changes(tmp_path, opened):
  root = write_parts(tmp_path / "tree")
  options = {"path": str(root), "image_size": 4}
  first = rows(*load_all(ImageFolder(**options)))
  assert len(opened) == 38
  opened.clear()
  assert rows(*load_all(ImageFolder(**options))) == first
  assert opened == []

  file = root / "train" / "ant" / "00.png"
  Image.fromarray(pixels("train", 0, 99)).save(file)
  os.utime(file, ns=(1, 1))
  assert rows(*load_all(ImageFolder(**options))) != first
  assert len(opened) == 38
  opened.clear()
  (root / "train" / "ant" / "01.png").unlink()
  assert len(rows(*load_all(ImageFolder(**options)))) == 37
  assert len(opened) == 37


def test_a_change_of_size_or_of_time_alone_is_seen(tmp_path, opened):
  root = write_parts(tmp_path / "tree")
  file = root / "test" / "latest" / "00.png"

  def decoded():
    opened.clear()
    ImageFolder(str(root), image_size=4).load("test")
    return len(opened)

  assert (decoded(), decoded()) == (5, 0)
  written = file.stat().st_mtime_ns
  file.write_bytes(file.read_bytes() + b"0")  # Still the same image
  os.utime(file, ns=(written, written))
  assert (decoded(), decoded()) == (5, 0)
  os.utime(file, ns=(1, 1))
  assert (decoded(), decoded()) == (5, 0)


def test_every_option_for_pixels_has_a_cache_of_its_own(tmp_path):
  path = str(write_parts(tmp_path / "tree"))
  for options, shape in (
    ({}, (3, 4, 3)),
    ({"channels": 1}, (3, 4, 1)),
    ({"image_size": 5}, (5, 5, 3)),
    ({"image_size": 3}, (3, 3, 3)),
  ):
    assert ImageFolder(path, **options).load("test").inputs.shape[1:] == shape
  assert len(cached(tmp_path)) == 4


@pytest.mark.parametrize("keep", [0, 1, 100, -30, -1])
def test_a_damaged_cache_is_decoded_anew(tmp_path, opened, keep):
  source = ImageFolder(str(write_parts(tmp_path / "tree")))
  first = rows(source.load("test"))
  (cache,) = cached(tmp_path)
  whole = cache.read_bytes()
  cache.write_bytes(whole[:keep])
  opened.clear()
  assert rows(source.load("test")) == first
  assert len(opened) == 5
  assert cache.read_bytes() == whole
  cache.write_bytes(whole.replace(first[0][0], bytes(36)))
  assert rows(source.load("test")) == first


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_crash_while_the_cache_is_written_leaves_no_file(
  tmp_path, monkeypatch, error
):
  source = ImageFolder(str(write_parts(tmp_path / "tree")))

  def crash(file, **_):
    file.write(b"half")
    raise error

  with monkeypatch.context() as patch:
    patch.setattr(np, "savez", crash)
    told = UserError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(told) as caught:
      source.load("test")
  if told is UserError:
    assert "can't keep the decoded images (disk full)" in str(caught.value)
  assert cached(tmp_path) == []
  assert rows(source.load("test")) == expected("test")


def test_images_are_scaled_and_turned_grey(tmp_path):
  root = write_parts(tmp_path / "tree", size=(6, 6))
  Image.new("L", (9, 2), 77).save(root / "test" / "latest" / "00.png")
  Image.new("RGBA", (1, 7), (77,) * 4).save(root / "test" / "latest" / "01.png")
  for channels in (1, 3):
    source = ImageFolder(str(root), image_size=5, channels=channels)
    assert source.input_shape == (5, 5, channels)
    test = source.load("test")
    assert test.inputs.shape == (5, 5, 5, channels)
    assert (test.inputs[:2] == 77).all()
    assert test.inputs[2].std() > 0


def test_scaling_is_bilinear(tmp_path):
  root = write_parts(tmp_path / "tree")
  file = root / "test" / "latest" / "00.png"
  Image.fromarray(np.array([[0, 100]], np.uint8)).save(file)
  source = ImageFolder(str(root), image_size=4, channels=1)
  image = source.load("test").inputs[0, :, :, 0]
  # The new pixels' centres lie at -1/4, 1/4, 3/4 and 5/4 of the old ones'.
  assert image.tolist() == [[0, 25, 75, 100]] * 4


def test_sixty_thousand_images_of_an_archive_are_listed(shared):
  source = ImageFolder(str(shared / "data" / "cifar10-jpeg.tar.xz"))
  assert source.class_names == CIFAR10.class_names
  assert source.input_shape == CIFAR10.input_shape
