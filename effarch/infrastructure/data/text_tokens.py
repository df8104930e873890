"""Numbers for text: one for each byte, or for each character of a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Int

from effarch.infrastructure.data.dataset import PADDING

# The padding and 256 bytes.
NUM_BYTE_TOKENS = 257
# The token of every character that has none of its own.
UNKNOWN = 1

Tokens = Int[Array, " T"] | Int[np.ndarray, " T"]


def pad_bytes(texts: Sequence[bytes], max_length: int) -> np.ndarray:
  """Returns int16 tokens `N T`, byte + 1, of which none is the padding.

  Longer texts are cut at their end, shorter ones padded there.
  """
  tokens = np.full((len(texts), max_length), PADDING, np.int16)
  for row, text in zip(tokens, texts, strict=True):
    numbers = np.frombuffer(text, np.uint8, min(len(text), max_length))
    row[: len(numbers)] = numbers
    row[: len(numbers)] += 1
  return tokens


class Bytes:
  """Token `byte + 1`; reads any text, and anything else.

  Attributes:
    names: of the tokens; bytes that are no printable ASCII as `\\x0a`.
  """

  names = (
    "<padding>",
    *(chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in range(256)),
  )

  def number(self, codes: np.ndarray) -> np.ndarray:
    """Returns the tokens of bytes."""
    return codes.astype(np.int16) + np.int16(1)

  def encode(self, text: str) -> np.ndarray:
    """Returns the tokens of a text's UTF-8."""
    content = text.encode("utf-8", "replace")  # What UTF-8 lacks becomes "?".
    return self.number(np.frombuffer(content, np.uint8))

  def decode(self, tokens: Tokens) -> str:
    """Returns the text; what is no UTF-8 becomes U+FFFD."""
    numbers = _without_padding(tokens, len(self.names)) - 1
    return numbers.astype(np.uint8).tobytes().decode("utf-8", "replace")


class Characters:
  """Tokens for the characters of one text, in the order of Unicode.

  Args:
    codes: the code points of that text.

  Attributes:
    names: of the tokens: the padding, the unknown, and the characters.
  """

  def __init__(self, codes: np.ndarray):
    # The unknown is told as U+FFFD; no text has the padding.
    self._codes = np.concatenate([[0, 0xFFFD], np.unique(codes)])
    self.names = (
      "<padding>",
      "<unknown>",
      *(chr(code) for code in self._codes[UNKNOWN + 1 :]),
    )
    many = len(self.names) - 1 > np.iinfo(np.int16).max
    self._tokens = np.full(0x110000, UNKNOWN, np.int32 if many else np.int16)
    known = np.arange(UNKNOWN + 1, len(self.names))
    self._tokens[self._codes[UNKNOWN + 1 :]] = known

  def number(self, codes: np.ndarray) -> np.ndarray:
    """Returns the tokens of code points, int16 where that has room."""
    return self._tokens[codes]

  def encode(self, text: str) -> np.ndarray:
    """Returns the tokens of a text, `UNKNOWN` where there is none."""
    return self.number(code_points(text))

  def decode(self, tokens: Tokens) -> str:
    """Returns the text; the unknown becomes U+FFFD."""
    codes = self._codes[_without_padding(tokens, len(self.names))]
    return codes.astype("<u4").tobytes().decode("utf-32-le", "replace")


def code_points(text: str) -> np.ndarray:
  """Returns the number that Unicode gives each character, uint32."""
  return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _without_padding(tokens: Tokens, num_tokens: int) -> np.ndarray:
  numbers = np.asarray(tokens)
  for token in numbers[(numbers < 0) | (numbers >= num_tokens)][:1]:
    raise ValueError(f"tokens: {token} is not in [0, {num_tokens})")
  return numbers[numbers != PADDING]
