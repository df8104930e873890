"""What each structure's matrix is, told otherwise; and given matrices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from effarch.architectures.low_rank import (
  ACDC,
  CP,
  STRUCTURES,
  BlockDiagonal,
  Butterfly,
  ChannelLowRank,
  Circulant,
  DoRA,
  Fastfood,
  GroupedShuffle,
  Hypercomplex,
  Kronecker,
  LoRA,
  LowRank,
  LowRankDiagonal,
  LowRankSparse,
  Monarch,
  SpatialLowRank,
  TensorTrain,
  Toeplitz,
  Tucker,
)


def given_matrix(i=16, o=12, seed=0):
  return np.random.default_rng(seed).standard_normal((i, o))


def dense(structure, factors, *shape):
  factors = {name: jnp.asarray(value) for name, value in factors.items()}
  sizes = shape if len(shape) == 2 else ()
  return np.asarray(structure.to_dense(factors, *sizes))


def error(structure, weight):
  """The relative error of the nearest weight that is found."""
  found = dense(structure, structure.from_dense(weight), *weight.shape)
  return np.linalg.norm(found - weight) / np.linalg.norm(weight)


def tail(matrix, rank):
  """The error that no matrix of this rank can fall below."""
  values = np.linalg.svd(matrix, compute_uv=False)
  return np.sqrt((values[rank:] ** 2).sum()) / np.linalg.norm(matrix)


def drawn(structure, i, o):
  factors = structure.draw(jax.random.key(0), i, o)
  factors = {name: np.asarray(value) for name, value in factors.items()}
  return factors, dense(structure, factors, i, o)


# With so many numbers every matrix is one of the structure's.
FULL = [
  LowRank(rank=12),
  LowRankSparse(rank=12, per_output=1),
  LowRankSparse(rank=1, per_output=16),
  LowRankDiagonal(rank=12),
  LoRA(rank=1),
  DoRA(rank=1),
  BlockDiagonal(blocks=1),
  GroupedShuffle(blocks=1),
  Monarch(rank=3, blocks=4),
  Butterfly(block_size=8),
  Kronecker(rank=12),
  Hypercomplex(components=1),
  TensorTrain(rank=16, cores=2),
  TensorTrain(rank=16),
  Circulant(block_size=1),
  Toeplitz(block_size=1),
]


@pytest.mark.parametrize("structure", FULL, ids=str)
def test_in_full_every_matrix_is_exact(structure):
  assert error(structure, given_matrix()) < 1e-6


# Numbers grow from left to right.
GROWING = {
  "low_rank": ("rank", (1, 4, 8)),
  "low_rank_sparse": ("rank", (1, 4, 8)),
  "low_rank_diagonal": ("rank", (1, 4, 8)),
  "block_diagonal": ("blocks", (6, 3, 2)),
  "grouped_shuffle": ("blocks", (6, 3, 2)),
  "monarch": ("rank", (1, 2)),
  "butterfly": ("block_size", (1, 2, 4)),
  "kronecker": ("rank", (1, 4, 8)),
  "hypercomplex": ("components", (4, 2)),
  "tensor_train": ("rank", (1, 3, 6)),
  "circulant": ("block_size", (8, 4, 2)),
  "toeplitz": ("block_size", (8, 4, 2)),
  "acdc": ("stages", (1, 3, 5)),
  "fastfood": ("stages", (1, 2, 4)),
}


@pytest.mark.parametrize("name", GROWING)
def test_the_error_falls_with_numbers(name):
  field, sizes = GROWING[name]
  structures = [STRUCTURES[name](**{field: size}) for size in sizes]
  errors = [error(structure, given_matrix(32, 32)) for structure in structures]
  assert 0.9 > errors[-1] > 0.01
  for larger, smaller in itertools.pairwise(errors):
    assert smaller < 0.97 * larger


def test_adapters_begin_where_the_matrix_is():
  assert set(GROWING) | {"lora", "dora"} == set(STRUCTURES)


@settings(max_examples=15)
@given(st.integers(2, 17), st.integers(2, 17), st.integers(1, 6), st.data())
def test_low_rank_is_the_best_there_is(i, o, rank, data):
  weight = given_matrix(i, o, data.draw(st.integers(0, 99)))
  found = error(LowRank(rank=rank), weight)
  np.testing.assert_allclose(found, tail(weight, rank), atol=1e-6)


def test_monarch_is_the_best_of_each_tile():
  weight = given_matrix(16, 12)
  tiles = [
    weight[4 * n : 4 * n + 4, 3 * m : 3 * m + 3]
    for n in range(4)
    for m in range(4)
  ]
  best = sum((tail(t, 2) * np.linalg.norm(t)) ** 2 for t in tiles)
  found = error(Monarch(rank=2, blocks=4), weight)
  np.testing.assert_allclose(found, best**0.5 / np.linalg.norm(weight))


def test_kronecker_is_the_best_of_the_moved_matrix():
  weight = given_matrix(16, 12)
  moved = np.stack(
    [
      weight[4 * j : 4 * j + 4, 4 * p : 4 * p + 4].ravel()
      for j in range(4)
      for p in range(3)
    ]
  )
  found = error(Kronecker(rank=3, left=(4, 3)), weight)
  np.testing.assert_allclose(found, tail(moved, 3), rtol=1e-6)


def test_a_train_of_two_is_a_sum_of_kronecker_products():
  weight = given_matrix(16, 12)
  found = error(TensorTrain(rank=3, cores=2), weight)
  np.testing.assert_allclose(found, error(Kronecker(rank=3), weight), rtol=1e-6)


def test_a_train_is_nearly_the_best():
  """Of all cuts, the worst bounds from below, their sum from above."""
  weight = given_matrix(27, 8)
  digits = weight.reshape(3, 3, 3, 2, 2, 2).transpose(0, 3, 1, 4, 2, 5)
  cuts = [tail(digits.reshape(6**k, -1), 4) for k in (1, 2)]
  found = error(TensorTrain(rank=4), weight)
  assert max(cuts) <= found <= np.hypot(*cuts) + 1e-6


@pytest.mark.parametrize(
  "structure",
  [
    BlockDiagonal(blocks=4),
    GroupedShuffle(blocks=4),
    Circulant(block_size=4),
    Circulant(block_size=5),
    Toeplitz(block_size=4),
    Toeplitz(block_size=5),
  ],
  ids=str,
)
def test_linear_structures_are_projected_upon(structure):
  """What is left is orthogonal to all that the structure can make."""
  weight = given_matrix(16, 12)
  factors = structure.from_dense(weight)
  left = weight - dense(structure, factors, 16, 12)
  for name, factor in factors.items():
    for place in np.ndindex(factor.shape):
      one = {name: np.zeros_like(factor)}
      one[name][place] = 1.0
      made = dense(structure, one, 16, 12)
      assert abs((made * left).sum()) < 1e-5


# Sizes that these divide.
OWN = [
  LowRank(rank=3),
  LowRankDiagonal(rank=2),
  BlockDiagonal(blocks=4),
  GroupedShuffle(blocks=4),
  Monarch(rank=2, blocks=4),
  Butterfly(block_size=1),
  Butterfly(block_size=2),
  Kronecker(rank=3),
  Hypercomplex(components=2),
  TensorTrain(rank=3),
  Circulant(block_size=8),
  Toeplitz(block_size=8),
  ACDC(stages=1),
]


@pytest.mark.parametrize("structure", OWN, ids=str)
def test_a_matrix_of_its_own_is_found(structure):
  _, weight = drawn(structure, 16, 16)
  assert error(structure, weight) < 1e-5


def test_low_rank_and_sparse_parts_are_told_apart():
  rng = np.random.default_rng(0)
  weight = rng.standard_normal((40, 2)) @ rng.standard_normal((2, 30))
  places = rng.integers(0, 40, 30)
  weight[places, np.arange(30)] += 20
  found = LowRankSparse(rank=2, per_output=1).from_dense(weight)
  np.testing.assert_array_equal(found["places"][:, 0], places)
  np.testing.assert_allclose(found["values"], 20, rtol=1e-2)


# --- what each matrix is


def test_matrices_are_what_other_libraries_make_them():
  factors, found = drawn(BlockDiagonal(blocks=3), 9, 6)
  np.testing.assert_array_equal(
    found, scipy.linalg.block_diag(*factors["blocks"])
  )

  factors, found = drawn(Kronecker(rank=2, left=(2, 3)), 10, 12)
  want = sum(map(np.kron, factors["left"], factors["right"]))
  np.testing.assert_allclose(found, want, atol=1e-6)

  factors, found = drawn(Circulant(block_size=6), 6, 12)
  rows = [scipy.linalg.circulant(k).T for k in factors["kernels"][0]]
  np.testing.assert_array_equal(found, np.hstack(rows))

  factors, found = drawn(Toeplitz(block_size=5), 5, 5)
  kernel = factors["kernels"][0, 0]
  column = np.concatenate([kernel[:1], kernel[:4:-1]])
  want = scipy.linalg.toeplitz(column, kernel[:5])
  np.testing.assert_array_equal(found, want)


def test_groups_see_their_inputs_and_take_turns():
  _, found = drawn(GroupedShuffle(blocks=3), 6, 12)
  seen = [set(np.flatnonzero(column) // 2) for column in found.T]
  assert seen == [{n % 3} for n in range(12)]


def test_tiles_of_monarch_have_its_rank():
  _, found = drawn(Monarch(rank=2, blocks=3), 12, 15)
  ranks = {
    np.linalg.matrix_rank(found[4 * n : 4 * n + 4, 5 * m : 5 * m + 5], 1e-5)
    for n in range(3)
    for m in range(3)
  }
  assert ranks == {2}


def test_a_fourier_transform_is_a_butterfly():
  """Its outputs are in the order of their reversed bits."""
  matrix = scipy.linalg.dft(16)
  matrix = matrix[:, [int(f"{n:04b}"[::-1], 2) for n in range(16)]]
  # A complex number is a block of two.
  parts = np.empty((32, 32))
  parts[0::2, 0::2] = parts[1::2, 1::2] = matrix.real
  parts[0::2, 1::2] = matrix.imag
  parts[1::2, 0::2] = -matrix.imag
  assert error(Butterfly(block_size=2), parts) < 1e-6
  assert error(Butterfly(block_size=2), given_matrix(32, 32)) > 0.5


def test_cosine_and_hadamard_transforms():
  for structure, transform in (
    (ACDC(stages=1), scipy.fft.dct(np.eye(8), norm="ortho")),
    (Fastfood(stages=1), scipy.linalg.hadamard(8) / 8**0.5),
  ):
    fixed = [p for p in structure.parts(8, np.arange(8)) if p is not None]
    assert any(np.allclose(part, transform) for part in fixed)
    for part in fixed:
      np.testing.assert_allclose(part @ part.T, np.eye(8), atol=1e-12)


def test_adapted_lengths_are_learned_apart():
  factors, found = drawn(DoRA(rank=2), 8, 5)
  factors["up"] = given_matrix(2, 5)
  factors["length"] = np.arange(1.0, 6.0)
  turned = dense(DoRA(rank=2), factors, 8, 5)
  np.testing.assert_allclose(
    np.linalg.norm(turned, axis=0), np.arange(1, 6), rtol=1e-5
  )
  plain = dense(LoRA(rank=2), factors, 8, 5)
  cosine = (turned * plain).sum(0) / np.linalg.norm(plain, axis=0)
  np.testing.assert_allclose(cosine, np.arange(1, 6), rtol=1e-5)
  assert np.linalg.norm(turned - found) > 0.1


# --- kernels


def given_kernel(*shape):
  return np.random.default_rng(0).standard_normal(shape or (3, 3, 5, 6))


@pytest.mark.parametrize(
  "structure",
  [
    ChannelLowRank(rank=6),
    SpatialLowRank(rank=15),
    Tucker(rank=(5, 6)),
    CP(rank=45),
  ],
  ids=str,
)
def test_in_full_every_kernel_is_exact(structure):
  assert error(structure, given_kernel()) < 1e-6


@pytest.mark.parametrize(
  ("kind", "ranks"),
  [
    (ChannelLowRank, (1, 3, 5)),
    (SpatialLowRank, (1, 5, 10)),
    (Tucker, ((1, 1), (3, 3), (4, 5))),
    (CP, (1, 6, 16)),
  ],
)
def test_the_error_of_kernels_falls_with_rank(kind, ranks):
  errors = [error(kind(rank=rank), given_kernel()) for rank in ranks]
  for larger, smaller in itertools.pairwise(errors):
    assert 0.01 < smaller < 0.97 * larger


def test_kernels_of_low_rank_are_the_best_there_are():
  kernel = given_kernel()
  found = error(ChannelLowRank(rank=2), kernel)
  np.testing.assert_allclose(found, tail(kernel.reshape(45, 6), 2), rtol=1e-5)
  found = error(SpatialLowRank(rank=4), kernel)
  moved = kernel.transpose(0, 2, 1, 3).reshape(15, 18)
  np.testing.assert_allclose(found, tail(moved, 4), rtol=1e-5)


def test_tucker_is_between_its_bounds():
  """No worse than HOSVD, no better than either unfolding allows."""
  kernel = given_kernel()
  inputs = kernel.transpose(2, 0, 1, 3).reshape(5, -1)
  outputs = kernel.transpose(3, 0, 1, 2).reshape(6, -1)
  first = np.linalg.svd(inputs, full_matrices=False)[0][:, :2]
  second = np.linalg.svd(outputs, full_matrices=False)[0][:, :3]
  hosvd = np.einsum(
    "klcf,cr,dr,fs,gs->kldg", kernel, first, first, second, second
  )
  least = max(tail(inputs, 2), tail(outputs, 3))
  most = np.linalg.norm(hosvd - kernel) / np.linalg.norm(kernel)
  assert least <= error(Tucker(rank=(2, 3)), kernel) <= most


def test_a_kernel_of_few_terms_is_found():
  factors = CP(rank=2).draw(jax.random.key(3), 3, 3, 8, 9)
  kernel = np.asarray(CP(rank=2).to_dense(factors))
  assert error(CP(rank=2), kernel) < 1e-3


def test_of_one_tap_terms_are_singular_vectors():
  kernel = given_kernel(1, 1, 7, 6)
  found = error(CP(rank=3), kernel)
  np.testing.assert_allclose(found, tail(kernel[0, 0], 3), rtol=1e-5)
