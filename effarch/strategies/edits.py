"""Configs made of others: entries changed, teachers named, errors placed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from effarch.automation.trial import Trial
from effarch.errors import UserError


def changed(
  tree: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns a tree with other entries; with another `name`, those alone."""
  if changes.get("name", tree.get("name")) != tree.get("name"):
    return dict(changes)
  found = dict(tree)
  for key, value in changes.items():
    within = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
    found[key] = changed(tree[key], value) if within else value
  return found


def leaves(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
  """Returns entries by path, as flags take them: lists are one."""
  found = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      found |= leaves(value, f"{before}{key}.")
    else:
      found[f"{before}{key}"] = value
  return found


def teachers(technique: Mapping[str, Any]) -> list[Any]:
  """Returns a technique's teachers, be it one, several or none."""
  given = technique.get("teacher", ())
  return list(given) if isinstance(given, list | tuple) else [given]


def taught(
  technique: Mapping[str, Any], folders: Mapping[str, str | Sequence[str]]
) -> dict[str, Any]:
  """Returns the technique with folders in place of teachers' names.

  Args:
    technique: an entry of `techniques`.
    folders: by name the folder of a run, or those of an ensemble.
  """
  if "teacher" not in technique:
    return dict(technique)
  found: list[Any] = []
  for each in teachers(technique):
    folder = folders.get(str(each), each)
    found += folder if isinstance(folder, list | tuple) else [folder]
  several = isinstance(technique["teacher"], list | tuple) or len(found) > 1
  return {**technique, "teacher": tuple(found) if several else found[0]}


def checked(config: Mapping[str, Any], places: Mapping[str, str]) -> Trial:
  """Returns a config's trial; its errors name where the config comes from.

  Args:
    config: a trial's.
    places: for the beginning of a place in the config, what stands there.

  Raises:
    UserError: an entry is unknown or impossible.
  """
  try:
    return Trial(copy.deepcopy(dict(config)))
  except UserError as error:
    told = str(error)
    for there, here in places.items():
      if told.startswith(there):
        raise UserError(here + told.removeprefix(there)) from error
    raise
