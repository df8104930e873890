import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.infrastructure.data.text_tokens import (
  NUM_BYTE_TOKENS,
  UNKNOWN,
  Bytes,
  Characters,
  code_points,
  pad_bytes,
)


@given(
  texts=st.lists(st.binary(max_size=12), max_size=5),
  max_length=st.integers(1, 9),
)
def test_a_token_is_a_byte_and_one_then_come_zeros(texts, max_length):
  tokens = pad_bytes(texts, max_length)
  assert tokens.dtype == np.int16
  assert tokens.shape == (len(texts), max_length)
  expected = [
    [*(byte + 1 for byte in text), *[0] * max_length][:max_length]
    for text in texts
  ]
  assert tokens.tolist() == expected


def test_all_bytes_are_tokens_with_names_of_their_own():
  tokens = pad_bytes([bytes(range(256))], 256)[0]
  assert tokens.tolist() == list(range(1, 257))
  names = Bytes().names
  assert len(set(names)) == len(names) == NUM_BYTE_TOKENS
  assert (names[0], names[ord("a") + 1], names[11]) == (
    "<padding>",
    "a",
    "\\x0a",
  )


@given(text=st.text())
def test_bytes_come_back_as_the_text(text):
  tokens = Bytes().encode(text)
  assert tokens.tolist() == [byte + 1 for byte in text.encode()]
  assert Bytes().decode(tokens) == text
  assert Bytes().decode(np.append(tokens, [0, 0])) == text


def test_what_is_no_utf8_is_replaced():
  tokens = np.array([ord("a") + 1, 0xFF + 1, ord("b") + 1])
  assert Bytes().decode(tokens) == "a\ufffdb"
  assert Bytes().decode(Bytes().encode("a\ud800")) == "a?"


@given(text=st.text(), other=st.text())
def test_characters_are_numbered_in_order_and_come_back(text, other):
  alphabet = Characters(code_points(text))
  known = sorted(set(text))
  assert alphabet.names == ("<padding>", "<unknown>", *known)
  tokens = alphabet.encode(text)
  assert tokens.dtype == np.int16
  assert tokens.tolist() == [known.index(c) + 2 for c in text]
  assert alphabet.decode(tokens) == text
  assert alphabet.decode(np.append(tokens, [0, 0])) == text
  expected = "".join(c if c in known else "\ufffd" for c in other)
  assert alphabet.decode(alphabet.encode(other)) == expected
  unknown = [c not in known for c in other]
  assert (alphabet.encode(other) == UNKNOWN).tolist() == unknown


def test_half_a_character_is_unknown():
  assert Characters(code_points("a")).encode("\ud800a").tolist() == [1, 2]


# Token 32,767 is the last that int16 holds.
@pytest.mark.parametrize(
  ("count", "dtype"), [(32_766, np.int16), (32_767, np.int32)]
)
def test_many_characters_take_more_bits(count, dtype):
  codes = np.arange(0x10000, 0x10000 + count, dtype=np.uint32)
  alphabet = Characters(codes)
  tokens = alphabet.number(codes)
  assert tokens.dtype == dtype
  assert tokens.tolist() == list(range(2, count + 2))
  assert alphabet.decode(tokens[-1:]) == chr(0x10000 + count - 1)


@pytest.mark.parametrize("alphabet", [Bytes(), Characters(code_points("ab"))])
def test_a_number_that_is_no_token_is_refused(alphabet):
  count = len(alphabet.names)
  for token in (-1, count):
    expected = rf"^tokens: {token} is not in \[0, {count}\)$"
    with pytest.raises(ValueError, match=expected):
      alphabet.decode(np.array([1, token, 1]))
