"""Augmentation against PIL, pixel by pixel, and the independence of the images of a batch."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ltbench.config import Augment
from ltbench.data.augment import DRAWS, augment

STANDARD = Augment(padding=0.125, flip=True, rotation=15)


def batch_and_draws(batch, channels, height, width, seed=0):
    """Images without a black pixel, so that what is filled in shows, and draws that include the extremes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 256, (batch, channels, height, width), generator=generator, dtype=torch.uint8)
    draws = torch.rand((batch, DRAWS), generator=generator)
    draws[0], draws[1] = 0, 1 - 2**-24
    return images, draws


def by_pil(image, how, draw):
    """One image (channels, H, W) cropped, mirrored and rotated by PIL with the same draws."""
    channels, height, width = image.shape
    pad_x, pad_y = round(how.padding * width), round(how.padding * height)
    left, top = int(draw[0] * (2 * pad_x + 1)), int(draw[1] * (2 * pad_y + 1))
    picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())  # squeeze: grey has no channel axis
    picture = ImageOps.expand(picture, border=(pad_x, pad_y), fill=0).crop((left, top, left + width, top + height))
    if how.flip and draw[2] < 0.5:
        picture = ImageOps.mirror(picture)
    degrees = float((draw[3] * 2 - 1) * how.rotation)
    picture = picture.rotate(degrees, Image.Resampling.NEAREST, fillcolor=0)
    return np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("size", "how"),
    [
        ((400, 3, 32, 32), STANDARD),
        ((100, 3, 32, 32), Augment(padding=0.125, flip=True)),
        ((100, 3, 32, 32), Augment(rotation=15)),
        ((100, 3, 32, 32), Augment(flip=True)),
        ((100, 3, 20, 31), Augment(padding=0.1, flip=True, rotation=180)),
        ((100, 1, 33, 17), Augment(padding=0.25, flip=True, rotation=45)),
        ((200, 1, 8, 8), Augment(padding=0.125, flip=False, rotation=10)),
    ],
    ids=["standard", "crop and flip", "rotation", "flip", "wide", "grey and tall", "digits"],
)
def test_pixel_by_pixel_what_pil_does(size, how):
    images, draws = batch_and_draws(*size)
    want = np.stack([by_pil(image, how, draw) for image, draw in zip(images, draws, strict=True)])
    made = augment(images, how, draws)
    assert made.dtype == torch.uint8
    np.testing.assert_array_equal(made.numpy(), want)
    assert (made != images).any()


def test_every_crop_and_both_sides_are_drawn():
    marked = torch.arange(1, 26, dtype=torch.uint8).view(1, 1, 5, 5).repeat(3000, 1, 1, 1)
    draws = torch.rand((3000, DRAWS), generator=torch.Generator().manual_seed(0))
    made = augment(marked, Augment(padding=0.2, flip=True), draws)
    centres, times = made[:, 0, 2, 2].unique(return_counts=True)
    assert centres.tolist() == [7, 8, 9, 12, 13, 14, 17, 18, 19]
    assert times.min() > 250  # 333 expected, standard deviation 17
    mirrored = made[:, 0, 2, 1] > made[:, 0, 2, 2]
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("size", [(20, 3, 32, 32), (20, 1, 8, 8), (20, 3, 7, 12)])
def test_without_settings_nothing_changes(size):
    images, draws = batch_and_draws(*size)
    assert torch.equal(augment(images, Augment(), draws), images)


def test_the_input_is_not_written_to():
    images, draws = batch_and_draws(8, 3, 32, 32)
    before = images.clone()
    augment(images, STANDARD.model_copy(update={"policy": "cifar10"}), draws)
    assert torch.equal(images, before)


@pytest.mark.parametrize("policy", [None, "cifar10"])
def test_an_image_does_not_depend_on_the_rest_of_its_batch(policy):
    how = Augment(padding=0.125, flip=True, rotation=15, policy=policy)
    images, draws = batch_and_draws(24, 3, 16, 16)
    some = torch.tensor([17, 3, 3, 11])
    assert torch.equal(augment(images[some], how, draws[some]), augment(images, how, draws)[some])


def test_equal_images_are_varied_differently():
    images, draws = batch_and_draws(50, 3, 32, 32)
    made = augment(images[:1].expand(50, -1, -1, -1), STANDARD, draws)
    assert len(made.flatten(1).unique(dim=0)) == 50


@pytest.mark.parametrize("size", [(60, 3, 32, 32), (60, 1, 8, 8)])
def test_the_policy_keeps_the_form_and_follows_the_draws(size):
    how = Augment(policy="cifar10")
    images, draws = batch_and_draws(*size)
    state = torch.get_rng_state()
    made = augment(images, how, draws)
    assert torch.equal(torch.get_rng_state(), state)
    assert (made.shape, made.dtype) == (images.shape, torch.uint8)
    changed = (made != images).flatten(1).any(1)
    assert 20 < changed.sum() <= 60
    torch.manual_seed(99)
    assert torch.equal(augment(images, how, draws), made)
    assert not torch.equal(augment(images, how, draws.flip(0)), made)


def test_the_policy_comes_after_crop_and_flip():
    images, draws = batch_and_draws(30, 3, 32, 32)
    geometric = {"padding": 0.125, "flip": True}
    cropped = augment(images, Augment(**geometric), draws)
    in_turn = augment(cropped, Augment(policy="cifar10"), draws)
    assert torch.equal(augment(images, Augment(**geometric, policy="cifar10"), draws), in_turn)
    assert not torch.equal(in_turn, cropped)
