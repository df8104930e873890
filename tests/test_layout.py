"""The plan of the house: who imports whom, and how long a file may be."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What each room may import besides itself and the foundation.
FOUNDATION = {"config", "errors"}
MAY_IMPORT = {
  "architectures": set(),
  "infrastructure": set(),
  "compression": {"architectures", "infrastructure"},
  "learning": {"architectures", "infrastructure"},
  "automation": {"architectures", "infrastructure", "compression", "learning"},
  "strategies": {
    *("architectures", "infrastructure", "compression", "learning"),
    "automation",
  },
  "config": set(),
  "errors": set(),
  "testing": {"architectures", "infrastructure", "compression", "learning"},
}


def imported_rooms(source: str) -> set[str]:
  """The rooms of effarch that a module imports from."""
  rooms = set()
  for node in ast.walk(ast.parse(source)):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, "a relative import"
      assert node.module
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
      parts = name.split(".")
      if parts[0] == "effarch" and len(parts) > 1:
        rooms.add(parts[1])
      elif parts[0] in ("configs", "experiments", "benchmarks", "tests"):
        rooms.add(parts[0])
  return rooms


def wrong_imports(room: str, source: str) -> set[str]:
  return imported_rooms(source) - MAY_IMPORT[room] - {room} - FOUNDATION


def modules():
  return sorted((ROOT / "effarch").rglob("*.py"))


@pytest.mark.parametrize(
  "module", modules(), ids=lambda p: str(p.relative_to(ROOT))
)
def test_rooms_import_only_what_lies_below(module):
  room = module.relative_to(ROOT / "effarch").parts[0].removesuffix(".py")
  if room != "__init__":
    assert not wrong_imports(room, module.read_text())


@pytest.mark.parametrize(
  ("room", "source", "wrong"),
  [
    ("architectures", "import effarch.infrastructure.data", "infrastructure"),
    ("infrastructure", "from effarch import architectures", "architectures"),
    (
      "infrastructure",
      "def f():\n  from effarch.learning import x",
      "learning",
    ),
    ("learning", "from effarch.compression import x", "compression"),
    ("automation", "from effarch.strategies import x", "strategies"),
    ("strategies", "from experiments import command", "experiments"),
  ],
)
def test_a_forbidden_import_is_seen(room, source, wrong):
  assert wrong_imports(room, source) == {wrong}


def test_files_are_short_and_none_is_a_drawer():
  for file in ROOT.rglob("*.py"):
    if any(part.startswith(".") for part in file.relative_to(ROOT).parts):
      continue
    lines = len(file.read_text().splitlines())
    assert lines <= 400, f"{file}: {lines} lines"
    assert file.stem not in ("utils", "util", "helpers", "misc", "common")
