"""A run folder: the record of one training run, from which tables are made.

`config.json` what was asked; `provenance.jsonl` a line each time training
started: versions, device, commit, command; `metrics.jsonl` a line an
evaluation, free of wall times, so that equal runs have equal files;
`tensorboard/`; `checkpoints/`; `artifacts/`; `result.json`, written last.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import filelock
import jax
from tensorboardX import SummaryWriter

from effarch.config import flatten
from effarch.errors import BusyError, UserError

_PACKAGES = ("effarch", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


class RunFolder:
  """Reads and writes the files of one run; every write is whole or absent."""

  def __init__(self, path: str | os.PathLike[str]):
    self.path = pathlib.Path(path).expanduser()
    self._config: Mapping[str, Any] | None = None
    self._command = ""

  @classmethod
  def open(
    cls,
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    command: str = "",
  ) -> RunFolder:
    """Starts a run in `path`, or takes it up again.

    Args:
      path: the folder; created if absent.
      config: what defines the run, JSON-able.
      command: what a reader would type to repeat it.

    Raises:
      UserError: the folder holds a run of another config, training begun;
        where its data lay then may differ.
    """
    folder = cls(path)
    folder._command = command
    folder._config = json.loads(json.dumps(config))
    try:
      folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise UserError(f"workdir {path}: {error.strerror}") from error
    try:
      with folder._lock():
        folder._record_config()
    except filelock.Timeout:  # Who trains here has recorded the config.
      folder._refuse_difference()
    return folder

  @contextlib.contextmanager
  def training(self) -> Iterator[None]:
    """Keeps other processes from training here, and notes this start.

    Raises:
      UserError: another process trains here, or has trained another config.
    """
    lock = self._lock()
    try:
      lock.acquire()
    except filelock.Timeout:
      raise BusyError(
        f"workdir {self.path}: another process trains here; wait for it, or "
        "give another --workdir"
      ) from None
    try:
      self._record_config()
      starts = self.read_lines("provenance.jsonl")
      self.write_lines("provenance.jsonl", [*starts, provenance(self._command)])
      yield
    finally:
      lock.release()

  def _lock(self) -> filelock.BaseFileLock:
    # A moment's patience, since `open` holds it for a moment.
    return filelock.FileLock(self.path / ".lock", timeout=1)

  def _record_config(self) -> None:
    """Writes the config, unless one is trained already; needs the lock."""
    if self._config is None:
      return
    if self.has("metrics.jsonl"):
      self._refuse_difference()
    self.write("config.json", self._config)

  def _refuse_difference(self) -> None:
    before = flatten(self.read("config.json"), "config")
    after = flatten(self._config, "config")
    for key in sorted({**before, **after}):
      was, now = before.get(key), after.get(key)
      # Where data lies is not what a run is.
      moved = re.fullmatch(r"config\.data\.(.*\.)?path", key)
      if was != now and not moved:
        raise UserError(
          f"workdir {self.path}: holds a run with {key}={was!r}, not {now!r}; "
          "give another --workdir or remove the folder"
        )

  def has(self, name: str) -> bool:
    """Whether the file is there, and therefore complete."""
    return (self.path / name).exists()

  def read(self, name: str) -> Any:
    """Returns a JSON file's content.

    Raises:
      UserError: there is no such file, or it is no JSON.
    """
    try:
      return json.loads((self.path / name).read_text())
    except FileNotFoundError:
      raise UserError(f"{self.path}: holds no {name}; not a run?") from None
    except json.JSONDecodeError as error:
      raise UserError(f"{self.path / name}: {error}") from error

  def write(self, name: str, content: Any) -> None:
    """Writes a JSON file."""
    text = json.dumps(content, indent=2) + "\n"
    self.write_bytes(name, text.encode())

  def write_bytes(self, name: str, content: bytes) -> pathlib.Path:
    """Writes a file so that it is seen complete or not at all."""
    target = self.path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, target)
    return target

  def write_lines(
    self, name: str, rows: Iterable[Mapping[str, Any]]
  ) -> pathlib.Path:
    """Writes a `.jsonl` file."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return self.write_bytes(name, text.encode())

  def read_lines(self, name: str) -> list[dict[str, Any]]:
    """Returns the complete lines of a `.jsonl` file; none if it is absent."""
    file = self.path / name
    rows = []
    for line in file.read_text().splitlines() if file.exists() else ():
      try:
        rows.append(json.loads(line))
      except json.JSONDecodeError:  # The process died while it wrote this.
        break
    return rows


class MetricLog:
  """Appends to `metrics.jsonl` and to TensorBoard events.

  Args:
    folder: whose files these are.
    step: the step that training goes on from; later lines are dropped.
  """

  def __init__(self, folder: RunFolder, step: int):
    kept = [
      row for row in folder.read_lines("metrics.jsonl") if row["step"] <= step
    ]
    self._file = folder.write_lines("metrics.jsonl", kept).open("a")
    self._events = SummaryWriter(
      str(folder.path / "tensorboard"),
      purge_step=step + 1,
      # Files are named by the second, and an equal name is overwritten.
      filename_suffix=f".{step}",
    )

  def write(self, step: int, values: Mapping[str, int | float]) -> None:
    """Adds one line; it is on its way to the disk when this returns."""
    self._file.write(json.dumps({"step": step, **values}) + "\n")
    self._file.flush()
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def close(self) -> None:
    """Closes both files."""
    self._file.close()
    self._events.close()


def folder_name(entries: Iterable[str]) -> str:
  """Returns what tells a run from others, `w=0.25,seed=1`, as a folder's name.

  What a file system may not like becomes `-`; of no entries it is `default`.
  """
  name = ",".join(filter(None, entries))
  return re.sub(r"[^\w.,=-]+", "-", name) or "default"


def provenance(command: str = "") -> dict[str, Any]:
  """Returns what a number's reader needs to know of where it was made."""
  return {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "command": command,
    "commit": _commit(),
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    "platform": jax.default_backend(),
    "device": device_name(),
    "device_count": jax.device_count(),
  }


def device_name() -> str:
  """Returns what JAX computes on: the processor, or the accelerator's kind."""
  if jax.default_backend() == "cpu":
    return processor()
  return jax.devices()[0].device_kind


def processor() -> str:
  """Returns the CPU's name and how many cores this process may use."""
  name = platform.processor() or platform.machine()
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  if cpuinfo.exists():
    for line in cpuinfo.read_text().splitlines():
      if line.startswith("model name"):
        name = line.split(":", 1)[1].strip()
        break
  cores = (
    len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
  )
  return f"{name}, {cores} cores"


def _commit() -> str | None:
  """Returns the code's git commit, marked if the tree has changes."""
  command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
  here = pathlib.Path(__file__).parent
  try:
    answer = subprocess.run(
      command, cwd=here, capture_output=True, text=True, check=True
    )
  except (OSError, subprocess.CalledProcessError):
    return None
  return answer.stdout.strip()
