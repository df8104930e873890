"""What every command shares: flags, checked overrides, errors in one line."""

from __future__ import annotations

import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, cast

from absl import app, flags, logging
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags as library
from rich.console import Console

from effarch.automation.trial import COMMANDS, NAMED
from effarch.config import arguments, construct, did_you_mean, flatten
from effarch.errors import UserError
from effarch.infrastructure.cost import Sweep
from effarch.infrastructure.training import folder_name
from effarch.strategies import STRATEGIES
from effarch.strategies.arms import Comparison

_CONFIG = library.DEFINE_config_file(
  "config",
  help_string="FILE[:variant]; --config.KEY=VALUE overrides a key.",
  # Keys that the file leaves at their defaults; `_check_keys` knows them.
  accept_new_attributes=True,
  lock_config=False,
)
# What the trial itself reads of a part that has a name.
_OWN = {"optimizer": ("learning_rate", "clip_norm", "schedule")}
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is recorded.")


# The config's parts that have a `name`, those of commands too.
_NAMED = {**NAMED, "strategy": (STRATEGIES, ())}
# What takes the entries of a config's parts that no trial reads.
_PARTS: dict[str, type] = {"compare": Comparison, "measure": Sweep}


def run(main: Callable[[list[str]], None]) -> None:
  """Runs `main` on the positional arguments; user errors exit with 2."""
  logging.set_verbosity(logging.WARNING)

  def guarded(argv: list[str]) -> None:
    try:
      main(argv[1:])
    except (UserError, FloatingPointError) as error:
      _exit(str(error))
    except KeyboardInterrupt:
      _exit("stopped; the same command goes on from the last checkpoint")

  app.run(guarded, flags_parser=_parse)


def config() -> ConfigDict:
  """Returns the config of `--config`, overridden.

  Raises:
    UserError: there is none.
  """
  chosen = _CONFIG.value
  if chosen is None:
    raise UserError("--config=FILE is missing, say --config=configs/digits.py")
  overridden = dict(_overrides(sys.argv))
  for path, (table, _) in _NAMED.items():
    name = overridden.get(f"{path}.name")
    if name and name in table:
      # Entries of what stood there before mean nothing now.
      kept = {"name", *_OWN.get(path, ()), *arguments(table[name])}
      for key in set(chosen[path]) - kept:
        if f"{path}.{key}" not in overridden:
          del chosen[path][key]
  return chosen


def trial_config() -> dict[str, Any]:
  """Returns the config without the parts that no trial reads."""
  return {k: v for k, v in config().to_dict().items() if k not in COMMANDS}


def part(name: str) -> Any:
  """Returns what the entries of such a part make.

  Raises:
    UserError: the part is missing, or an entry impossible.
  """
  entries = config().to_dict().get(name)
  if entries is None:
    raise UserError(f"config.{name}: missing; the file needs {name} = {{}}")
  return construct(_PARTS[name], entries, f"config.{name}")


def config_flags() -> list[str]:
  """Returns `--config=...` and its overrides, less what no trial reads."""
  overrides = [
    f"--config.{key}={value}"
    for key, value in _overrides(sys.argv)
    if key.partition(".")[0] not in COMMANDS
  ]
  return [f"--config={config_file()}", *overrides]


def train_command(entries: Mapping[str, Any], folder: pathlib.Path) -> str:
  """Returns what a user would type to repeat one of several runs.

  Args:
    entries: in which its config differs, by path.
    folder: the run's.
  """
  return shlex.join(
    [
      *("python", "-m", "experiments.train"),
      *config_flags(),
      *(f"--config.{key}={value}" for key, value in entries.items()),
      f"--workdir={folder}",
    ]
  )


def workdir(default: str | None = None) -> pathlib.Path:
  """Returns `--workdir`, or else a folder named after config and overrides.

  Raises:
    UserError: `--workdir` is needed and missing.
  """
  given = given_workdir()
  if given is not None:
    return given
  if default is None:
    raise UserError("--workdir=FOLDER of a run is missing")
  return pathlib.Path("runs") / _study_name() / default


def given_workdir() -> pathlib.Path | None:
  """Returns `--workdir`, if it is given."""
  if _WORKDIR.value is None:
    return None
  return pathlib.Path(_WORKDIR.value).expanduser()


def run_name() -> str:
  """Returns variant and overrides, `w=0.25,seed=1`; else `default`."""
  variant = config_file().partition(":")[2]
  overrides = [
    f"{key.split('.')[-1]}={value}"
    for key, value in _overrides(sys.argv)
    # Where data lies is not what a run is.
    if not re.fullmatch(r"data\.(.*\.)?path", key)
  ]
  return folder_name([variant, *overrides])


def config_file() -> str:
  """Returns `FILE[:variant]`, as it was given."""
  return library.get_config_filename(flags.FLAGS["config"])


def command_line() -> str:
  """Returns what the user typed, to be shown and typed again."""
  module = pathlib.Path(sys.argv[0]).stem
  return shlex.join(["python", "-m", f"experiments.{module}", *sys.argv[1:]])


def console() -> Console:
  """Returns the terminal; wide enough for tables where there is none."""
  out = Console()
  return out if out.is_terminal else Console(width=120)


def _study_name() -> str:
  file = pathlib.PurePath(config_file().partition(":")[0]).with_suffix("")
  parts = file.parts
  return "/".join(parts[1:] if parts[0] == "configs" else parts[-1:])


def _overrides(argv: list[str]) -> list[tuple[str, str]]:
  """Returns the keys and values of `--config.KEY=VALUE`."""
  found = [re.match(r"--?config\.([^=]+)=(.*)", arg) for arg in argv]
  return [(match[1], match[2]) for match in found if match]


def _parse(argv: list[str]) -> list[str]:
  """Parses the flags; what is wrong with them is told in one line."""
  try:
    _check_keys(argv)
    return flags.FLAGS(argv)
  except UserError as error:
    _exit(str(error))
  except Exception as error:  # The libraries raise a dozen kinds.
    for key, value in _overrides(argv):
      if re.search(rf"config\.{re.escape(key)}\b", str(error)):
        _exit(f"config.{key}: {value!r} is of a wrong type")
    _exit(_first_line(error))


def _check_keys(argv: list[str]) -> None:
  """Reads the config by itself and looks every override's key up in it."""
  named = re.search(r"(?:^|\n)--?config[=\n](.*)", "\n".join(argv))
  if not named:
    return
  parser = library.ConfigFileFlagParser("config")
  try:
    plain = dict(cast(ConfigDict, parser.parse(named[1])).items())
  except Exception as error:  # Whatever the file's own code may raise.
    lines = str(error).strip().split("\n")
    told = lines[-1].removeprefix("effarch.errors.UserError: ")
    raise UserError(f"--config={named[1]}: {told.strip()}") from error
  for arg in argv:
    if re.match(r"--?config\.[^=]*$", arg):
      raise UserError(f"{arg}: lacks its value; write {arg}=VALUE")
  keys = {*flatten(plain), *_defaults(plain, dict(_overrides(argv)))}
  groups = {
    key[: match.start()] for key in keys for match in re.finditer(r"[.[]", key)
  }
  for key, _ in _overrides(argv):
    if key not in keys and key not in groups:
      raise UserError(f"config.{key}: unknown; {did_you_mean(key, keys)}")


def _defaults(plain: dict[str, Any], overrides: dict[str, str]) -> set[str]:
  """Returns what the chosen source, model, ... take, in the file or not."""
  found = {
    f"{name}.{key}"
    for name, taker in _PARTS.items()
    if name in plain
    for key in arguments(taker)
  }
  for path, (table, added) in _NAMED.items():
    group = plain
    for part in path.split("."):
      group = group.get(part, {})
    name = overrides.get(f"{path}.name", group.get("name"))
    if name and name in table:
      found |= {
        f"{path}.{key}" for key in arguments(table[name]) if key not in added
      }
  return found


def _first_line(error: Exception) -> str:
  lines = [line for line in str(error).strip().split("\n") if line.strip()]
  return lines[0] if lines else type(error).__name__


def _exit(message: str) -> NoReturn:
  print(f"error: {message}", file=sys.stderr)
  sys.exit(2)
