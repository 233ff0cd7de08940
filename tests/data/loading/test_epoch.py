"""Batches: every image once, the same draws for the same place, streams, views, normalisation."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ltbench import rng
from ltbench.config import Augment
from ltbench.data.augmentation.pipeline import DRAWS, augment, draws_needed
from ltbench.data.images import LabelledImages
from ltbench.data.loading import in_memory
from ltbench.data.loading.epoch import Epoch
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.method import Shuffled

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.1)
HOW = Augment(padding=0.25, flip=True)


@dataclass(frozen=True)
class InOrder:
    """A sampler with a fixed order."""

    order: tuple[int, ...]

    def __call__(self, generator):
        return torch.tensor(self.order)


def loader_of(images=7, *, labelled=True):
    pixels = np.random.default_rng(0).integers(0, 256, (images, 3, 8, 8), dtype=np.uint8)
    data = LabelledImages(pixels, np.arange(images) % 3)
    return InMemoryLoader(data, MEAN, STD, torch.device("cpu"), labelled=labelled)


def epoch(data, *, samplers=None, views=("train",), how=HOW, batch_size=3, seed=0, place=("train", 0)):
    samplers = samplers or {"main": Shuffled(len(data.labels))}
    ways = {"train": how, "plain": Augment()}
    return Epoch(data, samplers, views=views, how=ways, batch_size=batch_size, seed=seed, place=place)


def batches(passed):
    return [passed.batch(step) for step in range(len(passed))]


def joined(passed, view=0):
    """Indices and images of a whole epoch."""
    made = batches(passed)
    return torch.cat([batch.indices for batch in made]), torch.cat([batch.views[view] for batch in made])


@pytest.mark.parametrize(
    ("images", "batch_size", "sizes"),
    [
        (6, 3, [3, 3]),
        (7, 3, [3, 4]),
        (8, 3, [3, 3, 2]),
        (3, 2, [3]),
        (2, 5, [2]),
        (1, 5, [1]),
    ],
)
def test_every_image_comes_once_and_a_last_single_one_joins_the_batch_before(images, batch_size, sizes):
    data = loader_of(images)
    made = batches(epoch(data, batch_size=batch_size))
    assert [len(batch.labels) for batch in made] == sizes
    indices = torch.cat([batch.indices for batch in made])
    assert sorted(indices.tolist()) == list(range(images))
    assert torch.equal(torch.cat([batch.labels for batch in made]), data.labels[indices])


def test_the_same_place_gives_the_same_batches():
    data = loader_of(40)
    state = torch.get_rng_state()
    (order, images), (again, images_again) = joined(epoch(data)), joined(epoch(data))
    assert torch.equal(order, again)
    assert torch.equal(images, images_again)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("other", [{"place": ("train", 1)}, {"place": ("second", 0)}, {"seed": 1}])
def test_another_place_or_seed_gives_another_order_and_augmentation(other):
    data = loader_of(40)
    assert not torch.equal(joined(epoch(data))[0], joined(epoch(data, **other))[0])
    fixed = {"main": InOrder(tuple(range(40)))}
    (order, images), (again, others) = (joined(epoch(data, samplers=fixed, **kind)) for kind in ({}, other))
    assert torch.equal(order, again)
    assert not torch.equal(images, others)


def test_the_batch_size_changes_neither_order_nor_augmentation():
    data = loader_of(40)
    (order, images), (again, images_again) = (joined(epoch(data, batch_size=size)) for size in (3, 16))
    assert torch.equal(order, again)
    assert torch.equal(images, images_again)


def test_a_batch_can_be_made_without_those_before_it():
    passed = epoch(loader_of(40))
    alone, in_turn = passed.batch(7), batches(passed)[7]
    assert torch.equal(alone.images, in_turn.images)


def test_an_image_that_is_picked_twice_is_varied_twice():
    _, images = joined(epoch(loader_of(), samplers={"main": InOrder((2,) * 20)}, batch_size=20))
    assert len(images.flatten(1).unique(dim=0)) > 10


def test_a_shorter_stream_starts_again_and_a_longer_one_is_cut():
    data = loader_of(9)
    samplers = {"main": Shuffled(7), "tail": InOrder((8, 4, 6)), "all": InOrder(tuple(range(9)))}
    made = batches(epoch(data, samplers=samplers))
    assert [len(batch.labels) for batch in made] == [3, 4]
    for name, want in {"tail": [8, 4, 6, 8, 4, 6, 8], "all": [0, 1, 2, 3, 4, 5, 6]}.items():
        parts = [batch.streams[name] for batch in made]
        assert [len(part.labels) for part in parts] == [3, 4]
        indices = torch.cat([part.indices for part in parts])
        assert indices.tolist() == want
        assert torch.equal(torch.cat([part.labels for part in parts]), data.labels[indices])


def test_streams_shuffle_and_vary_on_their_own():
    data = loader_of(40)
    made = epoch(data, samplers={"main": Shuffled(40), "other": Shuffled(40)}, batch_size=40).batch(0)
    assert made.indices.tolist() != made.streams["other"].indices.tolist()
    fixed = InOrder(tuple(range(40)))
    made = epoch(data, samplers={"main": fixed, "other": fixed}, batch_size=40).batch(0)
    assert not torch.equal(made.images, made.streams["other"].images)


def test_a_plain_view_is_the_original_and_train_views_have_their_own_draws():
    data = loader_of(40)
    made = epoch(data, views=("train", "plain", "train"), batch_size=40).batch(0)
    assert torch.equal(made.views[1], data.normalised(data.images[made.indices]))
    assert not torch.equal(made.views[0], made.views[1])
    assert not torch.equal(made.views[0], made.views[2])
    assert torch.equal(made.images, made.views[0])


@pytest.mark.parametrize("further", [{}, {"policy": "randaugment", "cutout": 0.25}])
def test_the_draws_of_two_views_by_hand(further):
    data, how, views = loader_of(40), HOW.model_copy(update=further), ("train", "plain", "train")
    made = epoch(data, samplers={"main": InOrder(tuple(range(40)))}, views=views, how=how, batch_size=40).batch(0)
    numbers = rng.uniform((40, 3, DRAWS), 0, "augment", "main", "train", 0)
    if further:
        more = draws_needed(how) - DRAWS
        numbers = torch.cat([numbers, rng.uniform((40, 3, more), 0, "augment", "main", "train", 0, "more")], dim=2)
    mean_colour = [128, 102, 76]  # of MEAN; a half is rounded to the even number
    for view in (0, 2):
        want = augment(data.images, how, numbers[:, view], mean_colour)
        assert torch.equal(made.views[view], data.normalised(want))


def test_cutout_leaves_crop_and_flip_as_they_were():
    data, samplers = loader_of(40), {"main": InOrder(tuple(range(40)))}
    both = {"samplers": samplers, "views": ("train", "train"), "batch_size": 40}
    plain, cut = (epoch(data, how=how, **both).batch(0) for how in (HOW, HOW.model_copy(update={"cutout": 0.5})))
    black = data.normalised(torch.zeros((1, 3, 1, 1), dtype=torch.uint8))
    for before, after in zip(plain.views, cut.views, strict=True):
        same = (before == after).all(1)
        assert (same | (after == black).all(1)).all()
        assert 0.5 < same.double().mean() < 0.95
    assert not torch.equal(cut.views[0], cut.views[1])


def test_normalised_by_hand():
    data = loader_of()
    made = data.normalised(data.images)
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    want = (data.images.numpy() / 255 - mean) / std
    np.testing.assert_allclose(made.numpy(), want, rtol=1e-5, atol=1e-5)
    assert made.dtype == torch.float32
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert data.images.dtype == torch.uint8


def test_plain_gives_all_images_in_order():
    data = loader_of(7)
    made = list(data.eval_batches(batch_size=3))
    assert [batch.indices.tolist() for batch in made] == [[0, 1, 2], [3, 4, 5], [6]]
    assert torch.cat([batch.labels for batch in made]).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(torch.cat([batch.images for batch in made]), data.normalised(data.images))


def test_unlabelled_images_have_no_label_anywhere():
    data = loader_of(labelled=False)
    assert data.labels.tolist() == [-1] * 7
    assert {label for batch in data.eval_batches() for label in batch.labels.tolist()} == {-1}
    assert {label for batch in batches(epoch(data)) for label in batch.labels.tolist()} == {-1}


def test_the_source_is_copied():
    pixels = np.zeros((2, 3, 8, 8), dtype=np.uint8)
    data = InMemoryLoader(LabelledImages(pixels, np.arange(2)), MEAN, STD, torch.device("cpu"))
    pixels[:] = 9
    assert data.images.max() == 0


def test_batches_augmented_ahead_are_the_same(monkeypatch):
    made = {"views": ("train", "plain"), "samplers": {"main": Shuffled(20), "other": Shuffled(7)}}
    one_by_one = batches(epoch(loader_of(20), **made))
    monkeypatch.setitem(in_memory.PIXELS_AT_A_TIME, "cpu", 3 * 3 * 64)  # three batches of three images of 8 x 8
    ahead = epoch(loader_of(20), **made)
    for step in (1, 2, 3, 4, 5, 6, 0):  # a resumed epoch starts anywhere
        batch, expected = ahead.batch(step), one_by_one[step]
        for mine, theirs in ((batch, expected), (batch.streams["other"], expected.streams["other"])):
            assert torch.equal(mine.indices, theirs.indices)
            assert all(torch.equal(view, other) for view, other in zip(mine.views, theirs.views, strict=True))
