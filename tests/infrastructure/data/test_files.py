import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.errors import UserError
from effarch.infrastructure.data import files

CONTENT = {
  "a/one.bin": b"1" * 700,
  "a/two.bin": b"",
  "b/c/three.bin": bytes(range(256)) * 5,
  "four.bin": b"4",
}
HIDDEN = {"a/._one.bin": b"x", ".git/config": b"x", "b/.DS_Store": b"x"}
COMPRESSIONS = ["", "gz", "xz", "bz2"]


def write_tree(root, content):
  for name, data in content.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)
  return root


def write_tar(path, content, compression="gz", prefix=""):
  with tarfile.open(path, f"w:{compression}") as archive:
    for name, data in content.items():
      member = tarfile.TarInfo(prefix + name)
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return path


def everything(path):
  return dict(files.read(path, lambda name: True))


def refused(path, *words):
  """Both ways of reading say why in one line; the folder is as it was."""
  before = sorted(path.parent.rglob("*"))
  for attempt in (everything, files.listing):
    with pytest.raises(UserError) as caught:
      attempt(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
      assert word in message
  assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tree_and_archive_read_the_same(tmp_path, compression):
  tree = write_tree(tmp_path / "tree", {**CONTENT, **HIDDEN})
  packed = tmp_path / "packed.tar"
  with tarfile.open(packed, f"w:{compression}") as archive:
    archive.add(tree, arcname=".")  # As `tar -C tree .` does
  assert everything(tree) == everything(packed) == CONTENT
  expected = [
    ("a", True),
    ("a/one.bin", False),
    ("a/two.bin", False),
    ("b", True),
    ("b/c", True),
    ("b/c/three.bin", False),
    ("four.bin", False),
  ]
  assert files.listing(tree) == files.listing(packed) == expected


@given(
  content=st.dictionaries(
    st.text("abcé0 -", min_size=1, max_size=120),
    st.binary(max_size=2000),
    max_size=4,
  ),
  compression=st.sampled_from(COMPRESSIONS),
)
def test_an_archive_gives_back_what_went_in(content, compression):
  with tempfile.TemporaryDirectory() as folder:
    path = write_tar(Path(folder, "x.tar"), content, compression)
    assert everything(path) == content


def test_only_what_is_wanted_is_read(tmp_path, monkeypatch):
  tree = write_tree(tmp_path / "tree", CONTENT)
  opened = []
  real = Path.read_bytes
  monkeypatch.setattr(
    Path, "read_bytes", lambda self: opened.append(self.name) or real(self)
  )
  got = dict(files.read(tree, lambda name: name.endswith("one.bin")))
  assert got == {"a/one.bin": CONTENT["a/one.bin"]}
  assert opened == ["one.bin"]


def test_an_absent_path_is_refused(tmp_path):
  refused(tmp_path / "absent.tar", "does not exist")


@pytest.mark.parametrize("content", [b"", b"no archive at all", bytes(9)])
def test_what_is_no_archive_is_refused(tmp_path, content):
  path = tmp_path / "x.tar.gz"
  path.write_bytes(content)
  refused(path, "a damaged archive, or none")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9])
def test_an_archive_cut_off_anywhere_is_refused(tmp_path, compression, share):
  noise = {f"{i}": bytes(j * i % 251 for j in range(9000)) for i in range(4)}
  path = write_tar(tmp_path / "x.tar", noise, compression)
  whole = path.read_bytes()
  path.write_bytes(whole[: int(len(whole) * share)])
  with pytest.raises(UserError, match="a damaged archive"):
    everything(path)


def test_a_plain_archive_cut_off_between_two_files_is_refused(tmp_path):
  """Where nothing but the missing end shows it."""
  path = write_tar(tmp_path / "x.tar", {"a": b"1", "b": b"2"}, "")
  path.write_bytes(path.read_bytes()[: 2 * tarfile.BLOCKSIZE])
  refused(path, "its end is missing")


@pytest.mark.parametrize("compression", ["gz", "xz", "bz2"])
def test_a_wrong_checksum_is_refused(tmp_path, compression):
  """Even where it lies behind the last byte that tarfile asks for."""
  path = write_tar(tmp_path / "x.tar", {"a": bytes(20_000)}, compression)
  damaged = bytearray(path.read_bytes())
  damaged[{"gz": -8, "xz": -40, "bz2": -3}[compression]] ^= 0x55
  path.write_bytes(damaged)
  refused(path, "a damaged archive")


# In bz2 there are bytes that say nothing.
@pytest.mark.parametrize("compression", ["gz", "xz"])
@given(place=st.floats(0.1, 0.95))
def test_a_damaged_byte_is_refused_wherever_it_lies(compression, place):
  with tempfile.TemporaryDirectory() as folder:
    noise = bytes(i * i * i % 251 for i in range(5000))
    path = write_tar(Path(folder, "x.tar"), {"a": noise}, compression)
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] ^= 0x55
    path.write_bytes(damaged)
    refused(path, "a damaged archive")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_in_an_archive_is_refused(tmp_path, kind):
  """Rather than left out, which would lose an example unseen."""
  path = tmp_path / "x.tar"
  with tarfile.open(path, "w") as archive:
    archive.addfile(tarfile.TarInfo("real.bin"))
    link = tarfile.TarInfo("link.bin")
    link.type, link.linkname = kind, "real.bin"
    archive.addfile(link)
  refused(path, "link.bin is a link")


def test_a_file_that_can_not_be_read_is_named(tmp_path):
  (tmp_path / "gone.bin").symlink_to(tmp_path / "nowhere")
  with pytest.raises(UserError, match=r"gone\.bin: No such file"):
    everything(tmp_path)
  (tmp_path / "gone.bin").unlink()
  (tmp_path / "linked.bin").symlink_to(__file__)
  assert everything(tmp_path)["linked.bin"] == Path(__file__).read_bytes()
