"""Signals masked in time and in frequency."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment.inputs import floats
from effarch.learning.checks import check_within


def bands(
  rng: Key[Array, ""], rows: int, length: int, number: int, max_width: int
) -> Bool[Array, "B L"]:
  """Draws bands of 0 to `max_width` places, wholly within the length.

  Args:
    rng: of widths and places.
    rows: `B`.
    length: `L`.
    number: of bands in each row; they may overlap.
    max_width: the widest, `L` at most.
  """
  width_rng, start_rng = jax.random.split(rng)
  most = min(max_width, length)
  widths = jax.random.randint(width_rng, (rows, number, 1), 0, most + 1)
  starts = jax.random.randint(start_rng, widths.shape, 0, length - widths + 1)
  place = jnp.arange(length)
  return ((place >= starts) & (place < starts + widths)).any(1)


def mask_time(
  signals: Float[Array, "B T C"], masked: Bool[Array, "B T"]
) -> Float[Array, "B T C"]:
  """Puts zeros, the mean of standardised signals, where time is masked."""
  return jnp.where(masked[..., None], jnp.zeros_like(signals), signals)


def mask_frequency(
  signals: Float[Array, "B T C"], masked: Bool[Array, "B L"]
) -> Float[Array, "B T C"]:
  """Takes frequencies, `L = T // 2 + 1` from 0 upwards, out of each channel."""
  spectrum = jnp.fft.rfft(signals.astype(jnp.float32), axis=1)
  spectrum = jnp.where(masked[..., None], 0, spectrum)
  changed = jnp.fft.irfft(spectrum, n=signals.shape[1], axis=1)
  any_masked = masked.any(1)[:, None, None]
  return jnp.where(any_masked, changed.astype(signals.dtype), signals)


@dataclasses.dataclass(frozen=True)
class SpecAugment(Technique):
  """SpecAugment (arXiv:1904.08779), without its warping, for signals.

  The paper masks a spectrogram; a signal's frequencies are those of its
  Fourier transform.

  Args:
    num_time_masks: spans of each signal; 0 for none.
    max_time: the longest span, in samples.
    num_frequency_masks: bands of each signal; 0 for none.
    max_frequency: the widest band, in frequencies of `T // 2 + 1`.
  """

  num_time_masks: int = 1
  max_time: int = 8
  num_frequency_masks: int = 1
  max_frequency: int = 3

  def __post_init__(self):
    for field in dataclasses.fields(self):
      check_within("[0, inf)", **{field.name: getattr(self, field.name)})

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    signals = floats(self, batch, "signals")
    rows, length, _ = signals.shape
    time_rng, frequency_rng = jax.random.split(rng)
    if self.num_frequency_masks and self.max_frequency:
      masked = bands(
        frequency_rng,
        rows,
        length // 2 + 1,
        self.num_frequency_masks,
        self.max_frequency,
      )
      signals = mask_frequency(signals, masked)
    if self.num_time_masks and self.max_time:
      masked = bands(time_rng, rows, length, self.num_time_masks, self.max_time)
      signals = mask_time(signals, masked)
    return {**batch, "inputs": signals}
