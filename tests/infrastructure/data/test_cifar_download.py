"""CIFAR where no archive lies yet. No test here reaches the network."""

import io
import pathlib
import tarfile

import pooch
import pytest
import requests

from effarch.errors import UserError
from effarch.infrastructure.data import CIFAR10, CIFAR100

SITE = "https://www.cs.toronto.edu/~kriz/"


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
  ("error", "name"),
  [
    (requests.ConnectionError("no route\nto host"), "ConnectionError"),
    (requests.HTTPError("404"), "HTTPError"),
    (TimeoutError(), "TimeoutError"),
    (None, "ValueError"),  # All came, but not what the sum says.
  ],
)
def test_a_failed_download_says_what_to_put_where_and_leaves_nothing(
  tmp_path, monkeypatch, exists, error, name
):
  def downloader(url, file, _):
    # As on a bad day: Pooch has made the folder, and some of the bytes came.
    pathlib.Path(file).write_bytes(b"half")
    if error:
      raise error

  monkeypatch.setattr(
    pooch.core, "choose_downloader", lambda *_, **__: downloader
  )
  path = tmp_path / "deep" / "deeper"
  if exists:
    path.mkdir(parents=True)
    (path / "mine.txt").touch()
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(UserError) as caught:
    CIFAR100(str(path)).load("train")
  assert str(caught.value) == (
    f"config.data.path: {path} holds none of cifar-100-binary.tar.gz, "
    f"cifar-100-python.tar.gz, and {SITE}cifar-100-binary.tar.gz can't be "
    f"fetched ({name}); put one of them into {path}"
  )
  assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
  ("kind", "archive", "md5", "name", "row"),
  [
    (
      CIFAR10,
      "cifar-10-binary.tar.gz",
      "c32a1d4ab5d03f1284b67883e8d87530",
      "test_batch",
      b"\x07",
    ),
    (
      CIFAR100,
      "cifar-100-binary.tar.gz",
      "03b5dce01913d631647c71ecec9e9cb8",
      "test",
      b"\x13\x07",
    ),
  ],
)
def test_the_official_archive_is_asked_for_once_and_used(
  tmp_path, monkeypatch, kind, archive, md5, name, row
):
  asked = []

  def retrieve(url, known_hash, fname, path):
    asked.append((url, known_hash))
    path.mkdir()
    with tarfile.open(path / fname, "w:gz") as file:
      member = tarfile.TarInfo(f"folder/{name}.bin")
      member.size = len(row) + 3072
      file.addfile(member, io.BytesIO(row + bytes(3072)))
    return str(path / fname)

  monkeypatch.setattr(pooch, "retrieve", retrieve)
  monkeypatch.setattr(kind, "test_files", {name: 1})
  path = tmp_path / "new"
  for _ in range(2):  # The second time from the disk
    dataset = kind(str(path)).load("test")
    assert dataset.labels.tolist() == [7]
    assert dataset.inputs.shape == (1, 32, 32, 3)
  assert asked == [(SITE + archive, f"md5:{md5}")]
  assert [p.name for p in path.iterdir()] == [archive]
