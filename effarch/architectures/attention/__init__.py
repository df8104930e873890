"""Token mixers by name; each maps `B T C` to `B T C`.

What each supports is its `supports`; all take `context`, `mask` and `causal`.
"""

from effarch.architectures.attention.aft import AttentionFree
from effarch.architectures.attention.big_bird import BigBirdAttention
from effarch.architectures.attention.block_sparse import BlockSparseAttention
from effarch.architectures.attention.cosformer import CosFormerAttention
from effarch.architectures.attention.delta import DeltaNet
from effarch.architectures.attention.dilated import DilatedAttention
from effarch.architectures.attention.fnet import FNet
from effarch.architectures.attention.full import FullAttention
from effarch.architectures.attention.gated_delta import GatedDeltaNet
from effarch.architectures.attention.gated_linear import GatedLinearAttention
from effarch.architectures.attention.gmlp import GatedMLP
from effarch.architectures.attention.grouped_query import GroupedQueryAttention
from effarch.architectures.attention.hyena import Hyena
from effarch.architectures.attention.latent import LatentAttention
from effarch.architectures.attention.linear import LinearAttention
from effarch.architectures.attention.linformer import LinformerAttention
from effarch.architectures.attention.local import LocalAttention
from effarch.architectures.attention.longformer import LongformerAttention
from effarch.architectures.attention.mamba2 import Mamba2
from effarch.architectures.attention.mixer import Mixer, Supports
from effarch.architectures.attention.mlp_mixer import MLPMixer
from effarch.architectures.attention.multi_query import MultiQueryAttention
from effarch.architectures.attention.nystromformer import NystromAttention
from effarch.architectures.attention.performer import PerformerAttention
from effarch.architectures.attention.random_feature import (
  RandomFeatureAttention,
)
from effarch.architectures.attention.reformer import ReformerAttention
from effarch.architectures.attention.retnet import Retention
from effarch.architectures.attention.s4d import S4D
from effarch.architectures.attention.s5 import S5
from effarch.architectures.attention.sinkhorn import SinkhornAttention
from effarch.architectures.attention.sliding_window import (
  SlidingWindowAttention,
)
from effarch.architectures.attention.synthesizer import (
  DenseSynthesizer,
  FactorizedRandomSynthesizer,
  RandomSynthesizer,
)
from effarch.architectures.attention.top_k import TopKAttention

ATTENTION = {
  # Exact.
  "full": FullAttention,
  "grouped_query": GroupedQueryAttention,
  "multi_query": MultiQueryAttention,
  "latent": LatentAttention,
  # Sparse.
  "local": LocalAttention,
  "sliding_window": SlidingWindowAttention,
  "dilated": DilatedAttention,
  "block_sparse": BlockSparseAttention,
  "longformer": LongformerAttention,
  "big_bird": BigBirdAttention,
  "sinkhorn": SinkhornAttention,
  "reformer": ReformerAttention,
  "top_k": TopKAttention,
  # Low-rank.
  "linformer": LinformerAttention,
  "nystromformer": NystromAttention,
  "dense_synthesizer": DenseSynthesizer,
  "random_synthesizer": RandomSynthesizer,
  "factorized_random_synthesizer": FactorizedRandomSynthesizer,
  # Kernels.
  "linear": LinearAttention,
  "performer": PerformerAttention,
  "cosformer": CosFormerAttention,
  "random_feature": RandomFeatureAttention,
  # Recurrent.
  "retnet": Retention,
  "gated_linear": GatedLinearAttention,
  "delta": DeltaNet,
  "gated_delta": GatedDeltaNet,
  "mamba2": Mamba2,
  "s4d": S4D,
  "s5": S5,
  # Without attention.
  "fnet": FNet,
  "gmlp": GatedMLP,
  "mlp_mixer": MLPMixer,
  "aft": AttentionFree,
  "hyena": Hyena,
}

__all__ = ["ATTENTION", "Mixer", "Supports"]
