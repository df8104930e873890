import io
import pathlib
import pickle
import tarfile

import numpy as np
import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.errors import UserError
from effarch.infrastructure.data import CIFAR10, CIFAR100

FORMS = ["binary", "python"]
# Of the folder and the archive.
NAMES = {
  (CIFAR10, "binary"): ("cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
  (CIFAR10, "python"): ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
  (CIFAR100, "binary"): ("cifar-100-binary", "cifar-100-binary.tar.gz"),
  (CIFAR100, "python"): ("cifar-100-python", "cifar-100-python.tar.gz"),
}
SIZE = 20  # Images in each file; the official ones hold 10,000 or 50,000.


@pytest.fixture(autouse=True, scope="module")
def small_files_and_no_network():
  def no_network(url, **_):
    pytest.fail(f"a test asks for {url}")

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pooch.core, "choose_downloader", no_network)
    for kind in (CIFAR10, CIFAR100):
      for files in ("train_files", "test_files"):
        small = dict.fromkeys(getattr(kind, files), SIZE)
        patch.setattr(kind, files, small)
    yield


def batch(kind, name):
  """The rows of one file: pixels as stored, and labels two or more of each."""
  rng = np.random.default_rng(list(name.encode()))
  pixels = rng.integers(0, 256, (SIZE, 3072), np.uint8)
  labels = rng.permutation(np.arange(SIZE) % (10 if kind is CIFAR10 else 2))
  return pixels, labels if kind is CIFAR10 else labels + 98


def expected(kind, names):
  """Plane c, row y, column x is byte 1024 c + 32 y + x of an image."""
  c, y, x = np.meshgrid(range(3), range(32), range(32), indexing="ij")
  rows = [batch(kind, name) for name in names]
  images = np.zeros((SIZE * len(rows), 32, 32, 3), np.uint8)
  stored = np.concatenate([pixels for pixels, _ in rows])
  images[:, y, x, c] = stored[:, 1024 * c + 32 * y + x]
  return images, np.concatenate([labels for _, labels in rows])


def binary_file(kind, pixels, labels):
  coarse = [np.full_like(labels, 19)] if kind is CIFAR100 else []
  front = np.stack([*coarse, labels], axis=1).astype(np.uint8)
  return np.concatenate([front, pixels], axis=1).tobytes()


def python_file(kind, pixels, labels, protocol=2):
  key = b"labels" if kind is CIFAR10 else b"fine_labels"
  content = {
    b"batch_label": b"training batch",
    b"coarse_labels": [19] * len(pixels),
    b"data": pixels,
    key: labels if isinstance(labels, list) else labels.tolist(),
  }
  return pickle.dumps(content, protocol)


def members(kind, form):
  """All that an official archive holds, by name, in its own odd order."""
  write = binary_file if form == "binary" else python_file
  end = ".bin" if form == "binary" else ""
  folder = NAMES[kind, form][0]
  names = [*kind.test_files, *reversed(kind.train_files)]
  files = {f"{folder}/{n}{end}": write(kind, *batch(kind, n)) for n in names}
  return {f"{folder}/batches.meta": b"no batch", **files}


def extract(root, content):
  for name, data in content.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)
  return root


def pack(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, "w:gz") as archive:
    for name, data in content.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return path


def place(root, kind, form, layout, content=None):
  """Puts the data set under `root`; returns what `path` is set to."""
  content = content or members(kind, form)
  if layout == "archive":
    return pack(root / "renamed.tar.gz", content)
  if layout == "folder of the archive":
    return pack(root / NAMES[kind, form][1], content).parent
  extract(root, content)
  return root if layout == "one above" else root / NAMES[kind, form][0]


def same(dataset, images, labels):
  np.testing.assert_array_equal(dataset.inputs, images)
  np.testing.assert_array_equal(dataset.labels, labels)
  assert dataset.inputs.dtype == np.uint8
  assert dataset.labels.dtype == np.int32


def row_set(images, labels):
  """The rows in an order of their own; of equal ones, one."""
  return np.unique(np.c_[images.reshape(len(images), -1), labels], axis=0)


def refused(source, split, *words):
  """Loading says why in one line, and leaves the disk as it was."""
  root = pathlib.Path(source.path).parent
  before = sorted(root.rglob("*"))
  with pytest.raises(UserError) as caught:
    source.load(split)
  message = str(caught.value)
  assert "\n" not in message
  for word in words:
    assert word in message
  assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
  "layout", ["archive", "folder of the archive", "extracted", "one above"]
)
def test_official_files_are_read_wherever_they_lie(
  tmp_path, kind, form, layout
):
  source = kind(str(place(tmp_path, kind, form, layout)))
  same(source.load("test"), *expected(kind, kind.test_files))
  train, validation = source.load("train"), source.load("validation")
  assert len(validation) == len(kind.train_files) * SIZE // 10
  parts = [(part.inputs, part.labels) for part in (train, validation)]
  together = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
  whole = expected(kind, kind.train_files)
  assert len(together[0]) == len(whole[0])
  np.testing.assert_array_equal(row_set(*together), row_set(*whole))


@given(protocol=st.sampled_from([2, 4]), data=st.data())
def test_both_forms_of_the_same_rows_are_equal(
  tmp_path_factory, protocol, data
):
  labels = data.draw(st.lists(st.integers(0, 99), min_size=20, max_size=20))
  seed = data.draw(st.integers(0, 99))
  pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, 3072), np.uint8)
  root = tmp_path_factory.mktemp("both")
  (root / "b").mkdir()
  (root / "p").mkdir()
  content = binary_file(CIFAR100, pixels, np.array(labels))
  (root / "b" / "test.bin").write_bytes(content)
  content = python_file(CIFAR100, pixels, labels, protocol)
  (root / "p" / "test").write_bytes(content)
  first = CIFAR100(str(root / "b")).load("test")
  same(CIFAR100(str(root / "p")).load("test"), first.inputs, labels)


@pytest.mark.parametrize("form", FORMS)
def test_a_split_reads_its_own_files_alone(tmp_path, monkeypatch, form):
  path = place(tmp_path, CIFAR10, form, "extracted")
  opened = set()
  real = pathlib.Path.read_bytes

  def read_bytes(self):
    opened.add(self.name.removesuffix(".bin"))
    return real(self)

  monkeypatch.setattr(pathlib.Path, "read_bytes", read_bytes)
  for split in ("train", "validation", "test"):
    opened.clear()
    CIFAR10(str(path)).load(split)
    assert opened == set(
      CIFAR10.test_files if split == "test" else CIFAR10.train_files
    )


def test_order_in_the_archive_changes_nothing(tmp_path):
  content = members(CIFAR10, "binary")
  turned = dict(reversed(content.items()))
  first, other = (
    CIFAR10(str(pack(tmp_path / f"{number}.tar.gz", files))).load("train")
    for number, files in enumerate((content, turned))
  )
  same(first, other.inputs, other.labels)


def test_seed_decides_the_split(tmp_path):
  path = str(place(tmp_path, CIFAR10, "binary", "archive"))
  first = CIFAR10(path, split_seed=1).load("validation")
  again = CIFAR10(path, split_seed=1).load("validation")
  same(again, first.inputs, first.labels)
  other = CIFAR10(path, split_seed=2).load("validation")
  assert not np.array_equal(first.inputs, other.inputs)
  np.testing.assert_array_equal(np.bincount(first.labels), [1] * 10)


PIXELS, LABELS = batch(CIFAR10, "data_batch_2")
BINARY = binary_file(CIFAR10, PIXELS, LABELS)
TENTH = np.where(np.arange(SIZE) == 3, 10, LABELS)


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"", "holds labels of shape (0,)"),
    (BINARY[:-1], "61459 bytes are no whole number of 3073-byte rows"),
    (BINARY[:-3073], "holds labels of shape (19,)"),
    (BINARY + BINARY, "holds labels of shape (40,)"),
    (binary_file(CIFAR100, PIXELS, LABELS), "61480 bytes are no whole number"),
    (binary_file(CIFAR10, PIXELS, TENTH), "image 3 has label 10, outside 0 to"),
  ],
)
def test_a_damaged_file_is_named_with_the_reason(tmp_path, content, reason):
  path = place(tmp_path, CIFAR10, "binary", "extracted")
  (path / "data_batch_2.bin").write_bytes(content)
  source = CIFAR10(str(path))
  refused(source, "train", f"{path}: data_batch_2.bin: ", reason)
  assert len(source.load("test")) == SIZE  # Which has no part in it


@pytest.mark.parametrize("layout", ["archive", "extracted"])
@pytest.mark.parametrize(
  ("missing", "split", "other"),
  [("data_batch_3", "train", "test"), ("test_batch", "test", "train")],
)
def test_a_missing_file_is_named(tmp_path, layout, missing, split, other):
  content = members(CIFAR10, "binary")
  del content[f"cifar-10-batches-bin/{missing}.bin"]
  path = place(tmp_path, CIFAR10, "binary", layout, content)
  refused(CIFAR10(str(path)), split, f"{path}: lacks {missing}")
  assert len(CIFAR10(str(path)).load(other)) > 0


def test_an_archive_that_is_none_is_named(tmp_path):
  path = place(tmp_path, CIFAR10, "python", "archive")
  refused(CIFAR100(str(path)), "test", f"{path}: lacks test")
  whole = path.read_bytes()
  for content in (whole[: len(whole) // 2], whole[:-5], whole[:50], b"", b"?"):
    path.write_bytes(content)
    refused(CIFAR10(str(path)), "train", f"{path}: a damaged archive, or none")
