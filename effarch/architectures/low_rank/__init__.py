"""Weights of few numbers, by name, and the layers that have them.

Each is made of named arguments: how many numbers, or the share `params_ratio`
of a dense weight's. `StructuredLinear` and `StructuredConv` are the layers,
`replace_linear` and `replace_conv` put them in the place of dense ones.
"""

from effarch.architectures.low_rank.acdc import ACDC
from effarch.architectures.low_rank.block_diagonal import BlockDiagonal
from effarch.architectures.low_rank.butterfly import Butterfly
from effarch.architectures.low_rank.canonical import CP
from effarch.architectures.low_rank.channel_low_rank import ChannelLowRank
from effarch.architectures.low_rank.circulant import Circulant
from effarch.architectures.low_rank.conv import ConvStructure, StructuredConv
from effarch.architectures.low_rank.dora import DoRA
from effarch.architectures.low_rank.fastfood import Fastfood
from effarch.architectures.low_rank.grouped_shuffle import GroupedShuffle
from effarch.architectures.low_rank.hypercomplex import Hypercomplex
from effarch.architectures.low_rank.kronecker import Kronecker
from effarch.architectures.low_rank.linear import StructuredLinear
from effarch.architectures.low_rank.lora import LoRA
from effarch.architectures.low_rank.low_rank import LowRank
from effarch.architectures.low_rank.low_rank_diagonal import LowRankDiagonal
from effarch.architectures.low_rank.low_rank_sparse import LowRankSparse
from effarch.architectures.low_rank.monarch import Monarch
from effarch.architectures.low_rank.replace import (
  Replacement,
  replace_conv,
  replace_linear,
)
from effarch.architectures.low_rank.spatial_low_rank import SpatialLowRank
from effarch.architectures.low_rank.structure import Frozen, LinearStructure
from effarch.architectures.low_rank.tensor_train import TensorTrain
from effarch.architectures.low_rank.toeplitz import Toeplitz
from effarch.architectures.low_rank.tucker import Tucker

STRUCTURES = {
  "low_rank": LowRank,
  "low_rank_sparse": LowRankSparse,
  "low_rank_diagonal": LowRankDiagonal,
  "lora": LoRA,
  "dora": DoRA,
  "block_diagonal": BlockDiagonal,
  "grouped_shuffle": GroupedShuffle,
  "monarch": Monarch,
  "butterfly": Butterfly,
  "kronecker": Kronecker,
  "hypercomplex": Hypercomplex,
  "tensor_train": TensorTrain,
  "circulant": Circulant,
  "toeplitz": Toeplitz,
  "acdc": ACDC,
  "fastfood": Fastfood,
}

CONV_STRUCTURES = {
  "channel_low_rank": ChannelLowRank,
  "spatial_low_rank": SpatialLowRank,
  "tucker": Tucker,
  "cp": CP,
}

__all__ = [
  "ACDC",
  "CONV_STRUCTURES",
  "CP",
  "STRUCTURES",
  "BlockDiagonal",
  "Butterfly",
  "ChannelLowRank",
  "Circulant",
  "ConvStructure",
  "DoRA",
  "Fastfood",
  "Frozen",
  "GroupedShuffle",
  "Hypercomplex",
  "Kronecker",
  "LinearStructure",
  "LoRA",
  "LowRank",
  "LowRankDiagonal",
  "LowRankSparse",
  "Monarch",
  "Replacement",
  "SpatialLowRank",
  "StructuredConv",
  "StructuredLinear",
  "TensorTrain",
  "Toeplitz",
  "Tucker",
  "replace_conv",
  "replace_linear",
]
