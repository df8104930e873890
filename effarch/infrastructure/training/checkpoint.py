"""Checkpoints that survive a kill at any moment, by Orbax."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies


class Checkpoints:
  """The latest and the best state of one run, and nothing else.

  A step counts once Orbax has committed it, so a process that dies while it
  writes leaves the step before.

  Args:
    directory: where they are kept; created if absent. The best has the largest
      metric, or the smallest if it is a loss; of equals it is the latest.
  """

  def __init__(self, directory: pathlib.Path):
    def score(metrics):
      ((name, value),) = metrics.items()
      return -value if name.endswith("loss") else value

    policy = policies.AnyPreservationPolicy(
      [policies.LatestN(1), policies.BestN(get_metric_fn=score, n=1)]
    )
    # A kill while Orbax deletes a step leaves parts, which it then neither
    # reads nor deletes.
    for step in directory.glob("[0-9]*"):
      parts = (step / "_CHECKPOINT_METADATA", step / "metrics" / "metrics")
      if step.name.isdigit() and not all(part.exists() for part in parts):
        shutil.rmtree(step)
    self._manager = ocp.CheckpointManager(
      directory.absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        best_fn=score,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=False,
      ),
    )

  def latest_step(self) -> int | None:
    """Returns the newest step, or `None` before the first."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """Returns the step with the best metric, or `None` before the first."""
    return self._manager.best_step()

  def save(
    self,
    step: int,
    trees: dict[str, Any],
    notes: dict[str, Any],
    metric: dict[str, float],
  ) -> None:
    """Writes named pytrees and JSON-able notes, and waits for the disk."""
    items = {k: ocp.args.StandardSave(v) for k, v in trees.items()}
    args = ocp.args.Composite(notes=ocp.args.JsonSave(notes), **items)
    self._manager.save(step, args=args, metrics=metric)

  def restore(
    self, step: int, like: dict[str, Any]
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the pytrees named in `like`, placed and typed so, and notes."""
    items = {
      name: ocp.args.StandardRestore(
        jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
      )
      for name, tree in like.items()
    }
    args = ocp.args.Composite(notes=ocp.args.JsonRestore(), **items)
    restored = self._manager.restore(step, args=args)
    return {name: restored[name] for name in like}, restored["notes"]

  def holds(self, step: int, params: Any) -> bool:
    """Returns whether a step's parameters have the shapes of these.

    Args:
      step: that is kept; its tree `model` begins with the parameters.
      params: a tree.
    """
    path = self._manager.directory / str(step) / "model"
    kept, *_ = ocp.PyTreeCheckpointHandler().metadata(path).tree
    shapes = [[x.shape for x in jax.tree.leaves(t)] for t in (kept, params)]
    return sorted(shapes[0]) == sorted(shapes[1])

  def close(self) -> None:
    """Releases the manager's threads."""
    self._manager.close()
