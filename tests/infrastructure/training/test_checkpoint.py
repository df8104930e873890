import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effarch.infrastructure.training.checkpoint import Checkpoints

TREES = {
  "model": (
    {"w": jnp.arange(6, dtype=jnp.float32).reshape(2, 3)},
    {"key": jax.random.key(3), "half": jnp.ones(2, jnp.bfloat16)},
  ),
  "optimizer": (jnp.int32(7), {"m": jnp.zeros((2, 3))}),
}


@pytest.fixture
def filled(tmp_path):
  """Steps 1 to 5, best at 2; kept are 2 and 5."""
  checkpoints = Checkpoints(tmp_path)
  for step, score in zip(range(1, 6), (0.1, 0.9, 0.3, 0.2, 0.4), strict=True):
    trees = jax.tree.map(lambda x: x, TREES)
    trees["optimizer"] = (jnp.int32(step), TREES["optimizer"][1])
    checkpoints.save(step, trees, {"seconds": step / 2}, {"score": score})
  checkpoints.close()
  return tmp_path


def steps(folder):
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def test_a_saved_step_is_on_the_disk(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, TREES, {}, {"score": 0.5})
  # Not closed: what another process would find now.
  assert steps(tmp_path) == [1]
  checkpoints.close()


def test_keeps_the_best_and_the_latest_exactly(filled):
  assert steps(filled) == [2, 5]
  checkpoints = Checkpoints(filled)
  assert (checkpoints.best_step(), checkpoints.latest_step()) == (2, 5)
  trees, notes = checkpoints.restore(5, TREES)
  checkpoints.close()
  assert notes == {"seconds": 2.5}
  assert int(trees["optimizer"][0]) == 5
  chex.assert_trees_all_equal(trees["model"][0], TREES["model"][0])
  assert trees["model"][1]["half"].dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    jax.random.key_data(trees["model"][1]["key"]),
    jax.random.key_data(jax.random.key(3)),
  )


def test_of_equal_scores_the_latest_is_best(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  for step in (1, 2):
    checkpoints.save(step, TREES, {}, {"score": 0.5})
  assert checkpoints.best_step() == 2
  checkpoints.close()


def test_restores_one_tree_alone(filled):
  checkpoints = Checkpoints(filled)
  trees, _ = checkpoints.restore(2, {"model": TREES["model"]})
  checkpoints.close()
  assert list(trees) == ["model"]


def test_nothing_is_there_before_the_first(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.latest_step() is None
  assert checkpoints.best_step() is None
  checkpoints.close()


def files_of(folder):
  return sorted(p for p in folder.rglob("*") if p.is_file())


def test_half_removed_step_is_no_obstacle(filled, tmp_path_factory):
  """An old step is removed file by file; a kill can fall between any two."""
  template = filled / "5"
  names = [p.relative_to(template) for p in files_of(template)]
  for kept in range(len(names)):
    folder = tmp_path_factory.mktemp("half") / "checkpoints"
    shutil.copytree(filled, folder)
    for name in names[:kept]:
      (folder / "3" / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(template / name, folder / "3" / name)
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest_step() == 5
    assert checkpoints.best_step() == 2, f"with {names[:kept]}"
    checkpoints.restore(5, TREES)
    checkpoints.save(6, TREES, {}, {"score": 0.0})
    checkpoints.close()
    assert steps(folder) == [2, 6], f"with {names[:kept]}"


def test_half_written_step_is_no_obstacle(filled, tmp_path_factory):
  """What a kill leaves of step 6 before Orbax has committed it."""
  template = filled / "5"
  names = [p.relative_to(template) for p in files_of(template)]
  for kept in (0, len(names) // 2, len(names) - 1):
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    shutil.copytree(filled, folder)
    partial = folder / "6.orbax-checkpoint-tmp"
    partial.mkdir()
    for name in names[:kept]:
      (partial / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(template / name, partial / name)
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest_step() == 5
    checkpoints.save(6, TREES, {}, {"score": 0.0})
    checkpoints.restore(6, TREES)
    checkpoints.close()
