import dataclasses
from typing import Any

import pytest
from ml_collections import ConfigDict

from effarch.config import (
  build,
  construct,
  did_you_mean,
  flatten,
  parse_variant,
)
from effarch.errors import UserError


@dataclasses.dataclass
class Layer:
  features: int
  scale: float = 1.0

  def __post_init__(self):
    if self.scale <= 0:
      raise ValueError(f"scale: {self.scale} is not positive")


def wrongly_typed(width: Any) -> float:
  return width / 2


def typed(epochs: int = 1, rate: float = 1.0, on: bool = True):
  return epochs, rate, on


TABLE = {"layer": Layer, "wrongly_typed": wrongly_typed}


def test_builds_what_the_name_says():
  config = ConfigDict({"name": "layer", "features": 3})
  assert build(TABLE, config, "config.model", scale=2.0) == Layer(3, 2.0)


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (
      {"name": "lyer"},
      r"config\.model\.name: 'lyer' is unknown; did you mean 'layer'\?",
    ),
    (
      {"name": "layer", "featurs": 1},
      r"config\.model\.featurs: unknown; did you mean 'features'\?",
    ),
    ({"name": "layer"}, r"config\.model\.features: missing"),
    (
      {"name": "layer", "features": 1, "scale": 0.0},
      r"config\.model\.scale: 0.0 is not positive",
    ),
    (
      {"name": "wrongly_typed", "width": "wide"},
      r"config\.model: .*unsupported operand",
    ),
    ({}, r"config\.model\.name: None is unknown"),
  ],
)
def test_errors_name_the_place_and_the_mend(config, message):
  with pytest.raises(UserError, match=message) as caught:
    build(TABLE, config, "config.model")
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ({"epochs": True}, r"^config\.epochs: True is no int$"),
    ({"epochs": 1.0}, r"^config\.epochs: 1\.0 is no int$"),
    ({"rate": True}, r"^config\.rate: True is no float$"),
    ({"on": 1}, r"^config\.on: 1 is no bool$"),
  ],
)
def test_true_is_no_number_and_one_is_no_bool(config, message):
  assert construct(typed, {"rate": 2}, "config") == (1, 2, True)
  with pytest.raises(UserError, match=message):
    construct(typed, config, "config")


def test_the_programs_own_inputs_are_not_the_users():
  with pytest.raises(UserError, match=r"config\.scale: unknown"):
    construct(Layer, {"features": 1, "scale": 2.0}, "config", scale=1.0)


def test_variants_are_typed_by_their_defaults():
  defaults = {"w": 1.0, "epochs": 3, "augment": False, "kind": "a"}
  assert parse_variant("", **defaults).to_dict() == defaults
  parsed = parse_variant("w=0.25,augment,epochs=7,kind=b", **defaults)
  assert parsed.to_dict() == {
    "w": 0.25,
    "epochs": 7,
    "augment": True,
    "kind": "b",
  }
  assert not parse_variant("augment=false", augment=True).augment


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("wide=1", "variant 'wide': choose from"),
    ("epoch=1", "did you mean 'epochs'"),
    ("epochs=1.5", "variant 'epochs': '1.5' is no int"),
    ("augment=perhaps", "variant 'augment': 'perhaps' is no bool"),
  ],
)
def test_variants_refuse_what_is_unknown(text, message):
  with pytest.raises(UserError, match=message):
    parse_variant(text, epochs=1, augment=False)


def test_a_bare_word_in_front_is_the_first_keys_value():
  defaults = {"mixer": "full", "short": False, "seed": 0}
  assert parse_variant("linear,seed=2", **defaults).mixer == "linear"
  assert parse_variant("linear,short", **defaults).short
  assert parse_variant("short", **defaults).mixer == "full"
  assert parse_variant("mixer=local", **defaults).mixer == "local"
  for text in ("seed=2,linear", "linear,local", "mixr=local"):
    with pytest.raises(UserError, match=r"did you mean|choose from"):
      parse_variant(text, **defaults)
  # Where the first is no string, a bare word is a key.
  with pytest.raises(UserError, match="variant 'linear'"):
    parse_variant("linear", epochs=1)


def test_the_hint_is_the_nearest_word_or_beginning():
  words = ["model.dtype", "model.width_multiplier", "seed"]
  assert did_you_mean("model.widht", words) == (
    "did you mean 'model.width_multiplier'?"
  )
  assert did_you_mean("model.dtpe", words) == "did you mean 'model.dtype'?"
  assert did_you_mean("zzz", words) == f"choose from {', '.join(sorted(words))}"


def test_flatten_names_every_leaf():
  tree = {"a": {"b": 1, "c": (2, 3)}, "d": ({"e": 4}, {"e": 5})}
  leaves = {"a.b": 1, "a.c": (2, 3), "d[0].e": 4, "d[1].e": 5}
  assert flatten(tree) == leaves
  assert flatten(ConfigDict(tree)) == leaves


class Base:
  def __init__(self, size: int, *, depth: int = 1, rate: float = 0.5):
    self.size, self.depth, self.rate = size, depth, rate


class Derived(Base):
  def __init__(self, width: int, *, rate: float = 0.1, **arguments):
    super().__init__(2 * width, rate=rate, **arguments)


def test_an_error_of_a_part_is_told_with_its_whole_place():
  def outer(*, inner, file=""):
    if file:
      raise UserError(f"{file}: does not exist")
    return build({"derived": Derived}, inner[0], "inner[0]")

  def made(**config):
    return build({"outer": outer}, {"name": "outer", **config}, "config.a")

  assert made(inner=({"name": "derived", "width": 1},)).size == 2
  with pytest.raises(UserError, match=r"^config.a.inner\[0\].wdith: unknown"):
    made(inner=({"name": "derived", "wdith": 1},))
  # What is complete stays as it is.
  with pytest.raises(UserError, match=r"^x/y.txt: does not exist$"):
    made(inner=(), file="x/y.txt")


def test_arguments_handed_on_to_a_base_are_arguments():
  table = {"derived": Derived}
  made = build(table, {"name": "derived", "width": 3, "depth": 4}, "config")
  assert (made.size, made.depth, made.rate) == (6, 4, 0.1)
  with pytest.raises(UserError, match=r"config.depht: .* mean 'depth'"):
    build(table, {"name": "derived", "width": 3, "depht": 4}, "config")
  with pytest.raises(UserError, match=r"config.depth: 'x' is no int"):
    build(table, {"name": "derived", "width": 3, "depth": "x"}, "config")
  # The base demands it, and the class gives it itself.
  with pytest.raises(UserError, match=r"config.size: unknown"):
    build(table, {"name": "derived", "width": 3, "size": 4}, "config")
