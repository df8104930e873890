"""What an image folder must not hold, and how it is told."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from effarch.errors import UserError
from effarch.infrastructure.data import ImageFolder


def encoded(size=(6, 5), ending="png"):
  """A file's content; noise, so that it is not tiny."""
  file = io.BytesIO()
  noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
  Image.fromarray(noise).save(file, ending)
  return file.getvalue()


def tree(root, train=("ant", "bee"), test=("ant", "bee")):
  """Four images of each training class, one of each test class."""
  for part, names, count in (("train", train, 4), ("test", test, 1)):
    for name in names:
      (root / part / name).mkdir(parents=True)
      for number in range(count):
        (root / part / name / f"{number}.png").write_bytes(encoded())
  return root


def load(path, split="train", **options):
  return ImageFolder(str(path), validation_fraction=0.25, **options).load(split)


def refused(path, *words, split="train", **options):
  """Told in one line that begins with where; nothing wrong is kept."""
  for _ in range(2):  # A cache must not hide it the second time.
    with pytest.raises(UserError) as caught:
      load(path, split, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
      assert word in message


def deep(depth):
  file = io.BytesIO()
  Image.fromarray(np.full((5, 6), 300, depth)).save(file, "tiff")
  return file.getvalue()


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"", "(cannot identify image file)"),
    (b"no image", "(cannot identify image file)"),
    (encoded()[:60], "is no readable image"),
    (encoded()[:-30], "is no readable image"),
    (encoded().replace(b"IDAT", b"IDAX"), "is no readable image"),
    (encoded(ending="jpeg")[:-40], "(image file is truncated"),
    (encoded(ending="gif")[:-40], "is no readable image"),
    (deep(np.uint16), "(more than 8 bits a channel)"),
    (deep(np.int32), "(more than 8 bits a channel)"),
    (deep(np.float32), "(more than 8 bits a channel)"),
  ],
)
@pytest.mark.parametrize("image_size", [0, 8])
def test_what_is_no_whole_image_is_named(tmp_path, content, reason, image_size):
  root = tree(tmp_path / "tree")
  (root / "train" / "bee" / "2.png").write_bytes(content)
  name = "train/bee/2.png is no readable image"
  refused(root, name, reason, image_size=image_size)
  assert len(load(root, "test")) == 2  # Which has no part in it

  packed = tmp_path / "packed.tar.gz"
  with tarfile.open(packed, "w:gz") as archive:
    archive.add(root, arcname="top")
  refused(packed, f"top/{name}", reason, image_size=image_size)


def test_an_image_too_large_to_unpack_is_named(tmp_path, monkeypatch):
  root = tree(tmp_path / "tree")
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow refuses 20
  refused(root, "train/ant/0.png is no readable image", "exceeds limit")


def test_images_of_two_sizes_need_one_to_be_set(tmp_path):
  root = tree(tmp_path / "tree")
  (root / "train" / "bee" / "3.png").write_bytes(encoded((5, 6)))
  refused(root, "train/bee/3.png is 6x5, not 5x6; set config.data.image_size")
  assert load(root, image_size=6).inputs.shape == (6, 6, 6, 3)
  # Nor is one of another size taken from a cache of scaled ones.
  (root / "train" / "ant" / "0.png").write_bytes(encoded((6, 6)))
  assert load(root, image_size=6).inputs.shape == (6, 6, 6, 3)
  refused(root, "train/ant/1.png is 5x6, not 6x6; set config.data.image_size")
  # The test images must be of the size of the training images.
  refused(root, "test/ant/0.png is 5x6, not 6x6", split="test")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
  ("name", "reason"),
  [
    ("train/0.png", "train/0.png lies in no class's folder"),
    ("test/0.png", "test/0.png lies in no class's folder"),
    ("train/ant/wing/0.png", "train/ant/wing/0.png lies in no class's folder"),
    ("train/cow/", "train/cow/ holds no image"),
    ("train/cow/.hidden.png", "train/cow/ holds no image"),
    ("test/cow/", "test/cow/ holds no image"),
    ("test/cow/0.png", "test/cow is a class that train/ lacks"),
  ],
)
def test_an_image_or_a_folder_out_of_place_is_named(
  tmp_path, name, reason, split
):
  root = tree(tmp_path / "tree")
  file = root / name
  if name.endswith("/"):
    file.mkdir()
  else:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(encoded())
  refused(root, reason, split=split)


@pytest.mark.parametrize(
  ("train", "test", "reason"),
  [
    (("ant",), (), "has train/ and no test/"),
    ((), ("ant",), "has test/ and no train/"),
  ],
)
def test_a_part_alone_is_refused(tmp_path, train, test, reason):
  refused(tree(tmp_path / "tree", train, test), reason)


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_part_is_named(tmp_path, part):
  other = {"train": "test", "test": "train"}[part]
  root = tree(tmp_path / "tree", **{part: ()})
  (root / part).mkdir()
  for split in (part, other):
    refused(root, f"holds no {part}/<class>/<image>", split=split)


def test_a_path_with_no_image_is_refused(tmp_path):
  path = tmp_path / "tree"
  refused(path, "does not exist")
  path.mkdir()
  refused(path, "holds no <class>/<image>")
  (path / "0.png").write_bytes(encoded())
  refused(path, "holds no <class>/<image>")
  refused(path / "0.png", "a damaged archive, or none")
  (path / "ant").mkdir()
  refused(path, "ant/ holds no image")


def test_a_damaged_archive_is_refused(tmp_path):
  path = tmp_path / "packed.tar.xz"
  with tarfile.open(path, "w:xz") as archive:
    archive.add(tree(tmp_path / "tree"), arcname="top")
  whole = path.read_bytes()
  for content in (whole[: len(whole) // 2], whole[:-9], b""):
    path.write_bytes(content)
    refused(path, "a damaged archive, or none")


def test_a_class_too_small_to_be_split_is_named(tmp_path):
  root = tree(tmp_path / "tree")
  for number in range(1, 4):
    (root / "train" / "bee" / f"{number}.png").unlink()
  refused(root, "0.25 of 5 examples can't be held out", "class bee has 1")
  assert len(load(root, "test")) == 2
  for split in ("train", "test"):
    refused(root / "train", "0.2 of 5 ", "class bee has 1", split=split)


def test_a_link_to_nothing_is_named(tmp_path):
  root = tree(tmp_path / "tree")
  link = root / "train" / "bee" / "gone.png"
  link.symlink_to(tmp_path / "nowhere")
  with pytest.raises(UserError) as caught:
    load(root)
  assert str(caught.value) == f"{link}: No such file or directory"


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"path": ""}, "^path: is empty$"),
    ({"image_size": -1}, "^image_size: -1 is negative$"),
    ({"channels": 4}, "^channels: 4 is neither 1 nor 3$"),
    ({"test_fraction": 1.0}, r"^test_fraction: 1.0 is not in \(0, 1\)$"),
    ({"validation_fraction": 0.0}, "^validation_fraction: 0.0 is not in"),
  ],
)
def test_an_impossible_option_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    ImageFolder(**{"path": "somewhere", **options})


def test_what_is_no_split_is_refused(tmp_path):
  with pytest.raises(ValueError, match="split: 'dev'"):
    load(tree(tmp_path / "tree"), "dev")
