"""A folder of texts; what it shares with images is tested with those too."""

import tarfile

import numpy as np
import pytest

from effarch.errors import UserError
from effarch.infrastructure.data.text_folder import TextFolder

# As IMDB's archive has them, with what lies beside the texts.
COUNTS = {"train/neg": 8, "train/pos": 12, "train/unsup": 5}
COUNTS |= {"test/neg": 3, "test/pos": 2}
BESIDE = ("README", "imdb.vocab", "train/urls_neg.txt", "test/labeledBow.feat")
CLASSES = ("neg", "pos")


def content(folder, number):
  """A text that no other file has, of a length of its own."""
  return f"{folder} {number} ".encode() + b"\xff\n" * (number + 1)


def write(root, counts=COUNTS, beside=BESIDE):
  for folder, count in counts.items():
    (root / folder).mkdir(parents=True)
    for number in range(count):
      file = root / folder / f"{number}_{number % 3}.txt"
      file.write_bytes(content(folder, number))
  for name in beside:
    (root / name).write_text("no text of any class")
  return root


def pack(tree, path, around=""):
  with tarfile.open(path, "w:gz") as file:
    file.add(tree, arcname=around or ".")
  return path


def load_all(source):
  return [source.load(split) for split in ("train", "validation", "test")]


def rows(*datasets):
  """Contents and labels, in an order of their own."""
  return sorted(
    (bytes(t - 1 for t in tokens.tolist() if t), int(label))
    for dataset in datasets
    for tokens, label in zip(dataset.inputs, dataset.labels, strict=True)
  )


def expected(part, classes=CLASSES):
  return sorted(
    (content(f"{part}/{name}", number), label)
    for label, name in enumerate(classes)
    for number in range(COUNTS[f"{part}/{name}"])
  )


def refused(path, message, split="train", **options):
  with pytest.raises(UserError) as caught:
    TextFolder(str(path), **options).load(split)
  assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("around", ["", "aclImdb"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_tree_as_of_imdb_is_read_as_it_is_divided(tmp_path, around, packed):
  path = tmp_path / "here"
  write(path / around)
  if packed:
    path = pack(path / around, tmp_path / "here.tar.gz", around)
  source = TextFolder(
    str(path), max_length=50, classes=("pos", "neg"), validation_fraction=0.25
  )
  assert (source.input_shape, source.label_shape) == ((50,), ())
  assert (source.vocab_size, source.class_names) == (257, CLASSES)
  train, validation, test = load_all(source)
  assert rows(test) == expected("test")
  assert rows(train, validation) == expected("train")
  assert np.bincount(validation.labels).tolist() == [2, 3]
  for dataset in (train, validation, test):
    assert dataset.inputs.shape == (len(dataset), 50)
    assert (dataset.inputs.dtype, dataset.labels.dtype) == (np.int16, np.int32)
    assert dataset.class_names == CLASSES


def test_a_tree_without_parts_is_divided_by_the_config(tmp_path):
  root = write(tmp_path) / "train"
  fractions = {"validation_fraction": 0.25, "test_fraction": 0.3}
  options = {"classes": CLASSES, **fractions}
  parts = load_all(TextFolder(str(root), **options))
  assert rows(*parts) == expected("train")
  counts = [np.bincount(part.labels).tolist() for part in parts]
  assert counts == [[4, 6], [2, 2], [2, 4]]
  for name in ("train", "validation", "test"):
    first, again, other = (
      TextFolder(str(root), **options, split_seed=seed).load(name)
      for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert rows(first) != rows(other)
  everything = TextFolder(str(root), **fractions)
  assert everything.class_names == ("neg", "pos", "unsup")
  assert rows(*load_all(everything)) == expected("train", (*CLASSES, "unsup"))


def test_a_long_text_is_cut_at_its_end_and_a_short_one_padded(tmp_path):
  root = write(tmp_path / "tree")
  text = bytes(range(256))
  (root / "test" / "neg" / "0_0.txt").write_bytes(text)
  for length in (256, 255, 7, 1, 300):
    source = TextFolder(str(root), max_length=length, classes=CLASSES)
    tokens = source.load("test").inputs[0]
    assert tokens.tolist() == [*range(1, 257), *[0] * 44][:length]
  assert TextFolder(str(root)).input_shape == (4096,)


@pytest.mark.parametrize("flat", [False, True])
def test_no_text_of_another_part_is_read(tmp_path, flat):
  root = write(tmp_path / "tree")
  path = root / "train" if flat else root
  source = TextFolder(str(path), classes=CLASSES)
  train, validation, test = load_all(source)
  # An empty file is refused where it is read.
  for name, count in COUNTS.items():
    for number in range(count):
      file = root / name / f"{number}_{number % 3}.txt"
      known = {text for text, _ in rows(test)}
      if file.read_bytes() in known:
        file.write_bytes(b"")
  assert rows(source.load("train")) == rows(train)
  assert rows(source.load("validation")) == rows(validation)
  with pytest.raises(UserError, match="is empty"):
    source.load("test")


def test_an_empty_text_is_named(tmp_path):
  root = write(tmp_path / "tree", beside=())
  (root / "train" / "pos" / "0_0.txt").write_bytes(b"")
  whole = "is empty; remove it, or fetch it again"
  errors = []
  for path in (root, pack(root, tmp_path / "packed.tar.gz", "top")):
    source = TextFolder(str(path), classes=CLASSES)
    with pytest.raises(UserError) as caught:
      load_all(source)
    errors.append(str(caught.value))
  assert errors == [
    f"{root}: train/pos/0_0.txt {whole}",
    f"{tmp_path / 'packed.tar.gz'}: top/train/pos/0_0.txt {whole}",
  ]


def test_a_class_of_one_part_alone_needs_a_choice(tmp_path):
  root = write(tmp_path / "tree")
  mend = "lacks; set config.data.classes to ('neg', 'pos')"
  refused(root, f"train/unsup is a class that test/ {mend}")
  (root / "train" / "unsup").rename(root / "test" / "unsup")
  refused(root, f"test/unsup is a class that train/ {mend}")
  refused(
    root,
    "lacks train/unsup/, which config.data.classes asks for; choose from neg, "
    "pos",
    classes=("neg", "unsup"),
  )
  assert rows(TextFolder(str(root), classes=CLASSES).load("test")) == expected(
    "test"
  )
  lone = write(tmp_path / "lone", {"train/a": 9, "test/b": 9}, ())
  refused(lone, "test/b is a class that train/ lacks")


def test_a_class_that_there_is_not_is_named(tmp_path):
  root = write(tmp_path / "tree")
  for path, folder, others in (
    (root, "test/dog", "neg, pos"),
    (root / "train", "dog", "neg, pos, unsup"),
  ):
    refused(
      path,
      f"lacks {folder}/, which config.data.classes asks for; choose from "
      f"{others}",
      classes=("neg", "dog"),
    )


def test_what_is_out_of_place_is_named(tmp_path):
  root = write(tmp_path / "tree")
  (root / "train" / "neg" / "more").mkdir()
  chosen = {"classes": CLASSES}
  assert len(load_all(TextFolder(str(root), **chosen))) == 3
  (root / "train" / "neg" / "more" / "0.txt").write_text("deep")
  refused(root, "train/neg/more/0.txt lies in no class's folder", **chosen)
  (root / "test" / "cat").mkdir()
  refused(root, "test/cat/ holds no text")
  # Nothing in a class that is not chosen matters.
  assert TextFolder(str(root), classes=("pos",)).class_names == ("pos",)
  loose = write(tmp_path / "loose", {"train/a": 0, "test/a": 1}, ())
  (loose / "train" / "a").rmdir()
  (loose / "train" / "0.txt").write_text("in no class")
  for classes in ((), ("a",)):
    refused(loose, "holds no train/<class>/<text>", classes=classes)


def test_a_path_with_no_text_is_refused(tmp_path):
  refused(tmp_path / "gone", "does not exist")
  (tmp_path / "tree").mkdir()
  refused(tmp_path / "tree", "holds no <class>/<text>")
  (tmp_path / "file.txt").write_text("no archive")
  with pytest.raises(UserError, match=r"file\.txt: a damaged archive, or none"):
    TextFolder(str(tmp_path / "file.txt")).load("train")


def test_a_text_that_can_not_be_read_is_named(tmp_path):
  root = write(tmp_path / "tree")
  link = root / "test" / "neg" / "loop.txt"
  link.symlink_to(link)
  with pytest.raises(UserError, match=r"loop\.txt: .*symbolic links"):
    TextFolder(str(root), classes=CLASSES).load("test")


def test_a_class_too_small_to_be_split_is_named(tmp_path):
  root = write(tmp_path / "tree", {"train/a": 1, "train/b": 9, "test/a": 1})
  (root / "test" / "b").mkdir()
  (root / "test" / "b" / "0.txt").write_text("b")
  with pytest.raises(UserError, match=r"0\.1 of 10 .* class a has 1"):
    TextFolder(str(root)).load("train")
  assert len(TextFolder(str(root)).load("test")) == 2


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
    TextFolder(**{"path": "somewhere", **options})


def test_a_name_alone_is_no_choice_of_classes():
  source = TextFolder("somewhere")
  # Here, but not where users are, its type is checked before it can say so.
  object.__setattr__(source, "classes", "neg")
  with pytest.raises(ValueError, match=r"^classes: 'neg' is not a tuple of na"):
    source.__post_init__()


def test_what_is_no_split_is_refused(tmp_path):
  with pytest.raises(ValueError, match="split: 'dev'"):
    TextFolder(str(write(tmp_path / "tree")), classes=CLASSES).load("dev")
