"""Streamed image files: the same batches whatever the number of workers, torchvision's pixels, damage by name."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from ltbench import rng
from ltbench.config import Augment, Recipe
from ltbench.data.augmentation.pipeline import CROP, DRAWS, augment
from ltbench.data.augmentation.random_crop import CROP_DRAWS, crop_box, random_box
from ltbench.data.images import ImageFiles, LabelledImages
from ltbench.data.loading import from_files
from ltbench.data.loading.base import Loader
from ltbench.data.loading.epoch import Epoch
from ltbench.data.loading.from_files import BATCHES_AHEAD, FileLoader
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.errors import LtbenchError
from ltbench.method import Shuffled

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = torch.device("cpu")
SIZE = 32
CROPPED = Augment(crop=(0.08, 1.0), flip=True)
STANDARD = Augment(crop=(0.08, 1.0), flip=True, jitter=(0.4, 0.4, 0.4, 0.0))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Parts of real photographs, of many shapes, as JPEG files."""
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    names, pictures = [], load_sample_images().images
    for i in range(23):
        picture = pictures[i % 2]
        height, width = generator.integers(40, 200, 2)
        top, left = generator.integers(0, 200, 2)
        names.append(f"{i % 3}/{i:02}.jpg")
        (folder / names[-1]).parent.mkdir(exist_ok=True)
        Image.fromarray(picture[top : top + height, left : left + width]).save(folder / names[-1])
    return ImageFiles(folder, np.array(names), np.arange(23) % 3)


def streamed(files, **options):
    return FileLoader(files, SIZE, MEAN, STD, CPU, **options)


def epoch(data: Loader, how=CROPPED, *, views=("train",), batch_size=4, seed=0, place=("train", 0), samplers=None):
    ways = {"train": how, "contrast": STANDARD, "plain": Augment()}
    samplers = samplers or {"main": Shuffled(len(data.labels))}
    return Epoch(data, samplers, views=views, how=ways, batch_size=batch_size, seed=seed, place=place)


def opened(files, index):
    return v2.functional.pil_to_tensor(Image.open(files.root / files.names[index]).convert("RGB"))


def centre(image):
    return v2.Compose([v2.Resize(round(SIZE * 256 / 224), antialias=True), v2.CenterCrop(SIZE)])(image)


def decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ltbench decoding")]


def assert_no_threads_are_left():
    for thread in decoding_threads():
        thread.join(timeout=10)
    assert not decoding_threads()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_workers_changes_nothing(workers, files):
    kinds = {
        "views": ("train", "contrast", "plain"),
        "samplers": {"main": Shuffled(len(files)), "other": Shuffled(7)},
        "how": STANDARD,
    }
    alone, together = (epoch(streamed(files, workers=number), **kinds) for number in (0, workers))
    assert len(alone) == 6
    for step in (0, 1, 2, 3, 4, 5, 2, 3):  # a resumed epoch starts anywhere
        batch, same = alone.batch(step), together.batch(step)
        for one, other in ((batch, same), (batch.streams["other"], same.streams["other"])):
            assert torch.equal(one.indices, other.indices)
            assert torch.equal(one.labels, torch.tensor(files.labels)[one.indices])
            assert all(torch.equal(view, again) for view, again in zip(one.views, other.views, strict=True))
    for one, other in zip(
        streamed(files, workers=0).eval_batches(5), streamed(files, workers=workers).eval_batches(5), strict=True
    ):
        assert torch.equal(one.images, other.images)


def test_crop_and_flip_are_those_of_torchvision_pixel_by_pixel(files):
    data = streamed(files, workers=2)
    made, step = epoch(data), 0
    numbers = rng.uniform((len(files), 1, DRAWS), 0, "augment", "main", "train", 0)
    more = rng.uniform((len(files), 1, CROP.stop - DRAWS), 0, "augment", "main", "train", 0, "more")
    numbers, flipped = torch.cat([numbers, more], dim=2)[:, 0], 0
    for step in range(len(made)):
        batch = made.batch(step)
        for place, index in enumerate(batch.indices.tolist()):
            own, image = numbers[4 * step + place], opened(files, index)
            box = crop_box(tuple(image.shape[1:]), (0.08, 1.0), own[CROP].tolist())
            want = v2.functional.resized_crop(image, *box, [SIZE, SIZE], antialias=True)
            if own[2] < 0.5:
                want, flipped = v2.functional.horizontal_flip(want), flipped + 1
            assert torch.equal(batch.images[place], data.normalised(want[None])[0])
    assert 0 < flipped < len(files)


def test_the_rest_of_a_recipe_is_done_to_the_cropped_images(files):
    whole = Augment(**{**STANDARD.model_dump(), "policy": "randaugment", "grey": 0.2})
    data = streamed(files, workers=1)
    numbers = torch.rand(len(files), 1, CROP.stop, generator=torch.Generator().manual_seed(0))
    order = torch.arange(len(files))
    (augmented,), (cropped,) = (
        next(data.augmented(order, numbers, [len(files)], [how])) for how in (whole, Augment(crop=(0.08, 1.0)))
    )
    fill = [round(255 * level) for level in MEAN]
    want = augment(cropped, whole.model_copy(update={"crop": None}), numbers[:, 0], fill)
    assert torch.equal(augmented, want)
    assert not torch.equal(augmented, cropped)


def test_images_of_a_test_are_scaled_and_their_centre_cut_out(files):
    data = streamed(files, workers=2)
    batches = list(data.eval_batches(5))
    assert [len(batch.labels) for batch in batches] == [5, 5, 5, 5, 3]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(23))
    want = torch.stack([centre(opened(files, index)) for index in range(23)])
    assert torch.equal(torch.cat([batch.images for batch in batches]), data.normalised(want))
    assert torch.equal(data.first(), batches[0].images[:1])


def test_normalised_as_images_in_memory_and_labels_hidden_where_asked(files):
    images = torch.stack([centre(opened(files, index)) for index in range(4)])
    loader = InMemoryLoader(LabelledImages(images.numpy(), files.labels[:4]), MEAN, STD, CPU)
    some = files.take(np.arange(4))
    data = streamed(some)
    assert torch.equal(next(data.eval_batches()).images, next(loader.eval_batches()).images)
    assert (data.shape, data.device) == (loader.shape, loader.device)
    assert streamed(some, labelled=False).labels.tolist() == [-1] * 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_put_upright(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20, :30] = 200
    Image.fromarray(picture).save(tmp_path / "one.jpg", exif=exif)
    Image.fromarray(picture).save(tmp_path / "plain.jpg")
    turns = {2: "hflip", 3: "rot180", 4: "vflip", 5: "transpose", 6: "rot270", 7: "transverse", 8: "rot90"}
    done = {
        "hflip": Image.Transpose.FLIP_LEFT_RIGHT, "rot180": Image.Transpose.ROTATE_180,
        "vflip": Image.Transpose.FLIP_TOP_BOTTOM, "transpose": Image.Transpose.TRANSPOSE,
        "rot270": Image.Transpose.ROTATE_270, "transverse": Image.Transpose.TRANSVERSE,
        "rot90": Image.Transpose.ROTATE_90,
    }  # fmt: skip
    image = Image.open(tmp_path / "plain.jpg")
    upright = image.transpose(done[turns[orientation]]) if orientation in turns else image
    assert torch.equal(from_files.read_rgb(tmp_path / "one.jpg"), v2.functional.pil_to_tensor(upright))


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "RGB"), ("a.webp", "RGB"), ("a.png", "P"), ("a.JPEG", "CMYK"), ("a.jpg", "L")]
)
def test_other_kinds_of_files_come_as_rgb(name, mode, tmp_path):
    picture = Image.fromarray(load_sample_images().images[1][:50, :60]).convert(mode)
    picture.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    want = v2.functional.pil_to_tensor(Image.open(tmp_path / name).convert("RGB"))
    assert torch.equal(from_files.read_rgb(tmp_path / name), want)


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert from_files.read_rgb(tmp_path / "a.png").min() == 255


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["truncated", "empty", "no image", "gone"])
def test_a_damaged_file_is_named_and_ends_the_work(damage, workers, files, tmp_path):
    folder = tmp_path / "copied"
    for name in files.names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((files.root / name).read_bytes())
    bad = folder / files.names[11]
    whole = bad.read_bytes()
    bad.write_bytes({"truncated": whole[: len(whole) // 2], "no image": b"<html></html>"}.get(damage, b""))
    if damage == "gone":
        bad.unlink()
    data = streamed(replace(files, root=folder), workers=workers)
    made = epoch(data)
    with pytest.raises(LtbenchError) as caught:
        for step in range(len(made)):
            made.batch(step)
    assert f"where: {bad}\n" in f"{caught.value}\n"
    assert_no_threads_are_left()


def test_no_more_than_a_few_batches_are_decoded_ahead(files, monkeypatch):
    read, real = [], from_files.read_rgb
    monkeypatch.setattr(from_files, "read_rgb", lambda file: (read.append(file), real(file))[1])
    made = epoch(streamed(files, workers=4), batch_size=3)
    made.batch(0)
    deadline = time.monotonic() + 10
    while len(read) < 3 * (1 + BATCHES_AHEAD) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # what is not asked for would be read by now
    assert len(read) == 3 * (1 + BATCHES_AHEAD)
    assert decoding_threads()
    del made
    assert_no_threads_are_left()
    assert len(read) == 3 * (1 + BATCHES_AHEAD)


def test_for_square_images_the_box_is_that_of_images_in_memory():
    numbers = torch.rand(2000, CROP_DRAWS, generator=torch.Generator().manual_seed(0))
    for share in ((0.08, 1.0), (0.9, 1.0)):
        boxes = random_box((64, 64), share, numbers)
        assert boxes.tolist() == [list(crop_box((64, 64), share, own)) for own in numbers.tolist()]


@pytest.mark.parametrize(
    ("size", "box"),
    [((30, 300), (0, 130, 30, 40)), ((300, 30), (130, 0, 40, 30)), ((30, 33), (0, 0, 30, 33))],
)
def test_where_no_try_fits_it_is_the_centre_within_the_aspect_ratios(size, box):
    never = [0.999] * 10 + ([0.0] if size[1] > size[0] else [0.999]) * 10 + [0.5, 0.5]
    assert crop_box(size, (1.0, 1.0), never) == box


def test_a_box_lies_within_any_image_and_keeps_the_share():
    generator = np.random.default_rng(0)
    for _ in range(500):
        height, width = (int(side) for side in generator.integers(20, 400, 2))
        top, left, high, wide = crop_box((height, width), (0.3, 0.6), generator.random(CROP_DRAWS).tolist())
        assert 0 <= top <= height - high
        assert 0 <= left <= width - wide
        assert 0.7 < wide / high < 1.4
        if not (high == height or wide == width):  # a try that fits, and not what is left where none does
            assert 0.25 < high * wide / (height * width) < 0.65


def test_a_recipe_with_contrastive_views_decodes_each_image_once(files, monkeypatch):
    read, real = [], from_files.read_rgb
    monkeypatch.setattr(from_files, "read_rgb", lambda file: (read.append(file), real(file))[1])
    recipe = Recipe(augment=CROPPED)
    made = Epoch(
        streamed(files, workers=1), {"main": Shuffled(len(files))}, views=("train", "contrast", "contrast"),
        how=recipe.views, batch_size=8, seed=0, place=(0, 0),
    )  # fmt: skip
    batches = [made.batch(step) for step in range(len(made))]
    assert len(read) == len(files)
    assert all(not torch.equal(batch.views[1], batch.views[2]) for batch in batches)


def test_batches_are_normalised_by_one_thread_and_the_others_are_there_again(files, monkeypatch):
    threads = []
    monkeypatch.setattr(Loader, "normalised", lambda self, images: threads.append(torch.get_num_threads()) or images)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in FileLoader(files, 32, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"), workers=2).eval_batches():
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}


@pytest.mark.slow
def test_decoding_leaves_the_threads_of_the_process_alone():
    program = """
from ltbench.data.loading.from_files import single_threaded_pool
with single_threaded_pool(2, "decoding") as pool:
    import torch
    assert list(pool.map(lambda _: torch.get_num_threads(), range(4))) == [1] * 4
print(torch.get_num_threads())
"""
    # A process that has not computed anything before, and has several threads even where there are fewer cores.
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "MKL_DYNAMIC": "FALSE"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr
