import tarfile

import numpy as np
import pytest

from effarch.errors import UserError
from effarch.infrastructure.data.text_pairs import TextPairs

COUNTS = {"train": 20, "validation": 6, "test": 8}


def pairs(part, count):
  """Label and two texts that no other pair has, half of them the same."""
  return [
    (n % 2, f'{part} {n}"'.encode(), b"\xe9\0" * (n + 1)) for n in range(count)
  ]


def line(label, one, other, ids=()):
  return b"\t".join([str(label).encode(), *ids, one, other])


def write(root, parts, name="{}.tsv", ids=(), end=b"\n", labels=("0", "1")):
  root.mkdir(parents=True, exist_ok=True)
  for part in parts:
    lines = [
      line(labels[label], *texts, ids)
      for label, *texts in pairs(part, COUNTS[part])
    ]
    (root / name.format(part)).write_bytes(end.join([*lines, b""]))
  return root


def pack(tree, path):
  with tarfile.open(path, "w:xz") as file:
    file.add(tree, arcname="around")
  return path


def load_all(source):
  return [source.load(split) for split in ("train", "validation", "test")]


def rows(*datasets):
  """Labels and both texts, in an order of their own."""
  return sorted(
    (int(label), *(bytes(t - 1 for t in text if t) for text in two.tolist()))
    for dataset in datasets
    for two, label in zip(dataset.inputs, dataset.labels, strict=True)
  )


def expected(part):
  return sorted(pairs(part, COUNTS[part]))


def refused(path, message, content=None, split="train"):
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError) as caught:
    TextPairs(str(path)).load(split)
  assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"end": b"\r\n"},
    {"labels": ("0.0", "1.0"), "ids": (b"P1", b"")},
  ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_three_files_are_three_parts(tmp_path, options, packed):
  path = write(tmp_path / "tree" / "inner", COUNTS, **options)
  (tmp_path / "tree" / "basic_train.tsv").write_text("no pairs")
  path = path.parent
  if packed:
    path = pack(path, tmp_path / "tree.tar.xz")
  source = TextPairs(str(path), max_length=60)
  assert (source.input_shape, source.label_shape) == ((2, 60), ())
  assert source.vocab_size == 257
  for part, dataset in zip(COUNTS, load_all(source), strict=True):
    assert rows(dataset) == expected(part)
    assert dataset.inputs.shape == (COUNTS[part], 2, 60)
    assert (dataset.inputs.dtype, dataset.labels.dtype) == (np.int16, np.int32)
    assert dataset.class_names == ("different", "same")


def test_the_arena_names_are_found(tmp_path):
  root = write(tmp_path, ("train", "test"), "new_aan_pairs.{}.tsv")
  write(tmp_path / "x", ("validation",))
  (tmp_path / "x" / "validation.tsv").rename(root / "new_aan_pairs.eval.tsv")
  for part, dataset in zip(COUNTS, load_all(TextPairs(str(root))), strict=True):
    assert rows(dataset) == expected(part)


def test_validation_is_held_out_where_it_is_not_given(tmp_path):
  root = write(tmp_path, ("train", "test"))
  source = TextPairs(str(root), validation_fraction=0.3)
  train, validation, test = load_all(source)
  assert rows(train, validation) == expected("train")
  assert rows(test) == expected("test")
  assert np.bincount(validation.labels).tolist() == [3, 3]


def test_one_file_is_split_in_three(tmp_path):
  path = write(tmp_path, ("train",)) / "train.tsv"
  parts = load_all(
    TextPairs(str(path), validation_fraction=0.25, test_fraction=0.4)
  )
  assert [len(part) for part in parts] == [9, 3, 8]
  assert rows(*parts) == expected("train")
  assert np.bincount(parts[2].labels).tolist() == [4, 4]
  for name in ("train", "validation", "test"):
    first, again, other = (
      TextPairs(str(path), split_seed=seed).load(name) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert rows(first) != rows(other)


def test_what_is_split_is_read_once(tmp_path):
  path = write(tmp_path, ("train", "test")) / "train.tsv"
  for source in (TextPairs(str(path)), TextPairs(str(tmp_path))):
    content = path.read_bytes()
    train = source.load("train")
    path.unlink()
    assert rows(train, source.load("validation"), source.load("train"))
    if source.path == str(path):
      source.load("test")
    path.write_bytes(content)


def test_training_does_not_read_the_test_file(tmp_path):
  root = write(tmp_path, COUNTS)
  (root / "test.tsv").write_bytes(b"damaged")
  source = TextPairs(str(root))
  assert rows(source.load("train")) == expected("train")
  assert rows(source.load("validation")) == expected("validation")
  with pytest.raises(UserError, match=r"test\.tsv: line 1 has 1 column,"):
    source.load("test")


def test_each_text_is_cut_and_padded_by_itself(tmp_path):
  path = tmp_path / "pairs.tsv"
  path.write_bytes(b"0\tabcdef\tx\n1\tx\tabcdef\n" * 9)
  assert TextPairs(str(path)).load("train").inputs.shape[1:] == (2, 4000)
  for length in (1, 3, 6, 8):
    train = TextPairs(str(path), max_length=length).load("train")
    long, short = (
      [*(byte + 1 for byte in text), *[0] * 8][:length]
      for text in (b"abcdef", b"x")
    )
    for two, label in zip(train.inputs, train.labels, strict=True):
      assert two.tolist() == ([short, long] if label else [long, short])


def test_every_byte_but_two_may_be_in_a_text(tmp_path):
  """Tab and newline end one."""
  every = bytes(b for b in range(256) if b not in b"\t\n")
  path = tmp_path / "pairs.tsv"
  path.write_bytes(
    b"".join([line(n % 2, every, every) + b"\n" for n in range(20)])
  )
  train = TextPairs(str(path)).load("train")
  assert {row[1:] for row in rows(train)} == {(every, every)}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_mark_and_last_newline_are_no_text(tmp_path, mark, end):
  path = tmp_path / "pairs.tsv"
  lines = [line(n % 2, b"%d" % n, b"\xef\xbb\xbf") for n in range(20)]
  path.write_bytes(mark + (end or b"\n").join(lines) + end)
  found = rows(*load_all(TextPairs(str(path))))
  assert found == sorted((n % 2, b"%d" % n, b"\xef\xbb\xbf") for n in range(20))


GOOD = b"0\tone\tother\n"
RULE = "label, text and text have tabs between them, and none inside"


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "is empty; fetch it again"),
    (b"\n", f"line 1 has 1 column, not 3 or 5; {RULE}"),
    (b"0\tone\n", f"line 1 has 2 columns, not 3 or 5; {RULE}"),
    (b"0\ta\tb\tc\n", f"line 1 has 4 columns, not 3 or 5; {RULE}"),
    (GOOD * 6 + b"0\ta\tb\tc\n", f"line 7 has 4 columns, not 3; {RULE}"),
    # Two tabs in its text make a line look like one with ids.
    (GOOD + b"0\ta\tb\tc\td\n", f"line 2 has 5 columns, not 3; {RULE}"),
    (b"0\ta\tb\tc\td\n" + GOOD, f"line 2 has 3 columns, not 5; {RULE}"),
    (GOOD + b"\n" + GOOD, f"line 2 has 1 column, not 3; {RULE}"),
    (GOOD + b"2\ta\tb\n", "line 2 has the label '2', which is not 0 or 1"),
    (GOOD + b"\ta\tb\n", "line 2 has the label '', which is not 0 or 1"),
    (GOOD + b"01\ta\tb", "line 2 has the label '01', which is not 0 or 1"),
    (
      GOOD + b"\xff" + b"long " * 9 + b"\ta\tb\n",
      "line 2 has the label '\ufffdlong long long long', which is not 0 or 1",
    ),
    (
      b"label\tone\tother\n" + GOOD,
      "line 1 has the label 'label', which is not 0 or 1; remove a line of "
      "headings",
    ),
    (GOOD + b"1\t\tb\n", "line 2 has an empty text; remove the line"),
    (GOOD + b"1\ta\t\r\n", "line 2 has an empty text; remove the line"),
    (GOOD.decode().encode("utf-16"), "is UTF-16; save it as UTF-8"),
    (b"\xfe\xff" + GOOD, "is UTF-16; save it as UTF-8"),
    (b"\xef\xbb\xbf", f"line 1 has 1 column, not 3 or 5; {RULE}"),
  ],
)
def test_a_wrong_line_is_named(tmp_path, content, message):
  refused(tmp_path / "pairs.tsv", message, content)
  root = write(tmp_path / "tree", ("test", "train"))
  (root / "train.tsv").write_bytes(content)
  packed = pack(root, tmp_path / "tree.tar.xz")
  for path, place in (
    (root, f"{root / 'train.tsv'}"),
    (packed, f"{packed}: around/train.tsv"),
  ):
    with pytest.raises(UserError) as caught:
      TextPairs(str(path)).load("validation")
    assert str(caught.value) == f"{place}: {message}"


def test_one_line_can_not_be_split(tmp_path):
  path = tmp_path / "pairs.tsv"
  path.write_bytes(GOOD)
  with pytest.raises(UserError, match=r"pairs\.tsv: 0\.2 of 1 examples"):
    TextPairs(str(path)).load("train")


def test_files_that_are_not_there_are_named(tmp_path):
  refused(tmp_path / "gone.tsv", "No such file or directory")
  refused(tmp_path / "gone.tar", "does not exist")
  loop = tmp_path / "loop.tsv"
  loop.symlink_to(loop)
  with pytest.raises(UserError, match=r"loop\.tsv: .*symbolic links"):
    TextPairs(str(loop)).load("train")
  loop.unlink()
  mend = "a TSV file that config.data.path names itself is split here"
  refused(tmp_path, f"holds no train.tsv; {mend}")
  write(tmp_path, ("train",))
  refused(tmp_path, f"holds no test.tsv; {mend}")
  write(tmp_path / "more", ("train", "test"))
  refused(
    tmp_path, "more/train.tsv and train.tsv are both for train; leave one"
  )


def test_a_damaged_archive_is_refused(tmp_path):
  root = write(tmp_path / "tree", COUNTS)
  packed = pack(root, tmp_path / "tree.tar.xz")
  packed.write_bytes(packed.read_bytes()[:-20])
  with pytest.raises(UserError, match="a damaged archive, or none"):
    TextPairs(str(packed)).load("train")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"path": ""}, "^path: is empty$"),
    ({"max_length": 0}, "^max_length: 0 is not positive$"),
    ({"test_fraction": 1.0}, r"^test_fraction: 1.0 is not in \(0, 1\)$"),
    ({"validation_fraction": 0.0}, "^validation_fraction: 0.0 is not in"),
  ],
)
def test_an_impossible_option_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    TextPairs(**{"path": "somewhere", **options})


def test_what_is_no_split_is_refused(tmp_path):
  with pytest.raises(ValueError, match="split: 'dev'"):
    TextPairs(str(tmp_path)).load("dev")
