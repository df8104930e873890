"""A trained model goes on with a text."""

import numpy as np
import pytest

from configs import digits
from configs.sequence import language
from effarch.automation.trial import Trial
from effarch.infrastructure.training import RunFolder
from experiments import generate, train

VARIANT = "full,features=32,depth=1,hidden=32,rate=0.01,epochs=30"
SENTENCE = "to be or not to be, "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A run whose text says one sentence again and again."""
  path = tmp_path_factory.mktemp("language")
  (path / "text.txt").write_text(SENTENCE * 400)
  config = language.get_config(VARIANT).to_dict()
  del config["measure"]  # No trial reads it.
  config["data"].update(path=str(path / "text.txt"), length=64)
  found = RunFolder.open(path / "run", config)
  Trial(config).train(found)
  return found


def test_it_says_what_it_was_taught(call, folder, capsys):
  call(lambda: generate.main(["to be or"]), f"--workdir={folder.path}")
  told = capsys.readouterr().out.strip("\n")
  # As many as there are places for; the last needs none.
  assert len(told) == 65
  assert told == (SENTENCE * 4)[:65]


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ([], 'a text to go on with is missing, say "To be"'),
    ([""], "a text to go on with is missing"),
    (["x" * 65], "the text has 65 tokens, and the model takes 64"),
  ],
)
def test_what_can_not_be_gone_on_with(refused, folder, words, message):
  told = refused(lambda: generate.main(words), f"--workdir={folder.path}")
  assert message in told


def test_a_text_that_changed_is_refused(refused, folder):
  """As many characters as before would fit the model, and mean others."""
  text = folder.path.parent / "text.txt"
  kept = text.read_text()
  text.write_text(kept.replace("t", "x"))
  told = refused(lambda: generate.main(["to"]), f"--workdir={folder.path}")
  text.write_text(kept)
  assert "its classes or tokens are not those" in told
  assert "give it the data it had" in told


def test_training_tells_bits_a_token(call, folder, capsys):
  config = folder.read("config.json")
  text = config["data"]["path"]
  call(
    lambda: train.main([]),
    f"--config=configs/sequence/language.py:{VARIANT}",
    f"--config.data.path={text}",
    "--config.data.length=64",
    f"--workdir={folder.path}",
  )
  told = capsys.readouterr().out
  bits = folder.read("result.json")["test/loss"] / np.log(2)
  assert f" ({bits:.4f} bits a token), " in told
  assert "best epoch" in told


def test_a_classifier_generates_nothing(refused, tmp_path, capsys):
  config = digits.get_config("w=0.05").to_dict()
  del config["study"]
  config["training"].update(epochs=1)
  folder = RunFolder.open(tmp_path, config)
  Trial(config).train(folder)
  capsys.readouterr()
  told = refused(lambda: generate.main(["a"]), f"--workdir={tmp_path}")
  assert told.endswith("is no model of a text file")
