"""Counts of known networks against what has been published of them."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from benchmarks.networks import GPT2, NETWORKS, mobilenet_v1
from effarch.architectures.models import MODELS
from effarch.infrastructure.cost import measure
from effarch.testing import check_report

# Parameters and MACs, as printed.
PUBLISHED = {
  "mobilenet_v1_1.0": (4231976, 568740352),
  "mobilenet_v1_0.5": (1331592, 149497088),
  "mobilenet_v2_1.0": (3504872, 300774272),
  "mobilenet_v3_large": (5483032, "0.217G"),
  "efficientnet_b0": (5288548, "0.386G"),
  "mnasnet_b1": (4383312, "0.314G"),
  "shufflenet_v2_x1.0": (2278604, "0.145G"),
  "squeezenet_1.1": (1235496, "0.349G"),
  "mobilenet_v4_conv_s": ("3.77M", "0.19G"),
  "mobileone_s0_fused": ("2.08M", "0.28G"),
  "resnet_18": (11689512, "1.814G"),
  "resnet_20_cifar_option_a": (269722, 40551040),
  "wide_resnet_28_10": (36479194, 5243328768),
  "convnext_tiny": (28589128, "4.456G"),
  "vit_tiny_16": (5717416, 1253683200),
  "mobilevit_xxs": ("1.27M", "0.42G"),
  "bert_base": (109482240, None),
}
TOKENS = jax.ShapeDtypeStruct((1, 1024), jnp.int32)


def as_printed(number, like):
  """The number with as many digits as `like` has, if that is no integer."""
  if not isinstance(like, str):
    return number
  unit = like[-1]
  digits = len(like[:-1].partition(".")[2])
  return f"{number / {'M': 10**6, 'G': 10**9}[unit]:.{digits}f}{unit}"


@functools.cache
def report(name):
  make, inputs = NETWORKS[name]
  return measure(make(), *inputs)


@functools.cache
def gpt2_report(scanned):
  model = nnx.eval_shape(lambda: GPT2(scanned=scanned, rngs=nnx.Rngs(0)))
  return measure(model, TOKENS)


def written(report, kind):
  """How many numbers all modules of a kind return."""
  rows = [row for row in report.by_module.values() if row.kind == kind]
  return sum(output.size for row in rows for output in row.outputs)


def test_every_network_has_its_published_numbers():
  assert NETWORKS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs(name):
  params, macs = PUBLISHED[name]
  found = report(name)
  assert as_printed(found.params, params) == params
  if name == "mobilevit_xxs":
    # timm's figures are fvcore's. To the MACs it adds two for each number that
    # BatchNorm returns and five for LayerNorm, which here makes a digit.
    norms = 2 * written(found, "BatchNorm") + 5 * written(found, "LayerNorm")
    assert (found.macs, norms) == (407364096, 10819584)
    assert as_printed(found.macs + norms, macs) == macs
  elif macs is not None:
    assert as_printed(found.macs, macs) == macs


@pytest.mark.parametrize("name", PUBLISHED)
def test_own_costs_add_up(name):
  check_report(report(name))


# The paper prints 317M and 34M.
@pytest.mark.parametrize(
  ("width", "side", "macs"), [(0.75, 224, "325.40M"), (0.25, 192, "30.21M")]
)
def test_misprints_of_the_first_mobilenet(width, side, macs):
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  assert as_printed(measure(mobilenet_v1(width), image).macs, macs) == macs


@pytest.mark.parametrize(("width", "size"), [(1.0, 1343018), (0.05, 14713)])
def test_survey_counts_statistics_too(width, size):
  def make():
    return MODELS["survey_cnn"](
      (32, 32, 3), 10, width_multiplier=width, rngs=nnx.Rngs(0)
    )

  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  found = measure(nnx.eval_shape(make), image)
  assert found.params + found.statistics == size
  check_report(found)


@pytest.mark.parametrize("scanned", [False, True])
def test_gpt2_small_forward(scanned):
  found = gpt2_report(scanned)
  assert found.params == 124439808
  # FLOPs of matrix products alone, over 1,024 tokens.
  assert 2 * found.macs == 291648307200
  # One row for all blocks, if they are stacked.
  block, times = ("blocks", 12) if scanned else ("blocks.3", 1)
  rows = found.by_module
  assert 2 * rows[block].macs == times * 17716740096
  products = 2 * 1610612736  # QK^T, and its softmax times V
  assert 2 * rows[f"{block}.attention"].own.macs == times * products
  check_report(found)


def test_stacked_blocks_cost_what_a_list_of_them_does():
  assert gpt2_report(True).numbers() == gpt2_report(False).numbers()
