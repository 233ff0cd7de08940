"""Which images of a user's folder are used as what: parts by any usual name, subfolders, links, odd names; and what
is said about the rest."""

import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ltbench.data.datasets.folder_listing import BESIDE, LITTER, find
from ltbench.errors import LtbenchError


@pytest.fixture
def tree(tmp_path):
    """Write images of one pixel, each of its own colour: ``tree("train/ant/1.png", ...)``; the folder."""
    folder, count = tmp_path / "data", [0]

    def write(*names):
        for name in names:
            count[0] += 1
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (1, 1), (count[0] // 256, count[0] % 256, 0)).save(folder / name, "PNG")
        return folder

    return write


def parts_of(found):
    return {
        part: [(found.classes[label], found.name(file)) for file, label in zip(own.files, own.labels, strict=True)]
        for part, own in found.parts.items()
    }


def names_of(found, part):
    return [name for _, name in parts_of(found)[part]]


def two(part, *classes):
    return [f"{part}/{name}/{i}.png" for name in classes or ("ant", "bee") for i in (1, 2)]


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"), ("Train", "Valid", "Test"), ("TRAIN", "VALIDATION", "TEST"),
        ("training", "validation", "testing"), ("Training", "dev", "Testing"),
    ],
)  # fmt: skip
def test_parts_have_their_usual_names(names, tree):
    train, validation, test = names
    found = find(tree(*two(train), *two(validation), *two(test)))
    assert found.classes == ("ant", "bee")
    assert {part: names_of(found, part)[0] for part in found.parts} == {
        "train": f"{train}/ant/1.png", "validation": f"{validation}/ant/1.png", "test": f"{test}/ant/1.png",
    }  # fmt: skip
    assert [own.labels.tolist() for own in found.parts.values()] == [[0, 0, 1, 1]] * 3
    assert (found.notes, found.skipped) == ([], [])


def test_without_test_images_val_is_for_validation_and_that_is_said(tree):
    found = find(tree(*two("train"), *two("val")))
    assert list(found.parts) == ["train", "validation"]
    assert found.notes == [
        "there is no test/: a part of train/ is the test set, and val/ the validation set, which --validation uses"
    ]


def test_validation_images_may_lack_a_class_but_have_no_other(tree):
    folder = tree(*two("train"), *two("test"), *two("val", "bee"))
    assert parts_of(find(folder))["validation"] == [("bee", "val/bee/1.png"), ("bee", "val/bee/2.png")]
    tree(*two("val", "cow"))
    with pytest.raises(LtbenchError, match="class folders disagree between train/ and val/: cow"):
        find(folder)


def test_an_empty_val_is_none(tree):
    folder = tree(*two("train"), *two("test"))
    (folder / "val").mkdir()
    found = find(folder)
    assert list(found.parts) == ["train", "test"]
    assert found.notes == ["val/ is empty"]


@pytest.mark.parametrize("depth", ["mine", "mine/deep"])
def test_a_folder_around_it_is_entered_and_that_is_said(depth, tree):
    folder = tree(*two(f"{depth}/train"), *two(f"{depth}/test"), f"__MACOSX/{depth}/train/ant/1.png")
    found = find(folder)
    assert found.root == folder / depth
    assert found.notes == [f"the data set is the one folder in it: {depth}/"]
    assert names_of(found, "test")[0] == "test/ant/1.png"


def test_a_folder_around_classes_is_entered(tree):
    folder = tree("mine/ant/1.png", "mine/bee/1.png")
    assert find(folder).classes == ("ant", "bee")


def test_a_folder_in_each_part_is_entered(tree):
    found = find(tree(*two("train/images"), *two("test/images")))
    assert found.classes == ("ant", "bee")
    assert found.notes[0] == "the classes of train/ lie in its one folder train/images/"


def test_a_class_may_be_called_train(tree):
    found = find(tree("bus/1.png", "train/1.png", "train/2.png", "test/1.png"))
    assert found.classes == ("bus", "test", "train")
    assert list(found.parts) == ["train"]
    assert found.notes == ["test/ and train/ are taken for a class, by what lies beside"]


REFUSED = {
    "two names of a part": ([*two("train"), *two("test"), *two("testing")], "test/ and testing/ are names of one part"),
    "two cases of a part": ([*two("train"), *two("Train"), *two("test")], "Train/ and train/ are names of one part"),
    "no train": ([*two("test"), *two("val")], "val/ and test/ look like a part of a data set, but there is no train/"),
    "classes beside train": ([*two("train"), "cat/1.png"], "train/ looks like a part of a data set, but classes lie"),
    "classes beside test": ([*two("test"), "cat/1.png", "dog/1.png"], "but there is no train/ beside cat/ and dog/"),
    "unsorted test": ([*two("train"), "test/1.png"], "test/ holds images, but no folders of classes, unlike train/"),
    "unsorted": (["train/1.png", "test/1.png"], "test/ and train/ hold images, but no folders of classes"),
    "turned round": (
        ["ant/train/1.png", "ant/test/1.png", "bee/train/1.png", "bee/test/1.png"],
        "class folders hold parts of the data set: ant/test/, ant/train/, bee/test/",
    ),
    "other case in test": ([*two("train"), *two("test", "ant", "Bee")], "train/ and test/: Bee, bee"),
    "space in test": ([*two("train"), *two("test", "ant", "bee ")], "train/ and test/: bee, 'bee '"),
    "twin with a space": (["ant/1.png", "ant /1.png"], "the names of two classes look the same: 'ant' and 'ant '"),
    "twin of Unicode": (
        ["caf\u00e9/1.png", "cafe\u0301/1.png"],
        r"the names of two classes look the same: 'cafe\u0301' and 'caf\xe9'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(kind, tree):
    names, words = REFUSED[kind]
    with pytest.raises(LtbenchError) as caught:
        find(tree(*names))
    assert words in str(caught.value)
    assert "to do:" in str(caught.value)
    assert "/data" in str(caught.value)


def test_classes_that_differ_in_case_are_noted(tree):
    found = find(tree("Cat/1.png", "cat/1.png", "dog/1.png"))
    assert found.classes == ("Cat", "cat", "dog")
    assert found.notes == ["the classes Cat and cat differ only in upper and lower case"]


def test_images_in_folders_of_a_class_belong_to_it(tree):
    found = find(tree("ant/1.png", "ant/2023/may/2.png", "ant/2024/3.png", "bee/x/1.png"))
    assert parts_of(found)["train"] == [
        ("ant", "ant/1.png"), ("ant", "ant/2023/may/2.png"), ("ant", "ant/2024/3.png"), ("bee", "bee/x/1.png"),
    ]  # fmt: skip
    assert found.notes == [
        "images in folders of class folders, which belong to these classes: 3, e.g. ant/2023/may/2.png"
    ]


def test_every_file_that_is_not_used_is_counted_with_the_reason(tree):
    folder = tree("ant/1.png", "ant/2.png", "bee/1.png", "loose.png", "train/../bee/2.png")
    for name in ("ant/.hidden.png", "ant/Thumbs.db", "bee/.DS_Store", "bee/desktop.ini", "ant/._1.png"):
        (folder / name).write_bytes(b"x")
    (folder / "ant/__MACOSX").mkdir()
    (folder / "ant/__MACOSX/1.png").write_bytes(b"x")
    (folder / "ant/notes.txt").write_text("about ants")
    (folder / "ant/film.mpg").write_bytes(b"\0\0\1\xb3" + bytes(100))
    (folder / "bee/gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "bee/folder gone").symlink_to(folder / "nowhere")
    (folder / "bee/again").symlink_to(folder / "bee")
    (folder / "cow").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "bee/pipe.jpg")
    (folder / "train").rmdir()
    found = find(folder)
    assert names_of(found, "train") == ["ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png"]
    assert Counter(reason for _, reason in found.skipped) == {
        LITTER: 6, "images in no class folder": 1, "files that are no images": 2, "links that lead nowhere": 3,
        "devices or pipes": 1, "links to a folder that is read already": 1,
    }  # fmt: skip
    words = found.skipped_words()
    assert "1 images in no class folder (loose.png)" in words
    assert "2 files that are no images (ant/film.mpg, ant/notes.txt)" in words
    assert "3 links that lead nowhere (cow, bee/folder gone, bee/gone.jpg)" in words
    assert "Thumbs.db" not in words


def test_what_lies_beside_parts_and_class_folders_is_counted_too(tree):
    folder = tree(*two("train", "ant", "bee"), *two("test", "ant", "bee"), "loose.png", "train/loose.png")
    for name in ("README.md", "train/labels.txt", "ltbench-split.csv"):
        (folder / name).write_text("about")
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "train/ant/null.png").symlink_to(os.devnull)
    os.mkfifo(folder / "test/pipe.jpg")
    found = find(folder)
    assert sorted((found.name(path), reason) for path, reason in found.skipped) == [
        ("README.md", BESIDE),
        ("gone", "links that lead nowhere"),
        ("loose.png", "images in no class folder"),
        ("test/pipe.jpg", "devices or pipes"),
        ("train/ant/null.png", "devices or pipes"),
        ("train/labels.txt", BESIDE),
        ("train/loose.png", "images in no class folder"),
    ]
    assert "README" not in found.skipped_words(), "which is not unusual"


def test_a_file_belongs_to_the_class_in_whose_folder_it_lies(tree):
    """Also where a class is called as a part is."""
    found = find(tree(*two("train", "test", "train"), *two("test", "test", "train")))
    for name, its in (("train/test/a.txt", "test"), ("test/train/x/b.txt", "train"), ("test/c.txt", None)):
        assert found.class_of(found.root / name) == its


def test_images_are_known_by_name_in_any_case_or_by_content(tree):
    names = ["1.PNG", "2.JFIF", "3.webp", "4.BMP", "5.avif", "6", "7.download", "8.Tiff"]
    found = find(tree(*(f"ant/{name}" for name in names), "bee/1.png"))
    assert names_of(found, "train")[:-1] == [f"ant/{name}" for name in names]
    assert found.skipped == []


def test_links_to_images_and_folders_are_followed(tree, tmp_path):
    folder = tree("ant/1.png")
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "elsewhere" / "2.png")
    (folder / "bee").symlink_to(tmp_path / "elsewhere")
    (folder / "ant" / "3.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    assert names_of(find(folder), "train") == ["ant/1.png", "ant/3.png", "bee/2.png"]


def test_classes_of_train_may_lack_test_images_if_that_is_wanted(tree):
    folder = tree(*two("train", "ant", "bee", "cow"), *two("test", "ant", "cow"))
    (folder / "test/bee").mkdir()
    with pytest.raises(LtbenchError, match="train/ and test/: bee") as caught:
        find(folder)
    assert "--keep-classes-without-test-images" in str(caught.value)
    found = find(folder, keep_untested=True)
    np.testing.assert_array_equal(found.parts["test"].labels, [0, 0, 2, 2])
    tree(*two("test", "elk"))
    with pytest.raises(LtbenchError, match="train/ and test/: elk"):
        find(folder, keep_untested=True)


def test_folders_beside_the_parts_are_named(tree):
    found = find(tree(*two("train"), *two("test"), "extra/1.png"))
    assert found.skipped_words() == "1 folders beside train/ and test/ (extra)"


def test_names_that_a_terminal_would_obey_or_cannot_show_are_spelt_out(tree):
    folder = tree("ant/1.png", "bee/1.png")
    (folder / "ant" / "a\x1b[31m.txt").write_text("x")
    (folder / "ant" / os.fsdecode(b"b\xe9.txt")).write_text("x")
    assert find(folder).skipped_words() == r"2 files that are no images (ant/a\x1b[31m.txt, ant/b\udce9.txt)"


@pytest.mark.parametrize("names", [("train_set", "test_set"), ("seg_train", "seg_test", "seg_pred_val")])
def test_folders_that_look_like_parts_are_not_taken_for_classes(names, tree):
    folder = tree(*(f"{part}/{name}/{i}.png" for part in names for name in ("ant", "bee") for i in range(3)))
    with pytest.raises(LtbenchError, match="look like parts of the data set") as caught:
        find(folder)
    assert "call them train/, val/ and test/" in str(caught.value)


def test_classes_may_be_named_like_parts_if_their_images_lie_in_them(tree):
    assert find(tree("train_station/1.png", "train_station/2.png", "test_tube/1.png")).classes == (
        "test_tube", "train_station",
    )  # fmt: skip
