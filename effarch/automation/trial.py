"""A trial: one config trained, judged and shipped, in one run folder.

The config's parts are `seed`, `data`, `model`, `techniques` (a list),
`optimizer` (with its `schedule`, `learning_rate` and `clip_norm`),
`training`, and `export`. What `compare`, `measure`, `strategy` and
`study` hold is for commands.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optax
from flax import nnx

from effarch import compression, learning
from effarch.architectures.convolution import fold
from effarch.architectures.models import MODELS
from effarch.compression.quantize import PRECISIONS, Quantize
from effarch.config import (
  arguments,
  build,
  construct,
  did_you_mean,
  flatten,
)
from effarch.errors import UserError
from effarch.infrastructure.cost import Report, measure
from effarch.infrastructure.data import IMAGES, SOURCES, decode
from effarch.infrastructure.export import FORMATS, read_artifacts, ship
from effarch.infrastructure.training import (
  OPTIMIZERS,
  SCHEDULES,
  Loop,
  RunFolder,
  Technique,
  best_model,
  clipped,
  evaluate,
  fit,
)

_PARTS = (
  "data",
  "export",
  "model",
  "optimizer",
  "seed",
  "techniques",
  "training",
)

TECHNIQUES = {**learning.TECHNIQUES, **compression.TECHNIQUES}

# Parts of a config that commands read, and no trial.
COMMANDS = ("compare", "measure", "strategy", "study")
# Of activations that are watched at once.
_CALIBRATION_BATCH = 20
# What a result holds of the model's cost.
_COST = ("params", "statistics", "size_bytes", "macs", "flops", "unknown")

# The config's parts that have a `name`, with what the program adds to each.
NAMED: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
  "data": (SOURCES, ()),
  "data.source": (IMAGES, ()),
  "model": (MODELS, ("input_shape", "num_classes", "vocab_size", "rngs")),
  "optimizer": (OPTIMIZERS, ()),
  "optimizer.schedule": (SCHEDULES, ("learning_rate", "total_steps")),
}


@dataclasses.dataclass(frozen=True)
class Export:
  """What ships.

  Args:
    precisions: a file for each of these: `float32`, `int8` and `int4` (of
      weights; activations have eight bits), quantized after training; or
      `trained`, as the technique `quantize` has trained it.
    calibration_size: training examples that quantization looks at.
    formats: each of these in `litert`, `onnx` or `stablehlo`, or several.
  """

  precisions: tuple[str, ...] = ("float32", "int8")
  calibration_size: int = 200
  formats: tuple[str, ...] = ("litert",)

  def __post_init__(self):
    for field, known in (("precisions", PRECISIONS), ("formats", FORMATS)):
      if not getattr(self, field):
        raise ValueError(f"{field}: is empty")
      for name in getattr(self, field):
        if name not in known:
          hint = did_you_mean(name, known)
          raise ValueError(f"{field}: {name!r} is unknown; {hint}")
    if self.calibration_size < 1:
      raise ValueError(
        f"calibration_size: {self.calibration_size} is not positive"
      )


class Trial:
  """A config whose every entry has been read and found possible.

  Nothing is computed by making one: that is what checks a config.

  Args:
    config: nested mappings; see the module's docstring.

  Raises:
    UserError: an entry is missing, unknown, of a wrong type or impossible.
  """

  def __init__(self, config: Mapping[str, Any]):
    config = {k: v for k, v in config.items() if k not in COMMANDS}
    for key in config:
      if key not in _PARTS:
        raise UserError(f"config.{key}: unknown; {did_you_mean(key, _PARTS)}")
    for key in _PARTS:
      if key not in config:
        raise UserError(f"config.{key}: missing")
    self.config = config
    self.source = build(SOURCES, config["data"], "config.data")
    self.loop: Loop = construct(Loop, config["training"], "config.training")
    self.export: Export = construct(Export, config["export"], "config.export")
    self.seed = _seed(config["seed"])
    self.techniques: tuple[Technique, ...] = tuple(
      _technique(entry, f"config.techniques[{place}]")
      for place, entry in enumerate(config["techniques"])
    )
    self.optimizer(total_steps=1000)
    self._check_precisions()
    self._check_logits()

  def model(self, **changes: Any) -> nnx.Module:
    """Returns a new model with the seed's initial parameters.

    Args:
      **changes: entries that replace those of the config.
    """
    name = self.config["model"].get("name")
    kind = MODELS.get(name)
    tokens = {}
    if kind is not None and "vocab_size" in arguments(kind):
      tokens["vocab_size"] = self.source.vocab_size
    elif kind is not None and self.source.vocab_size:
      raise UserError(
        f"config.model.name: {name} takes no tokens, which config.data gives"
      )
    return build(
      MODELS,
      {**self.config["model"], **changes},
      "config.model",
      input_shape=self.source.input_shape,
      num_classes=len(self.source.class_names),
      rngs=nnx.Rngs(self.seed),
      **tokens,
    )

  def _check_logits(self) -> None:
    """Refuses a model whose logits have no labels."""
    example = self.source.example()

    def logits(x):
      model = self.model()
      model.eval()
      return model(x)

    shape = nnx.eval_shape(logits, example).shape[1:-1]
    if shape != tuple(self.source.label_shape):
      one = {True: "each token", False: "each example"}
      raise UserError(
        f"config.model.name: {self.config['model']['name']} has a class for "
        f"{one[bool(shape)]}, and config.data one for "
        f"{one[bool(self.source.label_shape)]}"
      )

  def _check_precisions(self) -> None:
    """Refuses files that are not of what is trained."""
    quantized = any(isinstance(each, Quantize) for each in self.techniques)
    for name in self.export.precisions:
      if quantized and name != "trained":
        raise UserError(
          f"config.export.precisions: {name!r} would undo the technique "
          "quantize; ship 'trained'"
        )
      if name == "trained" and not quantized:
        raise UserError(
          "config.export.precisions: 'trained' is of the technique quantize, "
          "which config.techniques lacks"
        )

  def train(self, folder: RunFolder) -> dict[str, Any]:
    """Trains, or goes on training, and judges the best checkpoint once.

    Returns:
      What `result.json` holds: the best checkpoint's step, epoch and metrics,
      `test/...` metrics, its times as `fit` gives them, and the model's cost.

    Raises:
      UserError: see `fit`, or the data's classes have changed since.
      FloatingPointError: the loss is no longer finite.
    """
    self._check_classes(folder)
    if folder.has("result.json"):
      return folder.read("result.json")
    folder.write("classes.json", self.source.class_names)
    train, validation = (
      self.source.load("train"),
      self.source.load("validation"),
    )
    steps = self.loop.epochs * self.loop.steps_per_epoch(len(train))
    result = fit(
      self.model(),
      train,
      validation,
      loop=self.loop,
      optimizer=self.optimizer(steps),
      folder=folder,
      seed=self.seed,
      techniques=self.techniques,
    )
    model = self.trained(folder)
    test = evaluate(model, self.source.load("test"), buckets=self.loop.buckets)
    result.update({f"test/{name}": value for name, value in test.items()})
    cost = self.cost(model)
    result.update({name: getattr(cost, name) for name in _COST})
    folder.write("result.json", result)
    return result

  def trained(self, folder: RunFolder) -> nnx.Module:
    """Returns the best checkpoint's model, in evaluation mode.

    Raises:
      UserError: nothing is trained, or the data's classes have changed since.
    """
    self._check_classes(folder)
    return self._best(self.model(), folder)

  def _best(self, model: nnx.Module, folder: RunFolder) -> nnx.Module:
    return best_model(model, folder, self.source.example(), self.techniques)

  def _check_classes(self, folder: RunFolder) -> None:
    """Refuses data whose classes are not those that the run began with."""
    now = list(self.source.class_names)
    if folder.has("classes.json") and folder.read("classes.json") != now:
      raise UserError(
        f"config.data: its classes or tokens are not those that {folder.path} "
        "was trained on; give it the data it had, or train in another --workdir"
      )

  def cost(self, model: nnx.Module) -> Report:
    """Returns the cost of one example."""
    return measure(model, self.source.example())

  def ship(self, folder: RunFolder) -> list[dict[str, Any]]:
    """Writes the run's artifacts; see `effarch.infrastructure.export.ship`.

    Nothing is done if all are there. A model that was trained in bfloat16
    ships computing in float32, which the files' runtimes have, and what folds
    for inference is folded.

    Raises:
      UserError: the training is not finished.
    """
    if not folder.has("result.json"):
      raise UserError(
        f"{folder.path}: its training is not finished; give the command that "
        "trains it again"
      )
    rows = read_artifacts(folder)
    wanted = itertools.product(self.export.precisions, self.export.formats)
    if {(row["precision"], row["format"]) for row in rows} >= set(wanted):
      return rows
    return ship(
      self._precisions(fold(self._best(self.model(dtype="float32"), folder))),
      folder,
      validation=self.source.load("validation"),
      test=self.source.load("test"),
      formats=self.export.formats,
    )

  def untrained(self) -> Iterator[tuple[str, nnx.Module]]:
    """Returns what would ship without training, in each precision.

    Its numbers are drawn: of initial ones many are equal, which files store
    once.
    """
    example = self.source.example()
    model = self.model(dtype="float32")
    for technique in self.techniques:
      model = technique.model(model, example)
    model.eval()
    generator = np.random.default_rng(0)
    for _, leaf in nnx.iter_graph(model):
      if isinstance(leaf, nnx.Param | nnx.BatchStat):
        drawn = generator.uniform(0.01, 0.1, leaf.shape)
        leaf[...] += np.asarray(drawn, leaf.dtype)
    for technique in self.techniques:
      model = technique.finish(model)
    yield from self._precisions(fold(model))

  def _precisions(self, model: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
    """Returns the model in each precision that ships."""
    train = self.source.load("train")
    drawn = np.random.default_rng(0).permutation(len(train))
    drawn = drawn[: self.export.calibration_size]
    batches = [
      decode(train.inputs[drawn[start : start + _CALIBRATION_BATCH]])
      for start in range(0, len(drawn), _CALIBRATION_BATCH)
    ]
    for name in self.export.precisions:
      yield name, PRECISIONS[name](model, batches)

  def optimizer(self, total_steps: int) -> optax.GradientTransformation:
    """Returns the optimizer of a training of so many steps."""
    where = "config.optimizer"
    entries = dict(self.config["optimizer"])
    for key in ("learning_rate", "clip_norm", "schedule"):
      if key not in entries:
        raise UserError(f"{where}.{key}: missing")
    for key, value in flatten(entries).items():
      number = type(value) in (int, float)  # And no bool.
      if number and not 0 <= value < math.inf:
        raise UserError(f"{where}.{key}: {value} is not in [0, inf)")
      if not number and key in ("learning_rate", "clip_norm"):
        raise UserError(f"{where}.{key}: {value!r} is no number")
    learning_rate = entries.pop("learning_rate")
    if not learning_rate:
      raise UserError(f"{where}.learning_rate: {learning_rate} is not positive")
    clip_norm = entries.pop("clip_norm")
    schedule = build(
      SCHEDULES,
      entries.pop("schedule"),
      f"{where}.schedule",
      learning_rate=learning_rate,
      total_steps=total_steps,
    )
    tx = build(OPTIMIZERS, entries, where, learning_rate=schedule)
    return clipped(tx, clip_norm)


def load_run(path: str) -> nnx.Module:
  """Returns what a run folder's trial has trained, in evaluation mode.

  Raises:
    UserError: there is no run, or its training is not finished.
  """
  folder = RunFolder(path)
  config = folder.read("config.json")
  if not folder.has("result.json"):
    raise UserError(f"{path}: its training is not finished; train it first")
  return Trial(config).trained(folder)


def _technique(config: Mapping[str, Any], where: str) -> Technique:
  kind = TECHNIQUES.get(str(config.get("name")))
  # A technique that reads runs can't import what makes their models.
  loads = kind is not None and "load" in arguments(kind)
  inputs = {"load": load_run} if loads else {}
  return build(TECHNIQUES, config, where, **inputs)


def _seed(value: Any) -> int:
  # No boolean, though Python takes it for a number.
  if type(value) is not int or not 0 <= value < 2**32:
    raise UserError(
      f"config.seed: {value!r} is not a whole number in [0, 2**32)"
    )
  return value
