"""The Python form of CIFAR: a pickle, of which nothing but arrays is taken."""

import builtins
import codecs
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.errors import UserError
from effarch.infrastructure.data import CIFAR10

SIZE = 20
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (SIZE, 3072), np.uint8)
LABELS = RNG.integers(0, 10, SIZE).tolist()
TENTH = [*LABELS[:3], 10, *LABELS[4:]]


@pytest.fixture(autouse=True, scope="module")
def small_file():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(CIFAR10, "test_files", {"test_batch": SIZE})
    yield


def pickled(pixels=PIXELS, labels=LABELS, protocol=2, **more):
  content = {b"batch_label": b"test", b"labels": labels, b"data": pixels}
  return pickle.dumps({**content, **more}, protocol)


def pickled_by_python_2():
  """Opcode by opcode what the official files hold; no Python 3 writes it."""
  parts = [
    b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x04testq\x03U\x06labelsq\x04]",
    b"q\x05(" + b"".join(b"K" + bytes([label]) for label in LABELS),
    b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\n",
    b"ndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01K\x14M\x00\x0c\x86cnumpy\n",
    b"dtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xff",
    b"J\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", PIXELS.size),
    PIXELS.tobytes() + b"tbu.",
  ]
  return b"".join(parts)


def load(folder, content):
  (folder / "test_batch").write_bytes(content)
  return CIFAR10(str(folder)).load("test")


def refused(folder, content, *words):
  """Loading says why in one line, and leaves nothing on the disk."""
  with pytest.raises(UserError) as caught:
    load(folder, content)
  message = str(caught.value)
  assert message.startswith(f"{folder}: test_batch: ")
  assert "\n" not in message
  for word in words:
    assert word in message
  assert [p.name for p in folder.iterdir()] == ["test_batch"]


@pytest.mark.parametrize(
  "content",
  [pickled_by_python_2(), *(pickled(protocol=p) for p in (0, 2, 3, 4))],
)
def test_every_python_writes_the_same_arrays(tmp_path, content):
  dataset = load(tmp_path, content)
  planes = PIXELS.reshape(SIZE, 3, 32, 32)
  np.testing.assert_array_equal(dataset.inputs, np.moveaxis(planes, 1, -1))
  np.testing.assert_array_equal(dataset.labels, LABELS)


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"", "no CIFAR batch (EOFError())"),
    (b"hello", "no CIFAR batch"),
    (pickled()[:-100], "no CIFAR batch"),
    (pickle.dumps([1, 2], 2), "no CIFAR batch"),
    (
      pickle.dumps({b"fine_labels": [1]}, 2),
      "no CIFAR batch (KeyError(b'data'))",
    ),
    (pickled(labels=TENTH), "image 3 has label 10, outside 0 to 9"),
    (pickled(labels=[-1] * SIZE), "image 0 has label -1"),
    (pickled(labels=[2**32 + 1] * SIZE), "image 0 has label 4294967297"),
    (pickled(labels=[2**70] * SIZE), "object labels"),
    (pickled(labels=[0.5] * SIZE), "float64 labels"),
    (pickled(labels=[[1]] * SIZE), "labels of shape (20, 1)"),
    (pickled(labels=[1] * 19), "labels of shape (19,)"),
    (pickled(PIXELS[1:]), "pixels of shape (19, 3072)"),
    (pickled(PIXELS[0, 0]), "no CIFAR batch"),
    (pickled(PIXELS + np.int64(256)), "int64 pixels"),
  ],
)
def test_a_damaged_pickle_is_named_with_the_reason(tmp_path, content, reason):
  refused(tmp_path, content, reason)


@given(
  # Not among the pixels, which make up nearly all of the file.
  where=st.integers(0, 300) | st.integers(-20, -1),
  bit=st.integers(0, 7),
)
def test_a_flipped_bit_gives_nothing_worse_than_a_user_error(
  tmp_path_factory, where, bit
):
  damaged = bytearray(pickled_by_python_2())
  damaged[where] ^= 1 << bit
  folder = tmp_path_factory.mktemp("flipped")
  try:
    assert load(folder, damaged).labels.max() < 10
  except UserError as error:
    assert str(error).startswith(f"{folder}: test_batch: ")


class Calls:
  """What its unpickler is asked to call."""

  def __init__(self, function, *arguments):
    self.call = (function, arguments)

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
  ("function", "argument"),
  [
    (os.system, "touch {}"),
    (os.mkdir, "{}"),
    (builtins.eval, "open('{}', 'w').close()"),
    (builtins.exec, "open('{}', 'w').close()"),
  ],
)
def test_a_pickle_that_calls_a_function_is_refused_and_runs_nothing(
  tmp_path, protocol, function, argument
):
  ran, folder = tmp_path / "ran", tmp_path / "cifar"
  folder.mkdir()
  content = pickled(
    protocol=protocol, more=Calls(function, argument.format(ran))
  )
  refused(folder, content, "it asks for ", f".{function.__name__}'")
  assert not ran.exists()
  # An ordinary unpickler does run it.
  pickle.loads(content)
  assert ran.exists()


def test_a_pickle_that_asks_for_another_codec_is_refused(tmp_path):
  content = pickled(more=Calls(codecs.encode, "abc", "rot13"))
  refused(tmp_path, content, "it asks for the codec rot13")


def test_a_name_of_two_lines_is_told_in_one(tmp_path):
  refused(
    tmp_path,
    b"\x80\x04\x8c\x04o\ns.\x8c\x07sy\nstem\x93.",
    r"it asks for o\ns..sy\nstem",
  )


def test_a_number_that_asks_for_much_memory_gets_none(tmp_path):
  """Which the unpickler in C sets aside for the highest place it is told."""
  tracemalloc.start()
  highest = b"r" + struct.pack("<I", 2**22)
  refused(tmp_path, b"\x80\x02]" + highest + b".", "no CIFAR batch")
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 10_000_000
