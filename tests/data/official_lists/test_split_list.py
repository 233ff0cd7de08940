"""Lists of splits: git's name for a content, and what counts as the official list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench.data.official_lists.split_list import blob_id, identity, read
from ltbench.errors import LtbenchError


def test_a_blob_id_is_gits():
    # printf 'hello\n' | git hash-object --stdin, and the empty file, as every git repository knows them
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


OFFICIAL = "train/a/1.JPEG 0\ntrain/b/2.JPEG 1\n"
PATHS = ["train/a/1.JPEG", "train/b/2.JPEG"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (OFFICIAL, "the official list"),
        (OFFICIAL.replace("\n", "\r\n"), "the official list, with the line ends of Windows"),
        (OFFICIAL.replace("train/", ""), "the official list, its paths written in another way"),
        (OFFICIAL.replace("train/", "").replace("\n", "\r\n"), "the official list, its paths written in another way"),
        ("\ufeff" + OFFICIAL.rstrip(), "the official list, its paths written in another way"),
    ],
)
def test_copies_of_the_official_list_are_recognised(tmp_path, text, words):
    file = tmp_path / "list.txt"
    file.write_bytes(text.encode())
    found = read(file, {"train": "train"}, "train")
    assert identity(found, blob_id(OFFICIAL.encode()), PATHS) == (True, words)


@pytest.mark.parametrize("text", [OFFICIAL.replace("1\n", "0\n"), "".join(reversed(OFFICIAL.splitlines(True)))])
def test_another_list_is_not_the_official_one(tmp_path, text):
    file = tmp_path / "list.txt"
    file.write_text(text)
    found = read(file, {"train": "train"}, "train")
    paths = [line.split()[0] for line in text.splitlines()]
    same, words = identity(found, blob_id(OFFICIAL.encode()), paths)
    assert not same
    assert blob_id(text.encode()) in words
    assert blob_id(OFFICIAL.encode()) in words


names = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="_-."), min_size=1).filter(
    lambda name: name.strip(".")
)


@given(st.lists(st.tuples(st.lists(names, max_size=3), names, st.integers(0, 9999)), min_size=1), st.booleans())
def test_what_is_written_is_read(tmp_path_factory, entries, rooted):
    file = tmp_path_factory.mktemp("lists") / "list.txt"
    root = ["ROOT"] if rooted else []
    file.write_text("".join(f"{'/'.join([*root, *folders, image])}\t{label}\n" for folders, image, label in entries))
    found = read(file, {"ROOT": "one set"}, "another")
    assert found.image_sets == (("one set" if rooted else "another"),) * len(entries)
    assert found.folders == tuple("/".join(folders) for folders, *_ in entries)
    assert found.images == tuple(image for _, image, _ in entries)
    assert found.labels.tolist() == [label for *_, label in entries]


def test_lines_are_told_by_number_whatever_is_blank(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("a/1.jpg 0\n\n \na/2.jpg one\n")
    with pytest.raises(LtbenchError, match="line 4"):
        read(file, {}, "train")
