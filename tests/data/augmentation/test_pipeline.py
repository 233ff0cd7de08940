"""Augmentation against PIL, pixel by pixel, and the independence of the images of a batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ltbench.config import Augment
from ltbench.data.augmentation import colour
from ltbench.data.augmentation.pipeline import DRAWS, augment, draws_needed

STANDARD = Augment(padding=0.125, flip=True, rotation=15)
EVERYTHING = STANDARD.model_copy(
    update={"policy": "cifar10", "jitter": (0.4, 0.4, 0.4, 0.1), "grey": 0.2, "blur": 0.5, "cutout": 0.5}
)
MORE = draws_needed(EVERYTHING)


def batch_and_draws(batch, channels, height, width, numbers=DRAWS, seed=0):
    """Images without a black pixel, so that what is filled in shows, and draws that include the extremes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 256, (batch, channels, height, width), generator=generator, dtype=torch.uint8)
    draws = torch.rand((batch, numbers), generator=generator)
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
    images, draws = batch_and_draws(8, 3, 32, 32, MORE)
    before, drawn = images.clone(), draws.clone()
    augment(images, EVERYTHING, draws)
    assert torch.equal(images, before)
    assert torch.equal(draws, drawn)


@pytest.mark.parametrize("size", [(24, 3, 16, 16), (24, 1, 8, 8), (24, 3, 9, 14)])
@pytest.mark.parametrize("policy", [None, "cifar10", "randaugment"])
def test_an_image_does_not_depend_on_the_rest_of_its_batch(policy, size):
    how = EVERYTHING.model_copy(update={"policy": policy})
    images, draws = batch_and_draws(*size, MORE)
    some = torch.tensor([17, 3, 3, 11])
    made = augment(images, how, draws)
    assert (made.shape, made.dtype) == (images.shape, torch.uint8)
    assert torch.equal(augment(images[some], how, draws[some]), made[some])
    assert torch.equal(augment(images[5:6], how, draws[5:6]), made[5:6])


def test_equal_images_are_varied_differently():
    images, draws = batch_and_draws(50, 3, 32, 32)
    made = augment(images[:1].expand(50, -1, -1, -1), STANDARD, draws)
    assert len(made.flatten(1).unique(dim=0)) == 50


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12))
def test_the_same_draws_give_the_same_images_and_two_flips_the_first(seed, height, width):
    images, draws = batch_and_draws(5, 3, height, width, MORE, seed=seed)
    assert torch.equal(augment(images, EVERYTHING, draws), augment(images, EVERYTHING, draws))
    flip = Augment(flip=True)
    assert torch.equal(augment(augment(images, flip, draws), flip, draws), images)


@pytest.mark.parametrize("size", [(60, 3, 32, 32), (60, 1, 8, 8)])
@pytest.mark.parametrize("policy", ["cifar10", "randaugment"])
def test_the_policy_follows_the_draws_and_no_generator(policy, size):
    how = Augment(policy=policy)
    images, draws = batch_and_draws(*size, MORE)
    state = torch.get_rng_state()
    made = augment(images, how, draws)
    assert torch.equal(torch.get_rng_state(), state)
    assert 20 < (made != images).flatten(1).any(1).sum() <= 60
    torch.manual_seed(99)
    assert torch.equal(augment(images, how, draws), made)
    assert not torch.equal(augment(images, how, draws.flip(0)), made)


STEPS = [
    {"padding": 0.125, "flip": True, "rotation": 15},
    {"jitter": (0.4, 0.4, 0.4, 0.1), "jitter_chance": 0.8},
    {"grey": 0.3},
    {"blur": 0.5},
    {"policy": "randaugment"},
    {"cutout": 0.5},
]


def test_each_step_has_its_own_draws_and_comes_after_those_before_it():
    images, draws = batch_and_draws(60, 3, 32, 32, MORE)
    in_turn, settings = images, {}
    for step in STEPS:
        settings |= step
        before, in_turn = in_turn, augment(in_turn, Augment(**step), draws, (9, 8, 7))
        assert not torch.equal(before, in_turn)
        assert torch.equal(augment(images, Augment(**settings), draws, (9, 8, 7)), in_turn)


@pytest.mark.slow
def test_every_number_is_used_by_one_step():
    images, draws = batch_and_draws(60, 3, 32, 32, MORE)
    used = torch.zeros(MORE)
    for how in (Augment(**step) for step in STEPS):
        made = augment(images, how, draws)
        for number in range(MORE):
            other = draws.clone()
            other[:, number] = draws[:, number].flip(0)
            used[number] += not torch.equal(augment(images, how, other), made)
    assert used.tolist() == [1] * MORE


@pytest.mark.parametrize("how", [Augment(), STANDARD, Augment(jitter_chance=0.3)])
def test_crop_flip_and_rotation_need_no_more_than_five_numbers(how):
    assert draws_needed(how) == DRAWS == 5


@pytest.mark.parametrize("step", STEPS[1:], ids=lambda step: next(iter(step)))
def test_every_further_step_needs_the_same_numbers(step):
    assert draws_needed(Augment(**step)) == MORE


def test_grey_and_blur_happen_as_often_as_asked():
    images, draws = batch_and_draws(4000, 3, 8, 8, MORE)
    made = augment(images, Augment(grey=0.2), draws)
    grey = (made == colour.grey(images)).flatten(1).all(1)
    assert grey.double().mean() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(made[~grey], images[~grey])
    blurred = (augment(images, Augment(blur=0.5), draws) != images).flatten(1).any(1)
    assert 0.35 < blurred.double().mean() < 0.52  # small radii leave some images as they are


def test_cutout_is_a_square_whose_centre_is_anywhere():
    images, draws = batch_and_draws(4000, 3, 8, 12, MORE)
    made = augment(images, Augment(cutout=0.5), draws)
    black = (made == 0).all(1, keepdim=True)
    assert torch.equal(made, images * ~black)
    sizes, times = black.flatten(1).sum(1).unique(return_counts=True)
    assert sizes.tolist() == [4, 6, 8, 9, 12, 16]  # 4 x 4 pixels, cut off at the border
    assert times[-1] / 4000 == pytest.approx(5 / 8 * 9 / 12, abs=0.03)
