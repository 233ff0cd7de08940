"""Mixing by hand, and what holds for any draw."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ltbench import rng
from ltbench.method import Batch, MethodConfig, class_balanced
from ltbench.method.mixing import cutmix, mixed, mixup, paste, remix


class Dealt:
    """A generator whose draws are given."""

    def __init__(self, weight, order):
        self.weight, self.order = weight, order

    def beta(self, first, second):
        assert first == second == 0.4
        return self.weight

    def permutation(self, count):
        assert count == len(self.order)
        return np.array(self.order)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    views = tuple(torch.randn(6, 3, 4, 4, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(10, 16), torch.tensor([0, 1, 2, 2, 1, 0]))


def test_images_labels_and_weight_by_hand():
    one, two = torch.tensor([[[[1.0, -2.0]]], [[[5.0, 2.0]]], [[[9.0, 0.0]]]]), torch.arange(3.0).view(3, 1, 1, 1)
    made = mixup(Batch((one, two), torch.arange(3), torch.tensor([7, 8, 9])), 0.4, Dealt(0.25, [1, 2, 0]))
    # 0.25 x + 0.75 x[permutation]: 0.25 * 1 + 0.75 * 5 = 4
    torch.testing.assert_close(made.views[0].flatten(1), torch.tensor([[4.0, 1.0], [8.0, 0.5], [3.0, -1.5]]))
    torch.testing.assert_close(made.views[1].flatten(), torch.tensor([0.75, 1.75, 0.5]))
    assert made.labels.tolist() == [7, 8, 9]
    assert made.mixed_labels.tolist() == [8, 9, 7]
    assert made.weight.item() == 0.25
    assert made.indices.tolist() == [0, 1, 2]


def test_the_loss_shares_the_weight_between_the_two_labels():
    images = torch.zeros(2, 1, 1, 1)
    made = mixup(Batch((images,), torch.arange(2), torch.tensor([1, 3])), 0.4, Dealt(0.25, [1, 0]))
    loss = made.loss(lambda labels: labels.float())
    assert loss.mean.item() == pytest.approx((0.25 * 1 + 0.75 * 3 + 0.25 * 3 + 0.75 * 1) / 2)


def test_one_weight_and_one_permutation_serve_all_views(batch):
    made = mixup(batch, 0.4, rng.numpy_generator(0, "mixup"))
    weight = made.weight.item()
    assert 0 < weight < 1
    generator = rng.numpy_generator(0, "mixup")
    assert generator.beta(0.4, 0.4) == pytest.approx(weight)
    order = torch.from_numpy(generator.permutation(6))
    for view, original in zip(made.views, batch.views, strict=True):
        torch.testing.assert_close(view, weight * original + (1 - weight) * original[order])
    assert torch.equal(made.mixed_labels, batch.labels[order])


def test_the_batch_itself_is_untouched(batch):
    before = [view.clone() for view in batch.views]
    mixup(batch, 1.0, rng.numpy_generator(0, "mixup"))
    assert all(torch.equal(view, kept) for view, kept in zip(batch.views, before, strict=True))
    assert batch.mixed_labels is None
    assert batch.weight is None


def test_the_generator_key_decides(batch):
    one, same, other = (mixup(batch, 1.0, rng.numpy_generator(0, "mixup", 3, step)) for step in (5, 5, 6))
    assert torch.equal(one.images, same.images)
    assert one.weight == same.weight
    assert one.weight != other.weight


def test_a_small_alpha_hardly_mixes_and_a_large_one_halves(batch):
    def weights(alpha):
        return [mixup(batch, alpha, rng.numpy_generator(seed)).weight.item() for seed in range(50)]

    assert np.mean([min(weight, 1 - weight) for weight in weights(0.01)]) < 0.05
    assert all(abs(weight - 0.5) < 0.1 for weight in weights(1000))


def settings(**changes):
    return MethodConfig(**changes)


def by_stream(stream):
    return rng.numpy_generator(0, stream)


def test_a_pasted_box_by_hand():
    images, other = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    batch, tail = (Batch((views,), torch.arange(2), labels) for views, labels in (
        (images, torch.tensor([0, 0])), (other, torch.tensor([5, 6])),
    ))  # fmt: skip

    class Dealt:
        def __init__(self):
            self.centres = [1, 3]  # row, then column

        def beta(self, first, second):
            return 0.75  # sides of half the length: 2 pixels

        def integers(self, length):
            return self.centres.pop(0)

    made = paste(batch, tail, 1.0, Dealt())
    want = torch.zeros(4, 4)
    want[0:2, 2:4] = 1  # rows 1 - 1 to 1 + 1, columns 3 - 1 to 3 + 1
    assert torch.equal(made.images[0, 0], want)
    assert made.weight.item() == 1 - 4 / 16
    assert made.mixed_labels.tolist() == [5, 6]
    assert images.sum() == 0


@given(st.integers(0, 2**31), st.floats(0.1, 4))
def test_cutmix_shares_labels_by_the_pixels_that_are_left(seed, alpha):
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 7, 5)
    made = cutmix(Batch((images,), torch.arange(6), torch.arange(6)), alpha, np.random.default_rng(seed))
    own = made.images == made.labels.view(-1, 1, 1, 1)
    for image, label, mixed_label in zip(own, made.labels, made.mixed_labels, strict=True):
        if label != mixed_label:
            assert image.float().mean().item() == pytest.approx(made.weight.item())
    other = made.images == made.mixed_labels.view(-1, 1, 1, 1)
    assert (own | other).all()


def test_remix_by_hand():
    # Counts 30, 10, 9: class 0 is 3 and 3.33 times as frequent as 1 and 2, kappa 3; lambda .4 of the first image.
    labels, mixed_labels = torch.tensor([0, 0, 1, 2, 0]), torch.tensor([1, 2, 0, 1, 0])
    batch = Batch((torch.zeros(5, 1, 1, 1),), torch.arange(5), labels, mixed_labels, torch.tensor(0.4))
    made = remix(batch, torch.tensor([30, 10, 9]), 3.0)
    # .4 < .5: the first two lose their head label. The third is rare, but 1 - .4 = .6 is not below .5.
    torch.testing.assert_close(made.weight, torch.tensor([0.0, 0.0, 0.4, 0.4, 0.4]))
    made = remix(dataclasses.replace(batch, weight=torch.tensor(0.6)), torch.tensor([30, 10, 9]), 3.0)
    torch.testing.assert_close(made.weight, torch.tensor([0.6, 0.6, 1.0, 0.6, 0.6]))


def test_nothing_is_mixed_unless_asked_for(batch):
    assert mixed(batch, settings(), torch.ones(3), 0.5, by_stream) is batch
    assert settings(mixup=0.0, remix=3.0) == settings(), "it is off, too"
    with pytest.raises(ValidationError, match="remix has no effect without mixup or CutMix"):
        settings(remix=3.0)


def test_mixup_and_cutmix_share_the_batches(batch):
    how, ways = settings(mixup=0.4, cutmix=1.0), []
    for step in range(300):
        made = mixed(batch, how, torch.ones(3), 0.5, lambda stream, step=step: rng.numpy_generator(step, stream))
        blended = mixup(batch, 0.4, rng.numpy_generator(step, "mixup"))
        ways.append(torch.equal(made.images, blended.images))
    assert 0.4 < np.mean(ways) < 0.6


def test_cmo_pastes_with_its_chance_and_not_at_the_ends(batch):
    tail = dataclasses.replace(batch, views=tuple(view + 100 for view in batch.views))
    batch = dataclasses.replace(batch, streams={"tail": tail})

    def pasted(share, step):
        how = settings(cmo=0.5)
        return mixed(batch, how, torch.ones(3), share, lambda stream: rng.numpy_generator(step, stream)) is not batch

    assert not any(pasted(share, step) for share in (0.0, 0.0199, 0.985, 0.999) for step in range(30))
    assert 0.4 < np.mean([pasted(0.5, step) for step in range(300)]) < 0.6
    assert any(pasted(0.02, step) for step in range(30))


def test_the_tail_is_drawn_with_the_published_weights(golden_losses):
    want = golden_losses("cmo_foreground_class_weight")
    counts = torch.from_numpy(want["class_counts"])
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
    weights = class_balanced(labels).weights
    by_class = torch.stack([weights[labels == label][0] for label in range(len(counts))])
    np.testing.assert_allclose((by_class / by_class.sum() * len(counts)).numpy(), want["weight"], rtol=1e-6)
