"""Commands, run in this process."""

import pathlib
import sys
import warnings

import pytest
from absl import app, flags
from absl.testing import flagsaver

from experiments import command

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def call(monkeypatch):
  """Calls a function in a command of these arguments; returns its answer."""
  # The real one would name the process and set up logging.
  monkeypatch.setattr(
    app, "run", lambda main, flags_parser: main(flags_parser(sys.argv))
  )
  monkeypatch.chdir(ROOT)

  def run(function, *arguments):
    monkeypatch.setattr(sys, "argv", ["experiments/train.py", *arguments])
    # Every override becomes a flag of its own.
    saved = flagsaver.save_flag_values()
    answers = []
    try:
      with warnings.catch_warnings():
        # ml_collections' own way of loading a config.
        warnings.filterwarnings("ignore", ".*load_module", DeprecationWarning)
        command.run(lambda argv: answers.append(function()))
    finally:
      flagsaver.restore_flag_values(saved)
      flags.FLAGS.unparse_flags()
    (answer,) = answers
    return answer

  return run


@pytest.fixture
def refused(call, capsys):
  """Calls a function that ends the command; returns its line."""

  def run(function, *arguments):
    # An interrupt that came through would end pytest itself.
    with pytest.raises((SystemExit, KeyboardInterrupt)) as caught:
      call(function, *arguments)
    assert caught.type is SystemExit
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").removesuffix("\n")

  return run
