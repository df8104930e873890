"""What tests of convolutions share."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def quick_compilation():
  """Compiles without most optimizations: these programs run once or twice."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
