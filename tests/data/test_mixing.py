"""Mixup by hand."""

import numpy as np
import pytest
import torch

from ltbench import draws
from ltbench.data.mixing import mixup
from ltbench.method import Batch


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
    mixed = mixup(Batch((one, two), torch.arange(3), torch.tensor([7, 8, 9])), 0.4, Dealt(0.25, [1, 2, 0]))
    # 0.25 x + 0.75 x[permutation]: 0.25 * 1 + 0.75 * 5 = 4
    torch.testing.assert_close(mixed.views[0].flatten(1), torch.tensor([[4.0, 1.0], [8.0, 0.5], [3.0, -1.5]]))
    torch.testing.assert_close(mixed.views[1].flatten(), torch.tensor([0.75, 1.75, 0.5]))
    assert mixed.labels.tolist() == [7, 8, 9]
    assert mixed.mixed_labels.tolist() == [8, 9, 7]
    assert mixed.weight.item() == 0.25
    assert mixed.indices.tolist() == [0, 1, 2]


def test_the_loss_shares_the_weight_between_the_two_labels():
    images = torch.zeros(2, 1, 1, 1)
    mixed = mixup(Batch((images,), torch.arange(2), torch.tensor([1, 3])), 0.4, Dealt(0.25, [1, 0]))
    loss = mixed.loss(lambda labels: labels.float())
    assert loss.mean.item() == pytest.approx((0.25 * 1 + 0.75 * 3 + 0.25 * 3 + 0.75 * 1) / 2)


def test_one_weight_and_one_permutation_serve_all_views(batch):
    mixed = mixup(batch, 0.4, draws.numpy_generator(0, "mixup"))
    weight = mixed.weight.item()
    assert 0 < weight < 1
    generator = draws.numpy_generator(0, "mixup")
    assert generator.beta(0.4, 0.4) == pytest.approx(weight)
    order = torch.from_numpy(generator.permutation(6))
    for view, original in zip(mixed.views, batch.views, strict=True):
        torch.testing.assert_close(view, weight * original + (1 - weight) * original[order])
    assert torch.equal(mixed.mixed_labels, batch.labels[order])


def test_the_batch_itself_is_untouched(batch):
    before = [view.clone() for view in batch.views]
    mixup(batch, 1.0, draws.numpy_generator(0, "mixup"))
    assert all(torch.equal(view, kept) for view, kept in zip(batch.views, before, strict=True))
    assert batch.mixed_labels is None
    assert batch.weight is None


def test_the_generator_key_decides(batch):
    one, same, other = (mixup(batch, 1.0, draws.numpy_generator(0, "mixup", 3, step)) for step in (5, 5, 6))
    assert torch.equal(one.images, same.images)
    assert one.weight == same.weight
    assert one.weight != other.weight


def test_a_small_alpha_hardly_mixes_and_a_large_one_halves(batch):
    def weights(alpha):
        return [mixup(batch, alpha, draws.numpy_generator(seed)).weight.item() for seed in range(50)]

    assert np.mean([min(weight, 1 - weight) for weight in weights(0.01)]) < 0.05
    assert all(abs(weight - 0.5) < 0.1 for weight in weights(1000))
