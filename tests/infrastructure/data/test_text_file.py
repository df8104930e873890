import codecs
import math
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.errors import UserError
from effarch.infrastructure.data.text_file import TextFile
from effarch.infrastructure.data.text_tokens import UNKNOWN

SPLITS = ("train", "validation", "test")
FRACTIONS = {"validation_fraction": 0.25, "test_fraction": 0.125}


def write(path, content):
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return str(path)


def cut(text, validation, test):
  """The three parts of a text, or of bytes."""
  held = int(len(text) * validation)
  tested = int(len(text) * test)
  first, last = len(text) - held - tested, len(text) - tested
  return text[:first], text[first:last], text[last:]


def windows(part, length, stride):
  """Inputs and labels of each window, from the definition."""
  starts = range(0, len(part) - length, stride)
  return [(part[s : s + length], part[s + 1 : s + length + 1]) for s in starts]


def refused(path, message, **options):
  source = TextFile(str(path), **options)
  for use in (source.load, source.load):  # Nothing wrong is kept.
    with pytest.raises(UserError) as caught:
      use("train")
    assert str(caught.value) == f"{path}: {message}"


@given(
  size=st.integers(40, 150),
  length=st.integers(1, 4),
  stride=st.integers(0, 4),
)
def test_windows_are_those_of_the_definition(
  tmp_path_factory, size, length, stride
):
  stride = min(stride, length)
  text = "".join(chr(ord("ä") + n * n % 23) for n in range(size))
  path = write(tmp_path_factory.mktemp("text") / "a.txt", text)
  source = TextFile(path, length=length, stride=stride, **FRACTIONS)
  assert source.input_shape == source.label_shape == (length,)
  for split, part in zip(SPLITS, cut(text, 0.25, 0.125), strict=True):
    step = stride if stride and split == "train" else length
    dataset = source.load(split)
    found = [
      (source.decode(one), source.decode(other))
      for one, other in zip(dataset.inputs, dataset.labels, strict=True)
    ]
    assert found == windows(part, length, step)
    assert (dataset.inputs.dtype, dataset.labels.dtype) == (np.int16, np.int32)
    assert dataset.class_names == source.class_names


@pytest.mark.parametrize("tokens", ["character", "byte"])
def test_every_character_of_shakespeare_is_there_in_order(shared, tokens):
  path = shared / "data" / "tinyshakespeare.txt"
  text = path.read_text("ascii")
  source = TextFile(str(path), tokens)
  # 65 characters with the padding and the unknown, or 256 bytes
  assert source.vocab_size == {"character": 67, "byte": 257}[tokens]
  assert source.vocab_size == len(source.class_names)
  sizes = (1_115_394 - 2 * 55_769, 55_769, 55_769)
  for split, part, size in zip(
    SPLITS, cut(text, 0.05, 0.05), sizes, strict=True
  ):
    dataset = source.load(split)
    count = math.floor((size - 1) / 256)
    assert dataset.inputs.shape == dataset.labels.shape == (count, 256)
    assert source.decode(dataset.inputs.ravel()) == part[: 256 * count]
    assert source.decode(dataset.labels.ravel()) == part[1 : 256 * count + 1]
    assert size == len(part)
    tokens_of_part = source.encode(part)
    assert source.decode(tokens_of_part) == part
    expected = tokens_of_part[: 256 * count].reshape(count, 256)
    np.testing.assert_array_equal(dataset.inputs, expected)
  names = source.class_names
  assert [names[t] for t in source.encode("To be")] == list("To be")


def test_the_vocabulary_is_that_of_the_training_part(tmp_path):
  # "z" only validates, "ж" only tests.
  path = write(tmp_path / "a.txt", "bacb\n" * 10 + "abzba" * 4 + "жabcж" * 2)
  source = TextFile(path, length=3, **FRACTIONS)
  assert source.class_names == (
    "<padding>",
    "<unknown>",
    "\n",
    "a",
    "b",
    "c",
  )
  assert source.vocab_size == 6
  validation, test = (source.load(split) for split in SPLITS[1:])
  assert validation.inputs[0].tolist() == [3, 4, UNKNOWN]
  assert validation.labels[0].tolist() == [4, UNKNOWN, 4]
  assert test.inputs[0].tolist() == [UNKNOWN, 3, 4]
  assert UNKNOWN not in source.load("train").inputs
  assert source.encode("cz\n").tolist() == [5, UNKNOWN, 2]
  assert source.decode(np.array([5, UNKNOWN, 2, 0])) == "c\ufffd\n"


def test_every_byte_is_read_as_a_byte(tmp_path):
  content = bytes(range(256)) * 8
  source = TextFile(
    write(tmp_path / "any.bin", content), "byte", 16, **FRACTIONS
  )
  assert source.vocab_size == len(set(source.class_names)) == 257
  for split, part in zip(SPLITS, cut(content, 0.25, 0.125), strict=True):
    dataset = source.load(split)
    assert dataset.inputs.min() == 1
    assert dataset.inputs.max() == (256 if split != "test" else 240)
    flat = [t - 1 for t in dataset.inputs.ravel().tolist()]
    assert bytes(flat) == part[: len(flat)]
    labels = [t - 1 for t in dataset.labels.ravel().tolist()]
    assert bytes(labels) == part[1 : len(flat) + 1]


def test_names_of_bytes_are_known_without_the_file(tmp_path):
  source = TextFile(str(tmp_path / "gone.txt"), "byte")
  assert source.vocab_size == 257
  assert source.decode(source.encode("hé\n")) == "hé\n"


def test_newlines_stay_as_they_are(tmp_path):
  path = write(tmp_path / "a.txt", "ab\r\ncd\re\n\n" * 40)
  source = TextFile(path, length=10)
  assert source.class_names[2:4] == ("\n", "\r")
  assert source.decode(source.load("train").inputs[0]) == "ab\r\ncd\re\n\n"


def test_the_mark_of_utf8_is_no_character_but_three_bytes(tmp_path):
  path = write(tmp_path / "a.txt", codecs.BOM_UTF8 + b"ab\n" * 40)
  source = TextFile(path, length=3)
  assert source.class_names[2:] == ("\n", "a", "b")
  assert source.decode(source.load("train").inputs[0]) == "ab\n"
  first = TextFile(path, "byte", 3).load("train").inputs[0]
  assert first.tolist() == [b + 1 for b in codecs.BOM_UTF8]


def test_many_characters_take_more_bits(tmp_path):
  text = "".join(map(chr, range(0x10000, 0x10000 + 40_000)))
  source = TextFile(write(tmp_path / "a.txt", text), **FRACTIONS)
  assert source.load("train").inputs.dtype == np.int16  # 25,000 of them train
  (tmp_path / "a.txt").write_text(text + text[::-1], "utf-8")
  train = TextFile(str(tmp_path / "a.txt"), **FRACTIONS).load("train")
  assert train.inputs.dtype == np.int32
  assert train.inputs.max() == 40_001


def test_the_file_is_read_once(tmp_path, monkeypatch):
  source = TextFile(write(tmp_path / "a.txt", "abc" * 200), length=4)
  read = []
  real = pathlib.Path.read_bytes
  monkeypatch.setattr(
    pathlib.Path, "read_bytes", lambda self: read.append(self) or real(self)
  )
  assert source.vocab_size == 5
  for split in SPLITS:
    source.load(split)
  source.encode("abc")
  assert len(read) == 1


UTF8 = (
  'save it as UTF-8, or set config.data.tokens to "byte", which reads any file'
)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "is empty"),
    (
      "abcé".encode("latin-1"),
      f"byte 3 is no UTF-8 (unexpected end of data); {UTF8}",
    ),
    (
      "é a".encode("latin-1"),
      f"byte 0 is no UTF-8 (invalid continuation byte); {UTF8}",
    ),
    (
      "abc".encode("utf-16"),
      f"byte 0 is no UTF-8 (invalid start byte); {UTF8}",
    ),
    (
      codecs.BOM_UTF8 + b"ab\xff",
      f"byte 5 is no UTF-8 (invalid start byte); {UTF8}",
    ),
  ],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
  path = tmp_path / "a.txt"
  path.write_bytes(content)
  refused(path, message)
  if content:
    path.write_bytes(content * 200)
    source = TextFile(str(path), "byte", 8)
    first = source.load("train").inputs[0].tolist()
    assert first == [byte + 1 for byte in (content * 4)[:8]]


def test_a_path_that_can_not_be_read_is_named(tmp_path):
  refused(tmp_path, "is a folder; name one text file in it")
  refused(tmp_path / "gone.txt", "No such file or directory")
  loop = tmp_path / "loop.txt"
  loop.symlink_to(loop)
  with pytest.raises(UserError, match=r"loop\.txt: .*symbolic links"):
    TextFile(str(loop)).load("train")


def test_too_short_a_text_is_told_with_the_numbers(tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes("ä".encode() * 100)
  text = "take a longer text"
  told = "of 100 characters validation has 5, and a window needs"
  refused(
    path, f"{told} 6; set config.data.length to 4 or less, or {text}", length=5
  )
  assert [len(TextFile(str(path), length=4).load(s)) for s in SPLITS] == [
    22,
    1,
    1,
  ]
  fractions = {"validation_fraction": 0.1, "test_fraction": 0.01}
  refused(
    path,
    f"of 100 characters test has 1, and a window needs 2; {text}",
    length=1,
    **fractions,
  )
  refused(
    path,
    "of 100 characters test has 2, and a window needs 3; set "
    f"config.data.length to 1 or less, or {text}",
    length=2,
    validation_fraction=0.1,
    test_fraction=0.02,
  )
  most = {"validation_fraction": 0.5, "test_fraction": 0.45}
  refused(
    path,
    f"of 200 bytes train has 10, and a window needs 12; set "
    f"config.data.length to 9 or less, or {text}",
    tokens="byte",
    length=11,
    **most,
  )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"path": ""}, "^path: is empty$"),
    ({"tokens": "word"}, "^tokens: 'word' is not character or byte$"),
    ({"length": 0}, "^length: 0 is not positive$"),
    ({"length": 8, "stride": 9}, r"^stride: 9 is not in \[0, 8\]$"),
    ({"stride": -1}, r"^stride: -1 is not in \[0, 256\]$"),
    ({"test_fraction": 1.0}, r"^test_fraction: 1.0 is not in \(0, 1\)$"),
    ({"validation_fraction": 0.0}, "^validation_fraction: 0.0 is not in"),
    (
      {"validation_fraction": 0.5, "test_fraction": 0.5},
      "^test_fraction: 0.5 and validation_fraction 0.5 leave nothing",
    ),
  ],
)
def test_an_impossible_option_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    TextFile(**{"path": "somewhere", **options})


def test_what_is_no_split_is_refused(tmp_path):
  with pytest.raises(ValueError, match="split: 'dev'"):
    TextFile(str(tmp_path)).load("dev")
