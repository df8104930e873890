"""The exam of trainings that are killed, and what must fail it."""

import itertools

import numpy as np
import optax
import pytest
from flax import nnx

from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import Loop, RunFolder, fit
from effarch.testing import check_resumes

DATA = Dataset(
  np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32),
  np.arange(8, dtype=np.int32) % 2,
  ("a", "b"),
)


def train(folder, epochs=3, seed=0):
  return fit(
    nnx.Linear(2, 2, rngs=nnx.Rngs(0)),
    DATA,
    DATA,
    loop=Loop(epochs, 4),
    optimizer=optax.sgd(0.1),
    folder=RunFolder(folder),
    seed=seed,
  )


def test_passes_the_loop(tmp_path):
  assert check_resumes(train, tmp_path) == train(tmp_path / "whole")


def test_fails_what_goes_on_with_other_random_numbers(tmp_path):
  seeds = itertools.count()
  with pytest.raises(AssertionError, match="other numbers"):
    check_resumes(lambda folder: train(folder, seed=next(seeds)), tmp_path)


def test_fails_what_ends_before_it_is_killed(tmp_path):
  with pytest.raises(AssertionError, match="tells nothing"):
    check_resumes(lambda folder: train(folder, epochs=1), tmp_path)
