"""Files decoded on the device, a few at a time: all but the one call, which is libjpeg-turbo's here."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from ltbench.config import Augment
from ltbench.data.images import ImageFiles
from ltbench.data.loading import decode_gpu
from ltbench.data.loading.decode import read_rgb
from ltbench.data.loading.decode_gpu import read_all, require
from ltbench.data.loading.epoch import Epoch
from ltbench.data.loading.from_files import FileLoader
from ltbench.errors import LtbenchError
from ltbench.method import Shuffled

CPU = torch.device("cpu")
REAL = decode_gpu.decode_jpeg
TURNED = Image.Exif()
TURNED[0x0112] = 6
UNUSUAL = {
    "turned.jpg": {"exif": TURNED}, "progressive.jpg": {"progressive": True}, "a.png": {}, "grey.jpg": {"mode": "L"},
    "print.jpg": {"mode": "CMYK"}, "rgb.jpg": {"keep_rgb": True},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Eleven usual photographs, and one of each kind that is left to the CPU."""
    picture = load_sample_images().images[0]
    for i in range(11):
        Image.fromarray(picture[10 * i : 90 + 15 * i, 20 * i : 120 + 10 * i]).save(tmp_path / f"usual-{i:02}.jpg")
    for name, options in UNUSUAL.items():
        settings = dict(options)
        Image.fromarray(picture[:70, :90]).convert(settings.pop("mode", "RGB")).save(tmp_path / name, **settings)
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """How many images the device was given at a time; those in ``refused``, by their bytes, it refuses."""
    calls, refused = [], set()

    def decode(encoded, mode, device):
        calls.append(len(encoded))
        if refused & {one.numpy().tobytes() for one in encoded}:
            raise RuntimeError("nvJPEG says no")
        return REAL(encoded, mode, device)

    monkeypatch.setattr(decode_gpu, "decode_jpeg", decode)
    return calls, refused


def assert_same(files):
    for file, found in zip(files, read_all(files, CPU), strict=True):
        assert torch.equal(found, read_rgb(file)), file


def test_the_usual_ones_together_and_the_others_on_the_cpu(folder, asked):
    assert_same(sorted(folder.iterdir()))
    assert asked[0] == [11]


def test_an_image_that_the_device_refuses_is_decoded_on_the_cpu_and_no_other(folder, asked):
    files = sorted(folder.glob("usual*"))
    asked[1].add(files[4].read_bytes())
    assert_same(files)
    assert asked[0] == [11, *[1] * 11]
    asked[0].clear()
    assert_same(files[4:5])
    assert asked[0] == [1]


def test_where_memory_runs_out_that_is_said(folder, monkeypatch):
    def decode(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(decode_gpu, "decode_jpeg", decode)
    with pytest.raises(torch.OutOfMemoryError):
        read_all(sorted(folder.iterdir()), CPU)


def test_no_file_at_all():
    assert read_all([], CPU) == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "gone"])
def test_a_damaged_file_is_named_and_never_given_to_the_device(damage, folder, asked):
    files = sorted(folder.glob("usual*"))
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    if damage == "gone":
        files[2].unlink()
    with pytest.raises(LtbenchError) as caught:
        read_all(files, CPU)
    assert f"where: {files[2]}" in str(caught.value)
    assert sum(asked[0]) <= 10


def batches(files, *, on_device, workers):
    data = FileLoader(files, 32, (0.5,) * 3, (0.5,) * 3, CPU, on_device=on_device, workers=workers)
    how = {"train": Augment(crop=(0.08, 1.0), flip=True, jitter=(0.4, 0.4, 0.4, 0.0)), "plain": Augment()}
    epoch = Epoch(
        data, {"main": Shuffled(len(files))}, views=("train", "plain"), how=how, batch_size=9, seed=0, place=(0,)
    )  # fmt: skip
    augmented = [view for step in range(len(epoch)) for view in epoch.batch(step).views]
    return [*augmented, *(batch.images for batch in data.eval_batches(5))]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_those_of_the_cpu_bit_for_bit(workers, folder, asked):
    names = sorted(path.name for path in folder.iterdir())
    files = ImageFiles(folder, np.array(names), np.zeros(len(names), dtype=np.int64))
    want = batches(files, on_device=False, workers=workers)
    assert not asked[0]
    for one, other in zip(want, batches(files, on_device=True, workers=workers), strict=True):
        assert torch.equal(one, other)
    assert sum(asked[0]) == 2 * 11


def without_nvjpeg(*_):
    raise RuntimeError("not built for GPUs\nand so on")


@pytest.mark.parametrize(
    ("decoder", "device", "said"),
    [
        (REAL, "cpu", "a GPU: the device is 'cpu'\n"),
        (None, "cuda", "a GPU: this version of torchvision has no JPEG decoder\n"),
        (without_nvjpeg, "cuda", "a GPU: not built for GPUs\n"),
    ],
)
def test_what_cannot_decode_there_is_refused_with_the_reason(decoder, device, said, monkeypatch):
    monkeypatch.setattr(decode_gpu, "decode_jpeg", decoder)
    with pytest.raises(LtbenchError, match=said) as caught:
        require(torch.device(device))
    assert "where: --decode-on-gpu" in str(caught.value)


def test_a_decoder_that_works_is_accepted(monkeypatch):
    found = []
    monkeypatch.setattr(decode_gpu, "decode_jpeg", lambda encoded, mode, _: found.extend(REAL(encoded, mode)))
    require(torch.device("cuda"))
    assert [image.shape for image in found] == [(3, 16, 16)]
