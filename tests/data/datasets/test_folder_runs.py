"""A user's folder from the command line: data verify agrees with a run, read-only folders, classes without tests."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltbench.config import RunConfig, run_id
from ltbench.data import label_shift
from ltbench.data.datasets import image_folder as image_folder
from ltbench.data.datasets.folder_listing import Listing
from ltbench.data.datasets.folder_split import SPLIT_FILE, split_file
from ltbench.data.datasets.image_folder import Folder, read
from ltbench.data.long_tail import hold_out
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.files.paths import cache_dir

NOTES = pytest.mark.filterwarnings("default::ltbench.errors.LtbenchWarning")
RUN = ("run", "--method", "ce", "--dataset", "folder-lt", "--image-size", 8, "--epochs", 1, "--device", "cpu")


@pytest.fixture
def messy(tmp_path, class_folders):
    """train/, val/ and test/ in a folder of their own, with some of everything."""
    folder = tmp_path / "data"
    sizes = {"train": {"ant": 30, "bee": 9}, "val": {"ant": 4, "bee": 3}, "test": {"ant": 5, "bee": 5}}
    for seed, (part, counts) in enumerate(sizes.items()):
        class_folders(folder / "mine" / part, counts, seed=seed)
    root = folder / "mine"
    shutil.copy(root / "train/ant/000.png", root / "train/ant/copy.png")
    shutil.copy(root / "train/ant/001.png", root / "test/ant/leak.png")
    (root / "train/ant/Thumbs.db").write_bytes(b"x")
    (root / "train/bee/notes.txt").write_text("x")
    (root / "test/bee/gone.png").symlink_to("/nowhere")
    return folder


def table_of(text):
    """The rows of the table that data verify prints: class -> column -> text."""
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("Class "))
    heads = lines[begin].replace("Not used", "NotUsed").split()
    rows = [line.rsplit(maxsplit=len(heads) - 1) for line in lines[begin + 1 : begin + 5]]
    return {row[0]: dict(zip(heads, row, strict=True)) for row in rows if len(row) == len(heads)}


@pytest.mark.slow
@NOTES
def test_verify_shows_what_a_run_uses(messy, cli):
    done = cli("data", "verify", "folder-lt", "--data-dir", messy)
    assert done.code == 0, done.err
    rows = table_of(done.out)
    heads = ("Train", "Validation", "Test", "Copies", "Unreadable", "NotUsed")
    assert {name: [row[head] for head in heads] for name, row in rows.items()} == {
        "ant": ["31", "4", "6", "1", "0", "1"],
        "bee": ["9", "3", "5", "0", "0", "2"],
        "all": ["40", "7", "11", "1", "0", "3"],
    }
    for words in (
        "the data set is the one folder in it: mine/",
        "training images that are copies of test images: 1, e.g. train/ant/001.png of test/ant/leak.png",
        "1 hidden, or left by an operating system: train/ant/Thumbs.db",
        "1 files that are no images: train/bee/notes.txt",
        "1 links that lead nowhere: test/bee/gone.png",
        "sizes                     8 x 8 to 8 x 8 pixels",
        "58 PNG RGB",
        "training images           40, 31 to 9 a class",
        "test images               11",
    ):
        assert words in done.out, words
    ran = cli(*RUN, "--data-dir", messy, "--validation", "--out", "runs")
    assert ran.code == 0, ran.err
    (path,) = Path("runs").rglob("*.json")
    stored = json.loads(path.read_text())
    assert stored["data"]["trained_on"] == [31, 9]
    assert stored["metrics"]["validation"]["total"] == [4, 3]
    assert stored["metrics"]["test"]["total"] == [6, 5]
    assert "ltbench: note" in ran.err
    for words in ("the one folder in it", "copies of test images", "1 links that lead nowhere (test/bee/gone.png)"):
        assert words in ran.err


def test_verify_writes_out_what_would_act_in_the_name_of_a_class(tmp_path, class_folders, cli):
    class_folders(tmp_path / "data", {"a\nb": 3, "c\x1b[31md": 3, "[bold]e": 3})
    done = cli("data", "verify", "folder-lt", "--data-dir", tmp_path / "data")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("Class "))
    names = [line.rsplit(maxsplit=5)[0] for line in lines[begin + 1 : begin + 4]]
    assert names == ["[bold]e", r"a\nb", r"c\x1b[31md"]


@pytest.mark.parametrize("streamed", [False, True])
def test_verify_names_every_unreadable_image_with_the_reason(messy, cli, monkeypatch, streamed):
    monkeypatch.setattr(image_folder, "STREAMED_ABOVE", 0 if streamed else 2**31)
    train = messy / "mine/train/bee"
    whole = (train / "000.png").read_bytes()
    (train / "000.png").write_bytes(whole[:100])
    (train / "001.png").write_bytes(b"")
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(train / "002.png", "TIFF")
    done = cli("data", "verify", "folder-lt", "--data-dir", messy, *(["--decode"] if streamed else []))
    assert done.code == 2
    assert table_of(done.out)["bee"]["Unreadable"] == "3"
    assert table_of(done.out)["ant"]["Unreadable"] == "0"
    for words in (
        "damaged: train/bee/000.png: truncated, or no image",
        "damaged: train/bee/001.png: the file is empty",
        "damaged: train/bee/002.png: its pixels are floating-point numbers",
    ):
        assert words in done.err
    assert "train/bee/003.png" not in done.err


def test_several_frames_are_told(tmp_path, class_folders, cli):
    class_folders(tmp_path, {"ant": 4, "bee": 4})
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    frames[0].save(tmp_path / "ant/a.gif", save_all=True, append_images=frames[1:])
    done = cli("data", "verify", "folder-lt", "--data-dir", tmp_path)
    assert "several frames            images of which the first frame is used: 1, ant/a.gif" in done.out
    for _ in range(2):  # decoded, and from the cache
        with pytest.warns(LtbenchWarning, match="images with several frames, of which the first is used: 1, ant/a.gif"):
            read(tmp_path, 8)


@pytest.fixture
def read_only(monkeypatch):
    """A folder into which nothing can be written, also by root."""

    def close(folder):
        real = Path.open

        def refuse(path, mode="r", *args, **how):
            if "x" in mode and path.is_relative_to(folder):
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return real(path, mode, *args, **how)

        monkeypatch.setattr(Path, "open", refuse)

    return close


@pytest.mark.slow
@NOTES
def test_the_split_of_a_read_only_folder_is_kept_in_the_cache_and_found_by_every_command(
    tmp_path, class_folders, cli, read_only
):
    folder = tmp_path / "data"
    class_folders(folder, {"ant": 20, "bee": 10})
    read_only(folder)
    ran = cli(*RUN, "--data-dir", folder, "--out", "runs")
    assert ran.code == 0, ran.err
    stored = split_file(Listing(folder))
    assert stored.is_relative_to(cache_dir())
    assert f"images is kept in {stored}, since {folder} could not be written" in ran.err
    assert not (folder / SPLIT_FILE).exists()
    names = stored.read_text().split()[1:]
    assert len(names) == 6
    class_folders(folder, {"ant": 15}, seed=1, first=20)  # which would change a new draw
    verified = cli("data", "verify", "folder-lt", "--data-dir", folder)
    assert f"stored in {stored}" in verified.out
    order = cli("data", "order", "folder-lt", "--data-dir", folder)
    assert sorted(line.rpartition(",")[2] for line in order.out.splitlines()[1:]) == names
    (path,) = Path("runs").rglob("*.json")
    assert cli("evaluate", path).code == 0
    predicted = cli("predict", path, folder / names[0], "--data-dir", folder)
    assert predicted.code == 0, predicted.err
    assert stored.read_text().split()[1:] == names


def test_a_split_in_the_folder_goes_before_one_in_the_cache(tmp_path, class_folders, read_only):
    class_folders(tmp_path, {"ant": 20, "bee": 10})
    read_only(tmp_path)
    with pytest.warns(LtbenchWarning, match="is kept in"):
        read(tmp_path, 8)
    (tmp_path / SPLIT_FILE).write_text("test_image\nant/000.png\nbee/000.png\n")
    assert split_file(Listing(tmp_path)) == tmp_path / SPLIT_FILE
    assert read(tmp_path, 8).test_names == ("ant/000.png", "bee/000.png")


def test_a_full_disk_is_no_read_only_folder(tmp_path, class_folders, monkeypatch):
    class_folders(tmp_path, {"ant": 5, "bee": 5})

    real = Path.open

    def full(path, mode="r", *args, **how):
        if "x" in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *args, **how)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(LtbenchError, match="No space left on device"):
        read(tmp_path, 8)


def test_val_is_for_validation_and_the_test_set_comes_from_train(tmp_path, class_folders):
    class_folders(tmp_path / "train", {"ant": 20, "bee": 10})
    made = class_folders(tmp_path / "val", {"ant": 3, "bee": 2}, seed=1)
    with pytest.warns(LtbenchWarning, match="there is no test/: a part of train/ is the test set, and val/ the valid"):
        data = read(tmp_path, 8)
    np.testing.assert_array_equal(data.validation.images, np.concatenate([made["ant"], made["bee"]]))
    assert np.bincount(data.train.labels).tolist() == [16, 8]
    assert np.bincount(data.test.labels).tolist() == [4, 2]
    assert all(name.startswith("train/") for name in data.test_names)


@pytest.mark.slow
@NOTES
def test_a_class_without_test_images_is_trained_on_if_that_is_wanted(tmp_path, class_folders, cli):
    folder = tmp_path / "data"
    class_folders(folder / "train", {"ant": 30, "bee": 9, "cow": 3})
    class_folders(folder / "test", {"ant": 5, "cow": 5}, seed=1)
    refused = cli(*RUN, "--data-dir", folder)
    assert refused.code == 2
    assert "class folders disagree between train/ and test/: bee" in refused.err
    assert "--keep-classes-without-test-images" in refused.err
    keep = "--keep-classes-without-test-images"
    ran = cli(*RUN, "--data-dir", folder, keep, "--out", "runs")
    assert ran.code == 0, ran.err
    assert "no test images of 1 of 3 classes, which are trained on and whose accuracy is n/a: bee" in ran.err
    (path,) = Path("runs").rglob("*.json")
    stored = json.loads(path.read_text())
    assert stored["config"]["keep_classes_without_test_images"] is True
    assert stored["data"]["counts"] == [30, 9, 3]
    assert stored["metrics"]["test"]["total"] == [5, 0, 5]
    correct = stored["metrics"]["test"]["correct"]
    assert stored["metrics"]["test"]["macro"] == pytest.approx(100 * (correct[0] / 5 + correct[2] / 5) / 2)
    assert stored["metrics"]["test"]["few"] == pytest.approx(100 * correct[2] / 5), (
        "of cow alone, though bee is few too"
    )
    verified = cli("data", "verify", "folder-lt", "--data-dir", folder, keep)
    assert verified.code == 0, verified.err
    assert table_of(verified.out)["bee"]["Test"] == "0"
    for words in (["show", path], ["report", "--results", "runs"], ["evaluate", path],
                  ["report", "--results", "runs", "--format", "html", "--output", "page.html"],
                  ["data", "order", "folder-lt", "--data-dir", folder, keep]):  # fmt: skip
        done = cli(*words)
        assert done.code == 0, (words, done.err)
    assert keep in cli("show", path).out, "the command that repeats it"


def test_a_class_of_one_image_is_trained_on_if_that_is_wanted(tmp_path, class_folders):
    class_folders(tmp_path, {"ant": 10, "bee": 1, "cow": 5})
    with pytest.raises(LtbenchError, match="one image") as caught:
        read(tmp_path, 8)
    assert "--keep-classes-without-test-images" in str(caught.value)
    with pytest.warns(LtbenchWarning, match="no test images of 1 of "):
        data = read(tmp_path, 8, keep_untested=True)
    assert np.bincount(data.train.labels).tolist() == [8, 1, 4]
    assert np.bincount(data.test.labels, minlength=3).tolist() == [2, 0, 1]


@pytest.mark.slow
def test_the_option_names_no_run_anew_where_it_changes_nothing(tmp_path, class_folders, cli):
    folder = tmp_path / "data"
    class_folders(folder, {"ant": 10, "bee": 10})
    assert cli(*RUN, "--data-dir", folder, "--out", "runs").code == 0
    again = cli(*RUN, "--data-dir", folder, "--out", "runs", "--keep-classes-without-test-images")
    assert again.code == 0
    assert len(list(Path("runs").rglob("*.json"))) == 1
    config = RunConfig(dataset="folder-lt")
    assert run_id(config, "1", "x") != run_id(config.replace(keep_classes_without_test_images=True), "1", "x")


def test_other_data_sets_have_test_images_of_every_class(cli):
    done = cli("run", "--method", "ce", "--epochs", 1, "--keep-classes-without-test-images")
    assert done.code == 2
    assert "every class of digits-lt has test images" in done.err


def test_shifted_test_sets_leave_out_classes_that_have_no_images():
    """Of the classes 0, 2 and 3 the shift at ratio 4 takes 8, 4, 2 forward: floor(8 / 4^(c / 2))."""
    labels, train = np.repeat([0, 2, 3], 8), np.array([100, 50, 20, 5])
    for direction, want in (("forward", [8, 0, 4, 2]), ("backward", [2, 0, 4, 8])):
        chosen = label_shift.shifted(labels, train, label_shift.LabelShift(direction, 4))
        assert np.bincount(labels[chosen], minlength=4).tolist() == want


def test_a_folder_of_files_is_read_alike(messy, monkeypatch):
    with pytest.warns(LtbenchWarning):
        memory = Folder().load(messy, 8)
    monkeypatch.setattr(image_folder, "STREAMED_ABOVE", 0)
    with pytest.warns(LtbenchWarning):
        files = Folder().load(messy, 8)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(memory, part).labels, getattr(files, part).labels)
    assert memory.test_names == files.test_names == tuple(files.test.names.tolist())
    assert all((files.train.root / name).is_file() for name in files.train.names)
    held = hold_out(memory.train.labels, 0, duplicates=memory.duplicates)
    assert not set(memory.duplicates[held]) & set(memory.duplicates[~held])
