"""Byte-identical files in a user's folder: on one side of every split of ours, and told where they are not."""

import os
import shutil

import numpy as np
import pytest

from ltbench.config import RunConfig
from ltbench.data import dataset
from ltbench.data.datasets import duplicates
from ltbench.data.datasets.duplicates import find_duplicates
from ltbench.data.datasets.folder_split import SPLIT_FILE
from ltbench.data.datasets.image_folder import Folder, find_parts, read
from ltbench.data.long_tail import hold_out, take_whole
from ltbench.errors import LtbenchError, LtbenchWarning


def test_copies_are_found_by_their_bytes(tmp_path):
    contents = [b"one", b"two", b"one", b"", b"", b"three", b"one", bytes(70_000), bytes(69_999) + b"x", bytes(70_000)]
    files = [tmp_path / str(i) for i in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert find_duplicates(files).tolist() == [0, 1, 0, 3, 4, 5, 0, 7, 8, 7]
    files[2].write_bytes(b"owe")
    os.utime(files[2], ns=(0, 0))
    assert find_duplicates(files).tolist() == [0, 1, 2, 3, 4, 5, 0, 7, 8, 7]


def test_only_files_of_one_size_are_read_and_once(tmp_path, monkeypatch):
    read = []
    real = duplicates._digest
    monkeypatch.setattr(duplicates, "_digest", lambda file, *rest: (read.append(file.name), real(file, *rest))[1])
    for name, content in {"a": b"1", "b": b"22", "c": b"33", "d": b"333"}.items():
        (tmp_path / name).write_bytes(content)
    files = sorted(tmp_path.iterdir())
    find_duplicates(files)
    find_duplicates(files)
    assert sorted(read) == ["b", "c"]


@pytest.mark.parametrize(
    ("order", "size", "copies", "taken"),
    [
        ([3, 1, 0, 2], 2, None, [3, 1]),
        ([3, 1, 0, 2], 2, [0, 1, 2, 3], [3, 1]),
        ([3, 1, 0, 2], 2, [0, 0, 2, 3], [3, 2]),  # the copies 1 and 0 do not fit in beside 3
        ([1, 3, 0, 2], 2, [0, 0, 2, 3], [1, 0]),
        ([0, 1, 2, 3], 1, [0, 0, 2, 2], [0, 1]),  # one image at least, with its copies
        ([0, 1, 2, 3, 4], 1, [0, 0, 0, 3, 3], [3, 4]),  # the fewer
        ([0, 1, 2], 1, [0, 0, 0], []),  # never all
        ([], 1, [], []),
    ],
)
def test_copies_are_taken_together(order, size, copies, taken):
    copies = None if copies is None else np.array(copies, dtype=np.int64)
    assert take_whole(np.array(order, dtype=np.int64), size, copies).tolist() == taken


def test_without_copies_every_draw_is_as_before():
    labels = np.repeat([0, 1, 2, 3], [50, 13, 2, 1])
    np.testing.assert_array_equal(hold_out(labels, 3, duplicates=np.arange(66)), hold_out(labels, 3))
    assert np.bincount(labels[hold_out(labels, 3)]).tolist() == [10, 3, 1]


@pytest.mark.parametrize("seed", range(5))
def test_a_held_out_part_takes_all_copies_or_none(seed):
    labels = np.repeat([0, 1, 2], [40, 10, 4])
    copies = np.arange(54) // 2 * 2  # in pairs
    copies[50:] = 50  # nothing but copies
    copies[40:42] = 0  # in two classes
    held = hold_out(labels, seed, duplicates=copies)
    assert not set(copies[held]) & set(copies[~held])
    assert np.bincount(labels[held], minlength=3).tolist() == pytest.approx([8, 2, 0], abs=2)
    assert not held[50:].any()


@pytest.fixture
def copied(tmp_path, class_folders):
    """20 ants, of which 10 are there twice, 5 bees, and a wasp folder of 6, two of them bees."""
    folder = tmp_path / "data"
    class_folders(folder, {"ant": 20, "bee": 5, "wasp": 4})
    class_folders(folder, {"wasp": 4}, seed=1)
    for i in range(10):
        shutil.copy(folder / f"ant/{i:03}.png", folder / f"ant/{i:03} (1).png")
    for i in range(2):
        shutil.copy(folder / f"bee/{i:03}.png", folder / f"wasp/bee {i}.png")
    return folder


def bytes_of(folder_parts, part):
    return {file.read_bytes() for file in folder_parts.parts[part].files}


def test_the_test_set_has_no_copy_of_a_training_image(copied):
    folder_parts = find_parts(copied)
    assert not bytes_of(folder_parts, "train") & bytes_of(folder_parts, "test")
    sizes = [np.bincount(folder_parts.parts[part].labels).tolist() for part in ("train", "test")]
    assert np.sum(sizes, axis=0).tolist() == [30, 5, 6]
    assert sizes[1][0] in (5, 6)
    assert all(1 <= size <= 2 for size in sizes[1][1:])
    assert find_parts(copied).parts["test"].files == folder_parts.parts["test"].files


def test_the_validation_part_has_no_copy_of_a_training_image(copied):
    with pytest.warns(
        LtbenchWarning, match="images that stand in more than one class: 2, e.g. bee/000.png and wasp/bee 0"
    ):
        data = dataset.load(Folder(), RunConfig(dataset="folder-lt", image_size=8, validation=True), copied)

    def images(part):
        return {image.tobytes() for image in part.images}

    assert not images(data.train) & images(data.validation)
    assert not images(data.train) & images(data.test)
    assert len(data.train) + len(data.validation) + len(data.test) == 41
    assert len(data.validation) >= 5


def test_a_stored_split_that_divides_copies_stays_and_is_told(copied):
    stored = "test_image\nant/000.png\nbee/003.png\nwasp/000.png\n"
    (copied / SPLIT_FILE).write_text(stored)
    folder_parts = find_parts(copied)
    assert [folder_parts.listing.name(file) for file in folder_parts.parts["test"].files] == stored.split()[1:]
    assert (copied / SPLIT_FILE).read_text() == stored
    note = "training images that are copies of test images: 1, e.g. ant/000 (1).png of ant/000.png"
    assert note in folder_parts.notes()


def test_copies_across_parts_of_the_users_own_are_told(tmp_path, class_folders):
    for seed, part in enumerate(("train", "val", "test")):
        class_folders(tmp_path / part, {"ant": 4, "bee": 4}, seed=seed)
    shutil.copy(tmp_path / "train/ant/001.png", tmp_path / "test/ant/a.png")
    shutil.copy(tmp_path / "train/ant/002.png", tmp_path / "test/bee/b.png")
    shutil.copy(tmp_path / "val/bee/002.png", tmp_path / "test/bee/c.png")
    with pytest.warns(LtbenchWarning) as said:
        read(tmp_path, 8)
    assert [str(one.message).removeprefix(f"{tmp_path}: ") for one in said] == [
        "training images that are copies of test images: 2, e.g. train/ant/001.png of test/ant/a.png",
        "validation images that are copies of test images: 1, e.g. val/bee/002.png of test/bee/c.png",
        "images that stand in more than one class: 1, e.g. train/ant/002.png and test/bee/b.png, with the same bytes",
    ]


def test_a_class_of_copies_alone_cannot_be_split(tmp_path, class_folders):
    class_folders(tmp_path, {"ant": 5, "bee": 1})
    for i in range(3):
        shutil.copy(tmp_path / "bee/000.png", tmp_path / f"bee/{i}.png")
    with pytest.raises(LtbenchError, match="a class of which all images are copies of one") as caught:
        read(tmp_path, 8)
    assert "bee/" in str(caught.value)
