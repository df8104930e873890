"""Files of a folder or of a tar archive, read the same way."""

from __future__ import annotations

import lzma
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator

from effarch.errors import UserError


def listing(path: pathlib.Path) -> list[tuple[str, bool]]:
  """Returns every name under `path` and whether it is a folder, sorted.

  Names are relative and have `/` between parts; hidden ones are left out.

  Raises:
    UserError: `path` is absent, no folder and no tar archive, or damaged.
  """
  if path.is_dir():
    names = ((p.relative_to(path), p.is_dir()) for p in path.rglob("*"))
    entries = ((name.as_posix(), is_folder) for name, is_folder in names)
    return sorted(entry for entry in entries if not _hidden(entry[0]))
  members = _unpack(path, lambda name: False)
  return sorted((name, is_folder) for name, is_folder, _ in members)


def read(
  path: pathlib.Path, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes]]:
  """Yields the name and content of each wanted file, in storage order.

  Raises:
    UserError: as for `listing`.
  """
  if path.is_dir():
    for name, is_folder in listing(path):
      if not is_folder and wanted(name):
        try:
          content = (path / name).read_bytes()
        except OSError as error:
          raise UserError(f"{path / name}: {error.strerror}") from error
        yield name, content
    return
  for name, is_folder, content in _unpack(path, wanted):
    if not is_folder and wanted(name):
      yield name, content


def _unpack(
  path: pathlib.Path, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bool, bytes]]:
  """Yields name, whether a folder, and content where it is wanted.

  Members come one after the other, so each byte is unpacked once.
  """
  if not path.exists():
    raise UserError(f"{path}: does not exist")
  try:
    with tarfile.open(path, "r:*") as archive:
      for member in archive:
        name = pathlib.PurePosixPath(member.name).as_posix()
        if _hidden(name):
          continue
        content = b""
        if member.isfile():
          file = archive.extractfile(member)
          assert file is not None  # A regular file has content.
          content = file.read() if wanted(name) else b""
        elif not member.isdir():
          raise tarfile.TarError(f"{name} is a link; store what it points to")
        yield name, member.isdir(), content
      _check_end(archive.fileobj)
  except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as e:
    reason = str(e).split("\n")[0].rstrip(":")
    raise UserError(
      f"{path}: a damaged archive, or none ({reason}); fetch it again"
    ) from e


def _check_end(file) -> None:
  """Refuses an archive that was cut off, which tarfile takes for whole.

  Two blocks of zeros end it, of which tarfile has read one. Reading on to the
  last byte compares the checksum of what was compressed.
  """
  if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
    raise tarfile.TarError("its end is missing")
  while file.read(1 << 20):
    pass


def _hidden(name: str) -> bool:
  return any(part.startswith(".") for part in name.split("/"))
