"""Known networks that counters of parameters and MACs are compared on.

They are not the models that effarch ships: each is a table of numbers over a
few blocks, right in its layers and never trained. BatchNorm is in inference
mode, images are `B H W C`. Where a paper and its code differ, the code counts.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

_norm = partial(nn.BatchNorm, use_running_average=True)
_mean = partial(jnp.mean, axis=(1, 2))
_pool = partial(
  nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME"
)


def _module(function):
  """Turns a function of an input and of numbers into a Linen module's class."""

  class Made(nn.Module):
    numbers: tuple
    named: dict

    @nn.compact
    def __call__(self, x):
      return function(x, *self.numbers, **self.named)

  Made.__name__ = Made.__qualname__ = function.__name__
  return lambda *numbers, **named: Made(numbers, named)


@_module
def conv(x, size, kernel=3, stride=1, act=nn.relu, fused=False):
  """A convolution, then BatchNorm unless `fused`; channelwise if no size."""
  groups = 1 if size else x.shape[-1]
  plain = partial(nn.Conv, feature_group_count=groups, use_bias=fused)
  x = plain(size or groups, (kernel, kernel), stride)(x)
  x = x if fused else _norm()(x)
  return act(x) if act else x


@_module
def squeeze(x, size, act=nn.relu, gate=nn.hard_sigmoid):
  """Scales each channel by a function of all channels' means."""
  y = act(nn.Dense(size)(x.mean((1, 2), keepdims=True)))
  return x * gate(nn.Dense(x.shape[-1])(y))


@_module
def inverted(x, size, ratio, kernel, stride, act, excite, before):
  """Expands, filters each channel and projects; kernels of 0 filter nothing."""
  y = x
  if before:
    y = conv(None, before, 1 if kernel else stride, None)(y)
  if ratio != 1:
    y = conv(round(ratio * x.shape[-1]), 1, 1, act)(y)
  if kernel:
    y = conv(None, kernel, stride, act)(y)
  y = conv(size, 1, 1, None)(excite(y) if excite else y)
  return x + y if x.shape == y.shape else y


@_module
def basic(x, size, stride, projects=True):
  """ResNet's block; a shortcut that does not project is padded with zeros."""
  y = conv(size, 3, 1, None)(conv(size, 3, stride)(x))
  if x.shape != y.shape and projects:
    x = conv(size, 1, stride, None)(x)
  elif x.shape != y.shape:
    extra = (size - x.shape[-1]) // 2
    x = jnp.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(extra, extra)])
  return nn.relu(x + y)


@_module
def wide(x, size, stride):
  """Wide ResNet's block: BatchNorm and ReLU come first."""
  plain = partial(nn.Conv, size, use_bias=False)
  y = nn.relu(_norm()(x))
  if x.shape[-1] != size:
    x = plain((1, 1), stride)(y)
  y = plain((3, 3), stride)(y)
  return x + plain((3, 3))(nn.relu(_norm()(y)))


@_module
def shuffle(x, size, stride):
  """ShuffleNet V2's block, over half of the channels where it can."""
  left, right = jnp.split(x, 2, -1) if stride == 1 else (x, x)
  if stride > 1:
    left = conv(size // 2, 1)(conv(None, 3, stride, None)(left))
  right = conv(None, 3, stride, None)(conv(size // 2, 1)(right))
  both = jnp.stack([left, conv(size // 2, 1)(right)], -1)
  return both.reshape(*both.shape[:-2], size)


@_module
def fire(x, size):
  """SqueezeNet's block."""
  x = nn.relu(nn.Conv(size // 8, (1, 1))(x))
  sides = [nn.Conv(size // 2, (side, side))(x) for side in (1, 3)]
  return nn.relu(jnp.concatenate(sides, -1))


class ConvNeXt(nn.Module):
  """ConvNeXt's block."""

  @nn.compact
  def __call__(self, x):
    size = x.shape[-1]
    y = nn.LayerNorm()(nn.Conv(size, (7, 7), feature_group_count=size)(x))
    y = nn.Dense(size)(nn.gelu(nn.Dense(4 * size)(y), approximate=False))
    return x + self.param("scale", nn.initializers.ones, (size,)) * y


@_module
def encoder(x, num_heads, hidden, act=nn.gelu, last=False):
  """A transformer's layer: norms come first, or `last`, after the sums."""
  attention = nn.MultiHeadDotProductAttention(num_heads)
  up, down = nn.Dense(hidden), nn.Dense(x.shape[-1])
  for part in (attention, lambda y: down(act(up(y)))):
    norm = nn.LayerNorm()
    x = norm(x + part(x)) if last else x + part(norm(x))
  return x


@_module
def mobilevit(x, size, depth):
  """MobileViT's block: attention among pixels of one place in 2 x 2 patches."""
  b, h, w, c = x.shape
  y = nn.Conv(size, (1, 1), use_bias=False)(conv(c, 3, 1, nn.silu)(x))
  y = y.reshape(b, h // 2, 2, w // 2, 2, size).transpose(0, 2, 4, 1, 3, 5)
  patches, y = y.shape, y.reshape(4 * b, h * w // 4, size)
  for _ in range(depth):
    y = encoder(4, 2 * size, nn.silu)(y)
  y = nn.LayerNorm()(y).reshape(patches).transpose(0, 3, 1, 4, 2, 5)
  y = conv(c, 1, 1, nn.silu)(y.reshape(b, h, w, size))
  return conv(c, 3, 1, nn.silu)(jnp.concatenate([x, y], -1))


class Patches(nn.Module):
  """ViT's inputs: a class token and the patches, each with its place."""

  size: int

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(self.size, (16, 16), 16)(x).reshape(x.shape[0], -1, self.size)
    token = self.param("token", nn.initializers.zeros, (1, 1, self.size))
    x = jnp.concatenate([jnp.broadcast_to(token, x[:, :1].shape), x], 1)
    return x + self.param("places", nn.initializers.zeros, x.shape[1:])


@_module
def words(tokens, size):
  """BERT's inputs: words, 512 places and two segments."""
  inputs = tokens, jnp.arange(tokens.shape[1]), jnp.zeros_like(tokens)
  pairs = zip((30522, 512, 2), inputs, strict=True)
  return nn.LayerNorm()(sum(nn.Embed(n, size)(ids) for n, ids in pairs))


def _chain(*layers, classes=1000):
  return nn.Sequential([*layers, nn.Dense(classes)])


def _stages(block, sizes, depths, first=2):
  """Returns blocks of a size and a stride; each stage's first one strides."""
  return [
    block(size, 1 if n else 2 if stage else first)
    for stage, (size, depth) in enumerate(zip(sizes, depths, strict=True))
    for n in range(depth)
  ]


def _read(table, act=nn.relu, gates=()):
  """Returns inverted residuals of a table, `"c24 e6 s2 r3, c40 e6 k5 q10"`.

  Channels, expansion, stride, repeats, of which the first strides, kernel,
  squeezed channels, and as `a` the kernel of a filter ahead of the expansion.
  """
  blocks = []
  for row in table.split(","):
    given = {cell[0]: ast.literal_eval(cell[1:]) for cell in row.split()}
    usual = {"c": 0, "e": 1, "s": 1, "r": 1, "k": 3, "q": 0, "a": 0}
    c, e, s, r, k, q, a = (usual | given).values()
    for stride in (s, *[1] * (r - 1)):
      excite = squeeze(q, *gates) if q else None
      blocks.append(inverted(c, e, k, stride, act, excite, a))
  return blocks


def _separable(sizes, depths, first=2, fused=False):
  """Returns a network of filters, each with a 1 x 1 convolution after it."""
  layers = [conv(sizes[0], 3, 2, fused=fused)]
  for size, stride in _stages(lambda *row: row, sizes[1:], depths, first):
    layers += [conv(None, 3, stride, fused=fused), conv(size, 1, fused=fused)]
  return _chain(*layers, _mean)


def mobilenet_v1(width: float = 1.0) -> nn.Module:
  """MobileNet V1, each layer of so many times the channels."""
  sizes = [int(size * width) for size in (32, 64, 128, 256, 512, 1024)]
  return _separable(sizes, (1, 2, 2, 6, 2), first=1)


def _mobileone():
  return _separable((48, 48, 128, 256, 1024), (2, 8, 10, 1), fused=True)


def _mobile(act, table, gates=()):
  stem, last = conv(32, 3, 2, act), conv(1280, 1, 1, act)
  return _chain(stem, *_read(table, act, gates), last, _mean)


_mobilenet_v2 = partial(
  _mobile,
  nn.relu6,
  "c16, c24 e6 s2 r2, c32 e6 s2 r3, c64 e6 s2 r4, c96 e6 r3, c160 e6 s2 r3, "
  "c320 e6",
)
_mnasnet = partial(
  _mobile,
  nn.relu,
  "c16, c24 e3 s2 r3, c40 e3 k5 s2 r3, c80 e6 k5 s2 r3, c96 e6 r2, "
  "c192 e6 k5 s2 r4, c320 e6",
)
_efficientnet = partial(
  _mobile,
  nn.silu,
  "c16 q8, c24 e6 s2 q4, c24 e6 q6, c40 e6 k5 s2 q6, c40 e6 k5 q10, "
  "c80 e6 s2 q10, c80 e6 q20 r2, c112 e6 k5 q20, c112 e6 k5 q28 r2, "
  "c192 e6 k5 s2 q28, c192 e6 k5 q48 r3, c320 e6 q48",
  gates=(nn.silu, nn.sigmoid),
)


def _mobilenet_v3():
  act = nn.hard_swish
  early = "c16, c24 e4 s2, c24 e3, c40 e3 k5 s2 q24, c40 e3 k5 q32 r2"
  late = (
    "c80 e6 s2, c80 e2.5, c80 e2.3 r2, c112 e6 q120, c112 e6 q168, "
    "c160 e6 k5 s2 q168, c160 e6 k5 q240 r2"
  )
  blocks = *_read(early), *_read(late, act), conv(960, 1, 1, act)
  return _chain(conv(16, 3, 2, act), *blocks, _mean, nn.Dense(1280), act)


def _mobilenet_v4():
  blocks = _read(
    "c96 e3 k5 s2 a5, c96 e2 r4, c96 e4 k0 a3, c128 e6 s2 a3, "
    "c128 e4 k5 a5, c128 e4 k5, c128 e3 k5, c128 e4 r2"
  )
  stem = conv(32, 3, 2), conv(32, 3, 2), conv(32, 1), conv(96, 3, 2)
  last = conv(960, 1), partial(_mean, keepdims=True), conv(1280, 1)
  return _chain(*stem, conv(64, 1), *blocks, *last, _mean)


def _mobilevit():
  act = nn.silu
  layers = [conv(16, 3, 2, act), *_read("c16 e2, c24 e2 s2 r3", act)]
  for row, *sizes in (("c48", 64, 2), ("c64", 80, 4), ("c80", 96, 3)):
    layers += [*_read(f"{row} e2 s2", act), mobilevit(*sizes)]
  return _chain(*layers, conv(320, 1, 1, act), _mean)


def _squeezenet():
  pool = partial(_pool, padding="VALID")
  layers = [nn.Conv(64, (3, 3), 2, "VALID"), nn.relu]
  for sizes in ((128, 128), (256, 256), (384, 384, 512, 512)):
    layers += [pool, *map(fire, sizes)]
  return nn.Sequential([*layers, nn.Conv(1000, (1, 1)), nn.relu, _mean])


def _convnext():
  layers = [nn.Conv(96, (4, 4), 4), nn.LayerNorm()]
  for size, depth in ((96, 3), (192, 3), (384, 9), (768, 3)):
    if size > 96:
      layers += [nn.LayerNorm(), nn.Conv(size, (2, 2), 2)]
    layers += [ConvNeXt() for _ in range(depth)]
  return _chain(*layers, _mean, nn.LayerNorm())


def _resnet():
  blocks = _stages(basic, (64, 128, 256, 512), [2] * 4, 1)
  return _chain(conv(64, 7, 2), _pool, *blocks, _mean)


def _resnet_a():
  blocks = _stages(partial(basic, projects=False), (16, 32, 64), [3] * 3, 1)
  return _chain(conv(16), *blocks, _mean, classes=10)


def _wide_resnet():
  blocks = _stages(wide, (160, 320, 640), [4] * 3, 1)
  stem = nn.Conv(16, (3, 3), use_bias=False)
  return _chain(stem, *blocks, _norm(), nn.relu, _mean, classes=10)


def _shufflenet():
  blocks = _stages(shuffle, (116, 232, 464), (4, 8, 4))
  return _chain(conv(24, 3, 2), _pool, *blocks, conv(1024, 1), _mean)


def _vit():
  encoders = [encoder(3, 768) for _ in range(12)]
  return _chain(Patches(192), *encoders, nn.LayerNorm(), lambda x: x[:, 0])


def _bert():
  encoders = [encoder(12, 3072, last=True) for _ in range(12)]
  layers = words(768), *encoders, lambda x: x[:, 0], nn.Dense(768), nn.tanh
  return nn.Sequential(layers)


class Block(nnx.Module):
  """GPT-2's layer."""

  def __init__(self, features, num_heads, rngs):
    self.norm_1 = nnx.LayerNorm(features, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(num_heads, features, rngs=rngs)
    self.norm_2 = nnx.LayerNorm(features, rngs=rngs)
    self.up = nnx.Linear(features, 4 * features, rngs=rngs)
    self.down = nnx.Linear(4 * features, features, rngs=rngs)

  def __call__(self, x):
    causal = nnx.make_causal_mask(x[..., 0])
    x = x + self.attention(self.norm_1(x), mask=causal, decode=False)
    return x + self.down(nnx.gelu(self.up(self.norm_2(x))))


class GPT2(nnx.Module):
  """GPT-2 small; if `scanned`, its blocks are stacked for `nnx.scan`."""

  def __init__(
    self,
    layers: int = 12,
    features: int = 768,
    num_heads: int = 12,
    vocabulary: int = 50257,
    *,
    scanned: bool = False,
    rngs: nnx.Rngs,
  ):
    self.scanned = scanned
    self.embed = nnx.Embed(vocabulary, features, rngs=rngs)
    self.positions = nnx.Embed(1024, features, rngs=rngs)
    block = partial(Block, features, num_heads)
    if scanned:
      self.blocks = nnx.vmap(block)(rngs.split(layers))
    else:
      self.blocks = nnx.List(block(rngs) for _ in range(layers))
    self.norm = nnx.LayerNorm(features, rngs=rngs)

  def __call__(self, tokens):
    x = self.embed(tokens) + self.positions(jnp.arange(tokens.shape[1]))
    if self.scanned:
      axes = {"in_axes": (nnx.Carry, 0), "out_axes": nnx.Carry}
      x = nnx.scan(lambda x, block: block(x), **axes)(x, self.blocks)
    else:
      for block in self.blocks:
        x = block(x)
    return self.embed.attend(self.norm(x))


Inputs = tuple[jax.ShapeDtypeStruct, ...]


def _image(side: int) -> Inputs:
  return (jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32),)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Inputs]] = {
  "mobilenet_v1_1.0": (mobilenet_v1, _image(224)),
  "mobilenet_v1_0.5": (lambda: mobilenet_v1(0.5), _image(224)),
  "mobilenet_v2_1.0": (_mobilenet_v2, _image(224)),
  "mobilenet_v3_large": (_mobilenet_v3, _image(224)),
  "efficientnet_b0": (_efficientnet, _image(224)),
  "mnasnet_b1": (_mnasnet, _image(224)),
  "shufflenet_v2_x1.0": (_shufflenet, _image(224)),
  "squeezenet_1.1": (_squeezenet, _image(224)),
  "mobilenet_v4_conv_s": (_mobilenet_v4, _image(224)),
  "mobileone_s0_fused": (_mobileone, _image(224)),
  "resnet_18": (_resnet, _image(224)),
  "resnet_20_cifar_option_a": (_resnet_a, _image(32)),
  "wide_resnet_28_10": (_wide_resnet, _image(32)),
  "convnext_tiny": (_convnext, _image(224)),
  "vit_tiny_16": (_vit, _image(224)),
  "mobilevit_xxs": (_mobilevit, _image(256)),
  "bert_base": (_bert, (jax.ShapeDtypeStruct((1, 512), jnp.int32),)),
}
