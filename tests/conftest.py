"""Tests run on the CPU, with shapes checked and compiled code cached."""

import os
import pathlib
import tempfile

# Before jax is imported.
os.environ["JAX_PLATFORMS"] = "cpu"
_CACHE = pathlib.Path(tempfile.gettempdir()) / "effarch-tests-jax-cache"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax  # noqa: E402
import jaxtyping  # noqa: E402

jaxtyping.install_import_hook("effarch", "beartype.beartype")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# The first example of a property compiles, so no example has a deadline.
settings.register_profile("effarch", deadline=None, max_examples=25)
settings.load_profile("effarch")

_SHARED = pathlib.Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """Data that lies beside the repository on its developers' machines."""
  if not _SHARED.is_dir():
    pytest.skip("the shared data is not beside this clone")
  return _SHARED


@pytest.fixture(scope="module")
def quick_compilation():
  """Compiles without most optimizations, for programs that run once or twice.

  Those with oneDNN's convolutions can't be kept in the cache.
  """
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True, scope="module")
def programs_of_a_module():
  """Frees what a module's tests have compiled.

  A process may have 65,530 regions of memory, and thousands of programs need
  more; the compiler then aborts.
  """
  yield
  jax.clear_caches()


@pytest.fixture(autouse=True)
def own_user_cache(tmp_path, monkeypatch):
  """Keeps decoded images out of the user's cache folder."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
