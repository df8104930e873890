"""From `ml_collections` configs to objects, with errors that name the mend."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from effarch.errors import UserError

# Annotations that are checked, with the types of value that fit each.
_SIMPLE = {
  "bool": (bool,),
  "float": (float, int),
  "int": (int,),
  "str": (str,),
}


def did_you_mean(word: str, words: Iterable[str]) -> str:
  """Returns a hint: the nearest of `words`, or all of them if none is near."""
  words = sorted(str(w) for w in words)

  def likeness(other: str) -> float:
    # "width" is near "width_multiplier": its beginning counts as well.
    parts = (other, other[: len(word)])
    return max(difflib.SequenceMatcher(None, word, p).ratio() for p in parts)

  nearest = max(words, key=likeness, default="")
  if likeness(nearest) >= 0.5:
    return f"did you mean {nearest!r}?"
  return f"choose from {', '.join(words)}"


def construct(
  target: Callable[..., Any],
  config: Mapping[str, Any] | ConfigDict,
  where: str,
  **inputs: Any,
) -> Any:
  """Calls `target` with a config's entries as keyword arguments.

  Args:
    target: a class or function.
    config: keyword arguments that the user wrote.
    where: the config's own place, `"config.training"`, for messages.
    **inputs: keyword arguments that the program adds.

  Raises:
    UserError: an argument is unknown, missing, or refused by `target` with a
      `ValueError` or `TypeError`, whose text then starts with the argument; a
      `UserError` that starts otherwise is complete.
  """
  parameters = _parameters(target)
  allowed = [name for name in parameters if name not in inputs]
  for key, value in config.items():
    if key not in allowed:
      raise UserError(f"{where}.{key}: unknown; {did_you_mean(key, allowed)}")
    annotation = parameters[key].annotation
    kind = str(getattr(annotation, "__name__", annotation))
    if kind in _SIMPLE and type(value) not in _SIMPLE[kind]:
      raise UserError(f"{where}.{key}: {value!r} is no {kind}")
  for name in allowed:
    needed = parameters[name].default is inspect.Parameter.empty
    if needed and name not in config:
      raise UserError(f"{where}.{name}: missing")
  try:
    return target(**{k: _plain(v) for k, v in config.items()}, **inputs)
  except (ValueError, TypeError) as error:
    told = str(error).strip().split("\n")[0]
    names_argument = re.split(r"\W", told)[0] in allowed
    if isinstance(error, UserError) and not names_argument:
      raise
    raise UserError(
      f"{where}{'.' if names_argument else ': '}{told}"
    ) from error


def arguments(target: Callable[..., Any]) -> list[str]:
  """Returns the names of what a class or function takes."""
  return list(_parameters(target))


def _parameters(target) -> dict[str, inspect.Parameter]:
  if isinstance(target, functools.partial):
    return {
      name: parameter.replace(
        default=target.keywords.get(name, parameter.default)
      )
      for name, parameter in _parameters(target.func).items()
    }
  if not isinstance(target, type):
    return dict(inspect.signature(target).parameters)
  # NNX's metaclass hides the signature of the class itself. What a class hands
  # on to its base by `**arguments` are its arguments too, but those that the
  # base demands, which it gives itself.
  found: dict[str, inspect.Parameter] = {}
  inherited = False
  for cls in target.__mro__:
    if "__init__" not in vars(cls):
      continue
    own = dict(inspect.signature(cls.__init__).parameters)
    rest = [p for p in own.values() if p.kind is p.VAR_KEYWORD]
    for name, parameter in own.items():
      demanded = parameter.default is inspect.Parameter.empty
      if parameter not in rest and not (inherited and demanded):
        found.setdefault(name, parameter)
    inherited = True
    if not rest:
      break
  found.pop("self", None)
  return found


def build(
  table: Mapping[str, Callable[..., Any]],
  config: Mapping[str, Any] | ConfigDict,
  where: str,
  **inputs: Any,
) -> Any:
  """Makes `table[config["name"]]` from the rest of the config.

  Args:
    table: names to classes or functions.
    config: `name`, and keyword arguments for what the name stands for.
    where: the config's own place, for messages.
    **inputs: keyword arguments that the program adds.

  Raises:
    UserError: no such name or argument (the nearest is named), or a value
      that was refused.
  """
  entries = dict(config)
  name = entries.pop("name", None)
  if name not in table:
    hint = did_you_mean(str(name), table)
    raise UserError(f"{where}.name: {name!r} is unknown; {hint}")
  return construct(table[name], entries, where, **inputs)


def parse_variant(text: str | None, **defaults: Any) -> ConfigDict:
  """Reads what follows the colon in `--config=FILE:w=0.25,augment`.

  Args:
    text: `key=value` pairs with commas between; a bare `key` means true, and
      a bare word in front that is no key is the value of the first key.
    **defaults: every key there is, with the value that also gives its type.

  Raises:
    UserError: an unknown key or a value of the wrong type.
  """
  variant = ConfigDict(defaults)
  first = next(iter(defaults), "")
  for place, part in enumerate(filter(None, (text or "").split(","))):
    key, equals, value = part.partition("=")
    named = key in defaults or equals or type(defaults.get(first)) is not str
    if not place and not named:
      key, equals, value = first, "=", part
    if key not in defaults:
      raise UserError(f"variant {key!r}: {did_you_mean(key, defaults)}")
    kind = type(defaults[key])
    try:
      if kind is bool:
        flags = {"true": True, "1": True, "false": False, "0": False}
        variant[key] = flags[value.lower()] if equals else True
      else:
        variant[key] = kind(value)
    except (KeyError, ValueError):
      raise UserError(
        f"variant {key!r}: {value!r} is no {kind.__name__}"
      ) from None
  return variant


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
  """Returns a config's leaves by path.

  Such as `{"model.width_multiplier": 0.25, "techniques[0].max_shift": 3}`;
  a list of anything but mappings is one leaf.
  """
  if isinstance(tree, Mapping | ConfigDict):
    dot = "." if prefix else ""
    parts = [(f"{prefix}{dot}{key}", value) for key, value in tree.items()]
  elif isinstance(tree, list | tuple) and any(
    isinstance(value, Mapping | ConfigDict) for value in tree
  ):
    parts = [(f"{prefix}[{place}]", value) for place, value in enumerate(tree)]
  else:
    return {prefix: tree}
  leaves = {}
  for path, value in parts:
    leaves.update(flatten(value, path))
  return leaves


def _plain(value: Any) -> Any:
  if isinstance(value, ConfigDict):
    return value.to_dict()
  # What was a tuple came back from JSON as a list.
  return tuple(value) if isinstance(value, list) else value
