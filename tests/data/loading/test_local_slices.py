"""Several processes: each makes its share of every batch, from memory or from files; together they make the whole."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from ltbench.config import Augment
from ltbench.data.images import ImageFiles, LabelledImages
from ltbench.data.loading import from_files
from ltbench.data.loading.epoch import Epoch
from ltbench.data.loading.from_files import FileLoader
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.method import Shuffled
from ltbench.training.distributed.process_group import Group

COUNT, BATCH = 25, 7
"""In batches of 7, 7, 7 and 4: of the last, four processes that want two images each make 2, 2, 0 and 0."""
PLAIN = ((0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
EVERYTHING = Augment(
    crop=(0.3, 1.0), padding=0.1, flip=True, rotation=10, jitter=(0.4, 0.4, 0.4, 0.1), grey=0.5, blur=0.5, cutout=0.2
)
HOW = {
    "train": EVERYTHING,
    "contrast": EVERYTHING.model_copy(update={"policy": "randaugment"}),
    "strong": Augment(policy="cifar10"),
}


@pytest.fixture(scope="module", params=["in memory", "with threads", "without threads"])
def data(request, tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 16, 16), dtype=np.uint8)
    labels = np.arange(COUNT) % 3
    if request.param == "in memory":
        return InMemoryLoader(LabelledImages(pixels, labels), *PLAIN)
    folder, names = tmp_path_factory.mktemp("files"), np.array([f"{i:02}.png" for i in range(COUNT)])
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / name)
    return FileLoader(
        ImageFiles(folder, names, labels), 16, *PLAIN, workers=2 if request.param == "with threads" else 0
    )


def epoch(data, **options):
    samplers = {"main": Shuffled(COUNT), "other": Shuffled(COUNT - 6)}
    return Epoch(data, samplers, views=tuple(HOW), how=HOW, batch_size=BATCH, seed=0, place=(0, 0), **options)


def local_slices(processes):
    return [partial(Group(rank, processes).local_slice, least=2) for rank in range(processes)]


def assert_joined(whole, parts):
    assert torch.equal(whole.indices, torch.cat([part.indices for part in parts]))
    assert torch.equal(whole.labels, torch.cat([part.labels for part in parts]))
    for view, made in enumerate(whole.views):
        assert torch.equal(made, torch.cat([part.views[view] for part in parts]))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_shares_of_every_batch_are_the_whole_from_any_step_on(processes, data):
    assert_shares_are_the_whole(processes, data)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["in memory"], indirect=True)
@pytest.mark.parametrize("processes", [1, 3])
def test_the_shares_of_batches_that_are_made_ahead_are_the_whole(processes, data, monkeypatch):
    monkeypatch.setattr("ltbench.data.loading.in_memory.PIXELS_AT_A_TIME", {"cpu": 10**6})
    assert_shares_are_the_whole(processes, data)


def assert_shares_are_the_whole(processes, data):
    whole, own = epoch(data), [epoch(data, local_slice=local_slice) for local_slice in local_slices(processes)]
    assert {tuple(one.sizes) for one in own} == {(7, 7, 7, 4)}
    for step in (2, 3, 0, 1):
        batch, parts = whole.batch(step), [one.batch(step) for one in own]
        assert_joined(batch, parts)
        assert_joined(batch.streams["other"], [part.streams["other"] for part in parts])
        expected = [
            len(range(whole.sizes[step])[local_slice(whole.sizes[step])]) for local_slice in local_slices(processes)
        ]
        assert [len(part.labels) for part in parts] == expected


@pytest.mark.slow
def test_a_batch_that_is_wanted_whole_is_made_of_the_shares(data):
    others = [epoch(data, local_slice=local_slice) for local_slice in local_slices(2)[1:]]
    gathered = []

    def gather(own):  # as the first of two processes, which asks for the indices and then for each view
        gathered.append(own)
        return torch.cat([own, own[:0]])

    own = epoch(data, local_slice=local_slices(2)[0], gather=gather)
    batch, rest = own.batch(1), others[0].batch(1)
    assert [len(one) for one in gathered] == [3] * (1 + len(HOW)) * 2
    assert all(one.dtype == torch.uint8 for one in gathered if one.ndim == 4)
    assert_joined(epoch(data).batch(1), [batch, rest])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 3, 12])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_the_shares_of_images_in_order_are_whole_batches(processes, batch_size, data):
    whole = list(data.eval_batches(batch_size))
    own = [list(data.eval_batches(batch_size, Group(rank, processes).local_slice)) for rank in range(processes)]
    said = [data.in_order(batch_size, Group(rank, processes).local_slice) for rank in range(processes)]
    for one, other in zip((batch for batches in own for batch in batches), whole, strict=True):
        assert_joined(other, [one])
    for batches, indices in zip(own, said, strict=True):
        assert [batch.indices.tolist() for batch in batches] == [index.tolist() for index in indices]


@pytest.mark.slow
def test_a_process_reads_no_file_of_another_one(data, monkeypatch):
    read, real = [], from_files.read_rgb
    monkeypatch.setattr(from_files, "read_rgb", lambda file: (read.append(int(file.stem)), real(file))[1])
    own = epoch(data, local_slice=local_slices(2)[1])
    batches = [own.batch(step) for step in range(len(own))]
    indices = torch.cat([part.indices for batch in batches for part in (batch, batch.streams["other"])])
    assert sorted(read) == (sorted(indices.tolist()) if isinstance(data, FileLoader) else [])
