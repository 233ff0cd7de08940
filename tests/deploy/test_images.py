"""ltbench predict: which files, which numbers, and what becomes of damaged ones."""

import csv
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltbench.deploy.images import image_files, write_csv
from ltbench.errors import LtbenchError

pytestmark = pytest.mark.slow


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("method", ["ce", "balpoe", "tau_norm"])
def test_images_of_the_test_set_get_the_predictions_of_the_evaluation(
    method, trained, test_digits, write_pixels, tmp_path, cli
):
    one = trained(method)
    for i, image in enumerate(test_digits):
        write_pixels(tmp_path / "digits" / f"{i:03}.png", image[0])
    called = cli("predict", one.result.run_id[:8], "digits", "--results", one.folder, "--device", "cpu")
    assert called.code == 0, called.err
    rows = rows_of(called.out)
    assert [row["file"] for row in rows] == [f"digits/{i:03}.png" for i in range(400)]
    assert [int(row["label"]) for row in rows] == one.logits.argmax(1).tolist()
    found = np.array([[float(row[f"p({c})"]) for c in range(10)] for row in rows])
    np.testing.assert_allclose(found, one.logits.softmax(1).numpy(), rtol=1e-4, atol=1e-6)
    assert [row["probability"] for row in rows] == [row[f"p({row['label']})"] for row in rows]


def test_the_lines_of_three_images():
    """Logits log(.5), log(.3), log(.2) have these probabilities."""
    classes = ["cat", "dog, wet", "elk"]
    found = [("a.png", torch.tensor([0.2, 0.5, 0.3]).log()), ("b.png", None), ("c.png", torch.tensor([2.0, 2.0, 2.0]))]
    every, best = io.StringIO(), io.StringIO()
    assert write_csv(every, classes, found) == ["b.png"]
    assert every.getvalue().splitlines() == [
        'file,label,probability,p(cat),"p(dog, wet)",p(elk)',
        'a.png,"dog, wet",0.5,0.2,0.5,0.3',
        "c.png,cat,0.333333,0.333333,0.333333,0.333333",
    ]
    write_csv(best, classes, found, top=2)
    assert best.getvalue().splitlines() == [
        "file,label,probability,label_2,probability_2",
        'a.png,"dog, wet",0.5,elk,0.3',
        'c.png,cat,0.333333,"dog, wet",0.333333',
    ]


@pytest.mark.parametrize(("top", "columns"), [(1, 3), (3, 7), (50, 7)])
def test_no_more_classes_than_there_are(top, columns):
    text = io.StringIO()
    write_csv(text, ["a", "b", "c"], [("x", torch.zeros(3))], top)
    assert [len(line.split(",")) for line in text.getvalue().splitlines()] == [columns, columns]


def test_a_folder_is_searched_to_the_bottom(tmp_path):
    for name in (
        "b.png",
        "a/deep/c.JPG",
        "a/notes.txt",
        ".hidden.png",
        ".thumbs/d.png",
        "split.csv",
        "ltbench-split.csv",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    files, others = image_files([tmp_path])
    assert [file.relative_to(tmp_path).as_posix() for file in files] == ["a/deep/c.JPG", "b.png"]
    assert [file.name for file in others] == ["notes.txt", "split.csv"]
    named, _ = image_files([tmp_path / "split.csv", tmp_path / "b.png", tmp_path / "b.png"])
    assert [file.name for file in named] == ["split.csv", "b.png"]


def test_nothing_to_label_is_an_error(tmp_path, cli, trained):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LtbenchError, match="no image files found"):
        image_files([tmp_path / "empty"])
    (tmp_path / "empty" / "notes.txt").write_text("")
    with pytest.raises(LtbenchError, match="no image files found, only 1 other files"):
        image_files([tmp_path / "empty"])
    called = cli("predict", trained("ce").path, "nowhere")
    assert called.code == 2
    assert "there is no such file or folder" in called.err


def test_damaged_files_are_named_and_the_others_labelled(trained, write_pixels, tmp_path, cli):
    write_pixels(tmp_path / "in" / "a.png", np.zeros((8, 8)))
    whole = write_pixels(tmp_path / "in" / "b.png", np.arange(64).reshape(8, 8)).read_bytes()
    (tmp_path / "in" / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "c.png").write_text("no image")
    (tmp_path / "in" / "notes.txt").write_text("")
    called = cli("predict", trained("ce").path, "in", "--output", "labels.csv", "--top", 2)
    assert called.code == 1
    assert [row["file"] for row in rows_of((tmp_path / "labels.csv").read_text())] == ["in/a.png"]
    assert called.err.splitlines() == [
        "ltbench: note: left out, no image: in/notes.txt",
        "left out: in/b.png: truncated, or no image",
        "left out: in/c.png: truncated, or no image",
        "1 of 3 images classified: labels.csv",
    ]


def test_what_cannot_be_used_is_named_with_the_reason(trained, write_pixels, tmp_path, cli):
    """A header that claims 20,000 x 20,000 pixels gets no memory: see tests/data/loading/test_decode.py."""
    folder = tmp_path / "in"
    write_pixels(folder / "a.png", np.zeros((8, 8)))
    Image.new("L", (16, 16)).save(folder / "bomb.jpg")
    content = bytearray((folder / "bomb.jpg").read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 20_000, 20_000)
    (folder / "bomb.jpg").write_bytes(content)
    (folder / "empty.jpg").touch()
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(folder / "float.tif")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere")
    frames = [Image.new("L", (8, 8), level) for level in (0, 99, 200)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    called = cli("predict", trained("ce").path, "in", "--output", "labels.csv")
    assert called.code == 1
    rows = rows_of((tmp_path / "labels.csv").read_text())
    assert [row["file"] for row in rows] == ["in/a.png", "in/moving.gif"]
    assert [*rows[0].values()][1:] == [*rows[1].values()][1:], "the first frame is as black as the other image"
    reason = "its pixels are floating-point numbers, whose range is not known; save it with 8 bits"
    assert called.err.splitlines() == [
        "ltbench: note: left out, a broken link: in/gone.png",
        "ltbench: note: of several frames the first is classified: in/moving.gif",
        "left out: in/bomb.jpg: the image has more than 178,956,970 pixels",
        "left out: in/empty.jpg: the file is empty",
        f"left out: in/float.tif: {reason}",
        "2 of 5 images classified: labels.csv",
    ]


def test_a_pipe_is_no_image_and_nobody_waits_for_it(trained, write_pixels, tmp_path, cli, test_digits):
    write_pixels(tmp_path / "good.png", test_digits[0][0])
    os.mkfifo(tmp_path / "pipe.png")
    called = cli("predict", trained("ce").result.run_id, "good.png", "pipe.png", "--results", trained("ce").folder)
    assert called.code == 1
    assert "left out: pipe.png: it is a folder, a device or a pipe" in called.err
    assert [row["file"] for row in rows_of(called.out)] == ["good.png"]


def test_a_colour_image_is_looked_at_in_grey(trained, write_pixels, tmp_path, cli, test_digits):
    """Luma (ITU-R 601): pure red of 255 is as bright as grey of 0.299 x 255 = 76.2."""
    grey = test_digits[7, 0]
    write_pixels(tmp_path / "grey.png", grey)
    write_pixels(tmp_path / "colour.png", np.stack([grey] * 3, axis=2))
    write_pixels(tmp_path / "dim.png", np.where(grey > 100, 76, 0))
    write_pixels(tmp_path / "red.png", np.stack([np.where(grey > 100, 255, 0), 0 * grey, 0 * grey], axis=2))
    called = cli("predict", trained("ce").path, "grey.png", "colour.png", "dim.png", "red.png")
    grey, colour, dim, red = ([*row.values()][1:] for row in rows_of(called.out))
    assert grey == colour != dim == red


def test_images_are_found_as_in_training(tmp_path, write_pixels):
    """By their content, and behind links; what is not used is named."""
    there = write_pixels(tmp_path / "there" / "cat" / "a.png", np.zeros((8, 8)))
    there.rename(there.with_suffix(".data"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cat").symlink_to(tmp_path / "there" / "cat")
    (tmp_path / "in" / "nowhere.png").symlink_to(tmp_path / "gone.png")
    files, others = image_files([tmp_path / "in"])
    assert [file.relative_to(tmp_path).as_posix() for file in files] == ["in/cat/a.data"]
    assert [file.name for file in others] == ["nowhere.png"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path, write_pixels, monkeypatch):
    write_pixels(tmp_path / "in" / "a.png", np.zeros((8, 8)))
    (tmp_path / "in" / "closed").mkdir()
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(LtbenchError, match=r"a folder cannot be read: Permission denied(?s:.*)closed"):
        image_files([tmp_path / "in"])
