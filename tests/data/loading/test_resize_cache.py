"""Copies of image files, scaled once: right pixels, made once, anew where an original has changed, by any number."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from ltbench.data.images import ImageFiles
from ltbench.data.loading import decode, resize_cache
from ltbench.data.loading.decode import read_rgb
from ltbench.data.loading.from_files import FileLoader
from ltbench.data.loading.resize_cache import as_resized, resized
from ltbench.errors import LtbenchError
from ltbench.progress import ProgressUpdate

SIDE = 48
SIZES = [(90, 120), (150, 60), (48, 80), (47, 200), (120, 90), (49, 49), (30, 30), (200, 200)]
LARGER = [i for i, size in enumerate(SIZES) if min(size) > SIDE]


@pytest.fixture
def files(tmp_path):
    """Parts of a photograph, some with a shorter side of 48 or less; one PNG."""
    picture, names = load_sample_images().images[0], []
    for i, (height, width) in enumerate(SIZES):
        names.append(f"{i % 2}/{i}.{'png' if i == 4 else 'jpg'}")
        (tmp_path / "originals" / names[-1]).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[:height, :width]).save(tmp_path / "originals" / names[-1])
    return ImageFiles(tmp_path / "originals", np.array(names), np.arange(len(SIZES)) % 2)


@pytest.fixture
def made(monkeypatch):
    """The originals that are decoded for copies."""
    found = []
    monkeypatch.setattr(resize_cache, "read_rgb", lambda file: (found.append(file), read_rgb(file))[1])
    return found


@pytest.fixture
def singly(monkeypatch):
    """One image after the other, in one thread."""
    monkeypatch.setattr(resize_cache, "AT_A_TIME", 1)
    monkeypatch.setattr(resize_cache, "cores_per_process", lambda: 1)


def paths(files: ImageFiles) -> list[Path]:
    return [files.root / name for name in files.names]


def stored() -> set[Path]:
    return {path for path in resize_cache.folder().rglob("*") if not path.is_dir()}


def test_a_copy_is_the_scaled_image_and_a_smaller_image_is_itself(files):
    kept = resized(files, SIDE)
    assert kept.labels.tolist() == files.labels.tolist()
    for i, (original, copy) in enumerate(zip(paths(files), paths(kept), strict=True)):
        image, found = read_rgb(original), read_rgb(copy)
        if i not in LARGER:
            assert copy.samefile(original)
            continue
        want = v2.functional.resize(image, [SIDE], antialias=True)
        assert found.shape == want.shape
        assert min(found.shape[1:]) == SIDE
        assert (found.float() - want.float()).abs().mean() < 2  # JPEG's, of 255
        with Image.open(copy) as opened:
            assert opened.format == "JPEG"
            assert [component[1:3] for component in opened.layer] == [(1, 1)] * 3  # full colour


def test_an_image_in_memory_is_seen_as_its_copy(files):
    for original, copy in zip(paths(files), paths(resized(files, SIDE)), strict=True):
        assert torch.equal(as_resized(read_rgb(original), SIDE), read_rgb(copy))


def test_a_photograph_on_its_side_is_put_upright(files):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = load_sample_images().images[0][:60, :100]
    Image.fromarray(picture).save(paths(files)[0], exif=exif)
    Image.fromarray(picture).transpose(Image.Transpose.ROTATE_270).save(paths(files)[1], quality=100)
    first, second, *_ = (read_rgb(path) for path in paths(resized(files, SIDE)))
    assert first.shape == second.shape == (3, 80, SIDE)
    assert (first.float() - second.float()).abs().mean() < 4


def test_copies_are_made_once_and_used_without_the_originals(files, made):
    seen = []
    kept = resized(files, SIDE, seen.append)
    assert sorted(made) == sorted(paths(files))
    assert seen == [ProgressUpdate(f"scaling images to {SIDE}", len(SIZES), len(SIZES))]
    assert paths(resized(files, SIDE, seen.append)) == paths(kept)
    assert (len(made), len(seen)) == (len(SIZES), 1)
    for i in LARGER:
        paths(files)[i].unlink()
        assert min(read_rgb(paths(kept)[i]).shape[1:]) == SIDE


def test_two_sizes_stand_side_by_side(files):
    small, large = resized(files, SIDE), resized(files, 80)
    assert {min(read_rgb(paths(kept)[7]).shape[1:]) for kept in (small, large)} == {SIDE, 80}
    assert paths(resized(files, SIDE)) == paths(small)
    assert [(side, count) for side, count, _ in resize_cache.contents()] == [("48", 8), ("80", 8)]


@pytest.mark.parametrize("change", ["size", "time"])
def test_the_copy_of_a_changed_original_is_made_anew(change, files, made):
    before, original = resized(files, SIDE), paths(files)[0]
    status = original.stat()
    if change == "size":
        Image.fromarray(load_sample_images().images[1][:100, :100]).save(original)
        os.utime(original, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert original.stat().st_size != status.st_size
    else:
        os.utime(original, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    made.clear()
    after = resized(files, SIDE)
    assert made == [original]
    assert paths(after)[1:] == paths(before)[1:]
    assert torch.equal(read_rgb(paths(after)[0]), as_resized(read_rgb(original), SIDE))


def test_copies_are_found_again_from_another_folder(files, made, monkeypatch, tmp_path):
    resized(files, SIDE)
    made.clear()
    monkeypatch.chdir(tmp_path)
    resized(replace(files, root=Path("originals")), SIDE)
    assert not made


@pytest.mark.parametrize("damage", ["truncated", "no image"])
def test_damaged_images_are_named_once_all_others_are_made(damage, files, made):
    bad = [paths(files)[i] for i in (1, 5)]
    for path in bad:
        path.write_bytes(path.read_bytes()[:600] if damage == "truncated" else b"<html></html>")
    with pytest.raises(LtbenchError, match="2 of 8 files cannot be used: truncated, or no image") as caught:
        resized(files, SIDE)
    assert f"where: {bad[0]}, {bad[1]}\n" in str(caught.value)
    assert len(stored()) == len(SIZES) - 2
    for path in bad:
        path.write_bytes(paths(files)[0].read_bytes())
    made.clear()
    resized(files, SIDE)
    assert sorted(made) == bad


def test_what_cannot_be_used_for_another_reason_is_not_called_truncated(files, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 70 * 70)
    with pytest.raises(LtbenchError, match=r"files cannot be used: the image has \d+ x \d+ pixels, more than 4,900"):
        resized(files, SIDE)


def test_an_original_that_is_gone_is_named(files):
    paths(files)[3].unlink()
    with pytest.raises(
        LtbenchError, match=r"an image cannot be read: No such file(?s:.*)ltbench data verify"
    ) as caught:
        resized(files, SIDE)
    assert f"where: {paths(files)[3]}" in str(caught.value)


def test_a_copy_that_cannot_be_written_ends_the_work(files):
    resize_cache.folder().parent.mkdir(exist_ok=True)
    resize_cache.folder().write_text("a file where the folder should be")
    with pytest.raises(LtbenchError, match="cannot save: ") as caught:
        resized(files, SIDE)
    assert str(resize_cache.folder()) in str(caught.value)
    assert "free some disk space" in str(caught.value)


def test_where_there_are_no_links_small_images_are_copied_as_they_are(files, monkeypatch):
    monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    for i, copy in enumerate(paths(resized(files, SIDE))):
        assert not copy.is_symlink()
        assert (copy.read_bytes() == paths(files)[i].read_bytes()) == (i not in LARGER)


def test_an_empty_file_is_no_copy(files, made):
    kept = paths(resized(files, SIDE))
    kept[0].write_bytes(b"")
    made.clear()
    resized(files, SIDE)
    assert made == [paths(files)[0]]
    assert kept[0].stat().st_size


@pytest.mark.usefixtures("singly")
def test_two_processes_at_once_share_the_work(files, made, monkeypatch):
    """The second comes in when the first has made three and reads the fourth, and is done before it goes on."""
    decode, sources = resize_cache.read_rgb, paths(files)

    def interrupted(file):
        image = decode(file)
        if len(made) == 4:
            monkeypatch.setattr(resize_cache, "read_rgb", decode)
            resized(files, SIDE)
        return image

    monkeypatch.setattr(resize_cache, "read_rgb", interrupted)
    kept = resized(files, SIDE)
    assert sorted(set(made)) == sorted(sources)
    assert len(made) == len(sources) + 1  # both have read the fourth
    assert all(path.exists() for path in paths(kept))


def die_within(files: ImageFiles, cache: Path) -> None:
    os.environ["LTBENCH_CACHE"] = str(cache)
    resize_cache.AT_A_TIME, resize_cache.cores_per_process = 1, lambda: 1
    real, saved = resize_cache._save, []

    def save(image, stream):
        if len(saved) == 3:
            stream.write(b"half of a copy")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        saved.append(image)
        real(image, stream)

    resize_cache._save = save
    resized(files, SIDE)


def test_a_process_that_is_killed_leaves_whole_copies_and_the_next_goes_on(files, made):
    process = multiprocessing.get_context("fork").Process(target=die_within, args=(files, resize_cache.folder().parent))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    there = {path for path in stored() if path.suffix == ".jpg"}
    assert 3 <= len(there) < len(SIZES)
    kept = resized(files, SIDE)
    assert len(made) == len(SIZES) - len(there)
    for original, copy in zip(paths(files), paths(kept), strict=True):
        assert torch.equal(as_resized(read_rgb(original), SIDE), read_rgb(copy))


def make_when_all_are_there(files: ImageFiles, cache: Path, start) -> None:
    os.environ["LTBENCH_CACHE"] = str(cache)
    resize_cache.AT_A_TIME = 1
    start.wait()
    resized(files, SIDE)


@pytest.mark.slow
def test_processes_at_once_do_no_harm(files, made):
    context = multiprocessing.get_context("fork")
    words = (files, resize_cache.folder().parent, context.Barrier(3))
    processes = [context.Process(target=make_when_all_are_there, args=words) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for original, copy in zip(paths(files), paths(resized(files, SIDE)), strict=True):
        assert torch.equal(as_resized(read_rgb(original), SIDE), read_rgb(copy))
    assert not made
    assert len(stored()) == len(SIZES)


def all_of(files: ImageFiles, workers: int) -> list[torch.Tensor]:
    data = FileLoader(files, 32, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"), workers=workers)
    return [batch.images for batch in data.eval_batches(3)]


def test_batches_from_copies_are_the_same_for_any_number_of_workers(files):
    kept = resized(files, SIDE)
    alone = all_of(kept, 0)
    for workers in (1, 3):
        assert all(torch.equal(one, other) for one, other in zip(alone, all_of(kept, workers), strict=True))
    assert not torch.equal(alone[0], all_of(files, 0)[0])
