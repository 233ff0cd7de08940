"""ltbench's loop and the reference loop are one training: equal batches in, equal losses out."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import functional as pil

from ltbench import registry, rng
from ltbench.config import Augment, Recipe
from ltbench.data.images import LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.method import ClassPrior
from ltbench.models.backbone import Backbone
from ltbench.training.trainer import fit
from ltbench_speed import reference_loop as reference

pytestmark = pytest.mark.slow

COUNTS = (40, 20, 12, 8)
IMAGES, BATCH = sum(COUNTS), 16
RECIPE = Recipe(
    batch_size=BATCH, lr=0.01, warmup=0, milestones=(), augment=Augment(padding=0.125, flip=True, rotation=15)
)
PRIOR = ClassPrior(torch.tensor(COUNTS))
BALPOE = registry.method("balpoe")


@pytest.fixture(scope="module")
def data():
    labels = np.repeat(np.arange(4), COUNTS).astype(np.int64)
    coarse = np.random.default_rng(0).integers(0, 256, (IMAGES, 3, 4, 4)).astype(np.uint8)
    return LabelledImages(coarse.repeat(4, 2).repeat(4, 3), labels)


class Double(InMemoryLoader):
    """Images in float64."""

    def normalised(self, images):
        mean, std = (
            torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (reference.MEAN, reference.STD)
        )
        return (images.double() / 255 - mean) / std


class Watched(BALPOE):
    """BalPoE that keeps the loss of every step, and computes with the precision of its images throughout."""

    def prepare(self, batch, progress):
        batch = super().prepare(batch, progress)
        return replace(batch, weight=batch.weight.to(batch.images.dtype))

    def forward(self, batch, progress):
        loss = super().forward(batch, progress)
        self.losses.append(loss.mean.item())
        return loss


def ours(data, recipe, dtype):
    """The losses of ltbench's steps, and the network they started from."""
    build = Backbone("cifar_resnet20", classes=4, channels=3, image_size=16, head="cosine")
    with rng.global_stream(0, "init"):
        method = Watched(build, PRIOR, BALPOE.Config())
    method.losses = []
    method.to(dtype, memory_format=torch.channels_last)
    start = [value.clone() for value in method.network.state_dict().values()]
    loader = (Double if dtype == torch.float64 else InMemoryLoader)(
        data, reference.MEAN, reference.STD, torch.device("cpu")
    )
    fit(method, loader, recipe, seed=7)
    return SimpleNamespace(losses=method.losses, start=start)


def theirs(data, recipe, dtype, start):
    """The losses of the reference loop on the same draws, each image augmented by PIL."""
    network = reference.Experts(4, blocks=3).to(dtype)
    names = network.state_dict()
    assert [value.shape for value in names.values()] == [value.shape for value in start]
    network.load_state_dict(dict(zip(names, start, strict=True)))
    optimiser = torch.optim.SGD(
        network.parameters(), recipe.lr, momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    losses = []
    for epoch in range(recipe.epochs):
        order = rng.numpy_generator(7, "order", "main", 0, epoch).permutation(IMAGES)
        numbers = rng.uniform((IMAGES, 1, 5), 7, "augment", "main", 0, epoch)[:, 0]
        augmented = [_augmented(data.images[i], own, dtype) for i, own in zip(order, numbers, strict=True)]
        batches = [
            (torch.stack(augmented[i : i + BATCH]), torch.from_numpy(data.labels[order[i : i + BATCH]]))
            for i in range(0, IMAGES, BATCH)
        ]
        mixing = [rng.numpy_generator(7, "mixup", "train", epoch, step) for step in range(len(batches))]
        shares = [float(np.float32(generator.beta(0.4, 0.4))) for generator in mixing]  # as ltbench keeps them
        orders = [
            torch.from_numpy(generator.permutation(len(labels)))
            for generator, (_, labels) in zip(mixing, batches, strict=True)
        ]
        log_prior = PRIOR.log.to(dtype)
        losses += reference.train_epoch(network, batches, optimiser, log_prior, iter(shares), iter(orders))
    return losses


def _augmented(image, numbers, dtype):
    """Crop, flip and rotation by PIL, from ltbench's draws."""
    x, y, flip, angle, _ = numbers.tolist()
    picture = ImageOps.expand(Image.fromarray(image.transpose(1, 2, 0)), 2)
    left, top = int(np.float32(x) * 5), int(np.float32(y) * 5)
    picture = picture.crop((left, top, left + 16, top + 16))
    if flip < 0.5:
        picture = ImageOps.mirror(picture)
    picture = picture.rotate(float((np.float32(angle) * 2 - 1) * 15))
    mean, std = (torch.tensor(values, dtype=dtype).view(-1, 1, 1) for values in (reference.MEAN, reference.STD))
    return (pil.pil_to_tensor(picture).to(dtype) / 255 - mean) / std


def test_ten_steps_in_float64(data):
    recipe = RECIPE.model_copy(update={"epochs": 2})
    mine = ours(data, recipe, torch.float64)
    assert len(mine.losses) == 10
    np.testing.assert_allclose(mine.losses, theirs(data, recipe, torch.float64, mine.start), rtol=1e-8)


def test_ten_steps_in_float32(data):
    # With a learning rate of 0.01, starting weights changed by one part in ten million give losses that differ by a
    # hundredth after ten steps, in float64 and in one loop: units of a ReLU cross zero. A small rate keeps below that.
    recipe = RECIPE.model_copy(update={"epochs": 2, "lr": 1e-4})
    mine = ours(data, recipe, torch.float32)
    assert len(mine.losses) == 10
    np.testing.assert_allclose(mine.losses, theirs(data, recipe, torch.float32, mine.start), rtol=1e-4)
