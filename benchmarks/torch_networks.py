"""The networks of `benchmarks.counters` in PyTorch, layer by layer the same.

Axes: `B` batch, `C` channels, `H W` height and width, `T` tokens.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Dense(nn.Module):
  """`sin(x @ w)` again and again; plain products if not `curved`.

  Args:
    layers: how many.
    size: of each square matrix.
    curved: with the sine.
    recomputed: under a checkpoint, so that backward goes forward again.
  """

  def __init__(self, layers, size, *, curved=True, recomputed=False):
    super().__init__()
    self.weights = nn.Parameter(torch.randn(layers, size, size) / size**0.5)
    self.curved = curved
    self.recomputed = recomputed

  def forward(self, x):
    if self.recomputed:
      return checkpoint(self.layers, x, use_reentrant=False)
    return self.layers(x)

  def layers(self, x):
    for weight in self.weights:
      x = x @ weight
      x = torch.sin(x) if self.curved else x
    return x


def survey_cnn(*, convolution="standard", classes=10):
  """For images of 32 x 32, at width 1."""
  layers, inputs = [], 3
  for index, outputs in enumerate((32, 32, 64, 64, 128, 128)):
    if index and convolution == "separable":
      layers += [
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1),
      ]
    else:
      layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
    layers += [nn.ReLU(), nn.BatchNorm2d(outputs)]
    if index % 2:
      layers.append(nn.MaxPool2d(2))
    inputs = outputs
  head = [nn.Linear(16 * inputs, 512), nn.ReLU(), nn.Linear(512, classes)]
  return nn.Sequential(*layers, nn.Flatten(), *head)


def _convolution(inputs, outputs, kernel, stride=1, groups=1):
  """A convolution and its BatchNorm."""
  return nn.Sequential(
    nn.Conv2d(
      inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
    ),
    nn.BatchNorm2d(outputs),
  )


class _Residual(nn.Module):
  """The block of a ResNet-18 (arXiv:1512.03385)."""

  def __init__(self, inputs, outputs, stride):
    super().__init__()
    self.first = _convolution(inputs, outputs, 3, stride)
    self.second = _convolution(outputs, outputs, 3)
    changed = stride > 1 or inputs != outputs
    self.shortcut = (
      _convolution(inputs, outputs, 1, stride) if changed else nn.Identity()
    )

  def forward(self, x):
    y = self.second(functional.relu(self.first(x)))
    return functional.relu(y + self.shortcut(x))


def _pooled(features, classes):
  return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)]


def resnet_18(*, classes=1000):
  layers = [_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
  inputs = 64
  for outputs in (64, 128, 256, 512):
    stride = 1 if outputs == 64 else 2
    layers += [_Residual(inputs, outputs, stride)]
    layers += [_Residual(outputs, outputs, 1)]
    inputs = outputs
  return nn.Sequential(*layers, *_pooled(inputs, classes))


class _Inverted(nn.Module):
  """The block of a MobileNetV2 (arXiv:1801.04381)."""

  def __init__(self, inputs, outputs, stride, expansion):
    super().__init__()
    hidden = inputs * expansion
    layers = []
    if expansion > 1:
      layers += [_convolution(inputs, hidden, 1), nn.ReLU6()]
    self.layers = nn.Sequential(
      *layers,
      _convolution(hidden, hidden, 3, stride, groups=hidden),
      nn.ReLU6(),
      _convolution(hidden, outputs, 1),
    )
    self.residual = stride == 1 and inputs == outputs

  def forward(self, x):
    return x + self.layers(x) if self.residual else self.layers(x)


def mobilenet_v2(stages, *, classes=1000):
  """Of `stages` of expansion, channels, blocks and first stride."""
  layers, inputs = [_convolution(3, 32, 3, 2), nn.ReLU6()], 32
  for expansion, outputs, blocks, stride in stages:
    for block in range(blocks):
      step = 1 if block else stride
      layers.append(_Inverted(inputs, outputs, step, expansion))
      inputs = outputs
  layers += [_convolution(inputs, 1280, 1), nn.ReLU6()]
  return nn.Sequential(*layers, *_pooled(1280, classes))


class _Attention(nn.Module):
  def __init__(self, features, heads, causal):
    super().__init__()
    self.joint = nn.Linear(features, 3 * features)
    self.out = nn.Linear(features, features)
    self.heads = heads
    self.causal = causal

  def forward(self, x):
    split = self.joint(x).unflatten(-1, (3, self.heads, -1))
    query, key, value = split.permute(2, 0, 3, 1, 4)
    y = functional.scaled_dot_product_attention(
      query, key, value, is_causal=self.causal
    )
    return self.out(y.transpose(1, 2).flatten(2))


class _Block(nn.Module):
  """Attention and two dense layers, each after a LayerNorm."""

  def __init__(self, features, heads, *, causal):
    super().__init__()
    self.attention_norm = nn.LayerNorm(features)
    self.attention = _Attention(features, heads, causal)
    self.dense_norm = nn.LayerNorm(features)
    self.dense = nn.Sequential(
      nn.Linear(features, 4 * features),
      nn.GELU(),
      nn.Linear(4 * features, features),
    )

  def forward(self, x):
    x = x + self.attention(self.attention_norm(x))
    return x + self.dense(self.dense_norm(x))


class ViT(nn.Module):
  """A vision transformer (arXiv:2010.11929), for images of 224 x 224."""

  def __init__(
    self, *, layers=12, features=192, heads=3, patch=16, classes=1000
  ):
    super().__init__()
    self.patches = nn.Conv2d(3, features, patch, patch)
    self.first = nn.Parameter(torch.zeros(1, 1, features))
    places = (224 // patch) ** 2 + 1
    self.places = nn.Parameter(torch.zeros(1, places, features))
    self.blocks = nn.Sequential(
      *[_Block(features, heads, causal=False) for _ in range(layers)]
    )
    self.norm = nn.LayerNorm(features)
    self.head = nn.Linear(features, classes)

  def forward(self, x):
    x = self.patches(x).flatten(2).transpose(1, 2)
    x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1)
    return self.head(self.norm(self.blocks(x + self.places))[:, 0])


class GPT2(nn.Module):
  """A GPT-2; its token embedding is also its last layer's matrix."""

  def __init__(
    self, *, layers=12, features=768, heads=12, vocabulary=50257, context=1024
  ):
    super().__init__()
    self.words = nn.Embedding(vocabulary, features)
    self.places = nn.Embedding(context, features)
    self.blocks = nn.Sequential(
      *[_Block(features, heads, causal=True) for _ in range(layers)]
    )
    self.norm = nn.LayerNorm(features)

  def forward(self, tokens):
    places = torch.arange(tokens.shape[1], device=tokens.device)
    x = self.blocks(self.words(tokens) + self.places(places))
    return functional.linear(self.norm(x), self.words.weight)
