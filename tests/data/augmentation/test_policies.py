"""Policies against torchvision's and timm's on PIL images with the same draws, and how often they do what."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chisquare
from timm.data import auto_augment as by_timm
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, ColorJitter
from torchvision.transforms import functional as by_torchvision

from ltbench.data.augmentation import policies
from ltbench.data.augmentation.operations import NUMBERS
from ltbench.data.augmentation.policies import autoaugment_cifar10, colour_jitter, randaugment
from ltbench.data.augmentation.random_crop import CROP_DRAWS, random_box

NAMES = list(NUMBERS)
FILL = (125, 30, 200)
# timm's names, in the order of our draws
RANDAUGMENT = ["AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Brightness"]
RANDAUGMENT += ["Contrast", "Color", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY"]


def images_and_draws(batch, channels, height, width, numbers, seed=0):
    """Smooth images with a little noise, and uniform draws."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((batch, channels, height // 4 + 1, width // 4 + 1), generator=generator) * 230
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    images = (smooth + 25 * torch.rand(smooth.shape, generator=generator)).byte()
    return images, torch.rand((batch, numbers), generator=generator)


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())  # squeeze: grey has no channel axis


def from_pil(picture, channels):
    return torch.tensor(np.asarray(picture)).view(*picture.size[::-1], channels).permute(2, 0, 1)


def each(operation, images, draws):
    pairs = zip(images, draws.double().tolist(), strict=True)
    return torch.stack([from_pil(operation(to_pil(image), draw), len(image)) for image, draw in pairs])


def torchvisions_autoaugment(picture, draw):
    policy = AutoAugment(AutoAugmentPolicy.CIFAR10, fill=128)
    chance, way = torch.tensor(draw[1:3]), torch.tensor(draw[3:]) >= 0.5
    policy.get_params = lambda number: (int(draw[0] * number), chance, way.int())
    return policy(picture)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(10, 3, 32, 32), (8, 3, 20, 31), (8, 1, 8, 8), (8, 1, 32, 32)])
def test_each_sub_policy_in_both_directions_is_torchvisions(size):
    images, _ = images_and_draws(*size, 0)
    for number, signs in product(range(25), product((0.25, 0.75), repeat=2)):
        draws = torch.tensor([[(number + 0.5) / 25, 1e-9, 1e-9, *signs]]).expand(len(images), -1)
        assert torch.equal(autoaugment_cifar10(images, draws), each(torchvisions_autoaugment, images, draws)), number


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1000, 3, 32, 32), (200, 1, 33, 17), (50, 3, 8, 8)])
def test_random_draws_do_what_torchvision_does_with_them(size):
    images, draws = images_and_draws(*size, 5)
    made = autoaugment_cifar10(images, draws)
    assert torch.equal(made, each(torchvisions_autoaugment, images, draws))
    assert (made.shape, made.dtype) == (images.shape, torch.uint8)


class Scripted:
    """In place of the module random inside timm: hands out our draws."""

    def __init__(self, happens, level, sign):
        self.uniform, self.level = [happens, sign], level

    def random(self):
        return self.uniform.pop(0)

    def gauss(self, mean, deviation):
        return mean + deviation * torch.special.ndtri(torch.tensor(self.level, dtype=torch.float64)).item()


@pytest.mark.parametrize("size", [(1000, 3, 32, 32), (100, 1, 24, 24)])
def test_randaugment_is_timms(size, monkeypatch):
    images, draws = images_and_draws(*size, 8)
    fill = FILL[: size[1]]
    hparams = {
        "magnitude_std": 0.5,
        "translate_const": 100 / 224 * size[2],
        "img_mean": fill if len(fill) == 3 else fill[0],
        "interpolation": Image.Resampling.NEAREST,
    }
    operations = [by_timm.AugmentOp(name, prob=0.5, magnitude=10, hparams=hparams) for name in RANDAUGMENT]

    def theirs(picture, draw):
        for choice, happens, level, sign in (draw[:4], draw[4:]):
            operation = operations[int(choice * 15)]
            # timm's translations go the other way, and it negates what we leave
            sign = sign if operation.name.startswith("Translate") else 1 - sign
            monkeypatch.setattr(by_timm, "random", Scripted(happens, level, sign))
            picture = operation(picture)
        return picture

    assert torch.equal(randaugment(images, draws, fill), each(theirs, images, draws))


@pytest.mark.slow
@pytest.mark.parametrize("strengths", [(0.4, 0.4, 0.4, 0.1), (0.4, 0.4, 0.4, 0), (0, 0, 1.5, 0), (0, 0.2, 0, 0.5)])
def test_jitter_is_torchvisions(strengths):
    images, draws = images_and_draws(300, 3, 32, 32, 6)
    adjust = ("brightness", "contrast", "saturation", "hue")
    ranges = [(max(0, 1 - s), 1 + s) for s in strengths[:3]] + [(-strengths[3], strengths[3])]
    orders = list(permutations(range(4)))
    library = ColorJitter(*strengths)

    def theirs(picture, draw):
        for number in orders[int(draw[1] * 24)] if draw[0] < 0.8 else ():
            if (allowed := getattr(library, adjust[number])) is not None:
                low, high = ranges[number]
                assert allowed == pytest.approx((low, high))
                factor = torch.tensor(low) + torch.tensor(high - low) * torch.tensor(draw[2 + number]).float()
                picture = getattr(by_torchvision, f"adjust_{adjust[number]}")(picture, factor.item())
        return picture

    assert torch.equal(colour_jitter(images, draws, strengths, 0.8), each(theirs, images, draws))


@pytest.fixture
def asked(monkeypatch):
    """What `perform` is asked for, a (which, value) for each step."""
    steps = []

    def record(images, which, value, fill=(0,)):
        steps.append((which, value))
        return images

    monkeypatch.setattr(policies, "perform", record)
    return steps


def alike(observed, expected):
    """Whether counts are what was to be expected, among 1000 experiments."""
    return chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_autoaugments_choices_have_their_probabilities(asked):
    draws = torch.rand((100_000, 5), generator=torch.Generator().manual_seed(0))
    autoaugment_cifar10(torch.zeros((1, 1, 32, 32)), draws)
    library = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    for step, (which, _) in enumerate(asked):
        expected = np.zeros(len(NUMBERS))
        for pair in library:
            name, chance, _ = pair[step]
            name = {"Color": "saturation", "TranslateX": "translate_x", "TranslateY": "translate_y"}.get(name, name)
            expected[NUMBERS[name.lower().replace("sheary", "shear_y")]] += chance / 25
        expected[0] = 1 - expected.sum()
        observed = torch.bincount(which, minlength=len(NUMBERS)).numpy()
        assert (observed[expected == 0] == 0).all()
        assert alike(observed[expected > 0], expected[expected > 0])
        down = [(asked[step][1][which == NUMBERS[name]] < 1).double().mean() for name in ("brightness", "sharpness")]
        assert down == pytest.approx([0.5, 0.5], abs=0.03)


def test_randaugments_choices_have_their_probabilities(asked):
    draws = torch.rand((100_000, 8), generator=torch.Generator().manual_seed(0))
    randaugment(torch.zeros((1, 1, 32, 32)), draws)
    for which, value in asked:
        observed = torch.bincount(which, minlength=len(NUMBERS)).numpy()
        used = observed > 0
        assert [name for name, some in zip(NAMES, used, strict=True) if not some] == ["hue", "gaussian_blur"]
        assert alike(observed[used], np.array([7.5] + [0.5] * 15))
        degrees = value[which == NUMBERS["rotate"]]
        assert (degrees > 0).double().mean() == pytest.approx(0.5, abs=0.03)
        # half of the magnitudes are cut off at 10, the mean of the rest is 10 - 0.5 sqrt(2 / pi)
        assert (degrees.abs() == 30).double().mean() == pytest.approx(0.5, abs=0.03)
        assert degrees.abs()[degrees.abs() < 30].mean() == pytest.approx(30 - 1.5 * (2 / np.pi) ** 0.5, abs=0.06)
        assert sorted(set(value[which == NUMBERS["posterize"]].tolist())) == [3, 4]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(12)))
def test_an_image_does_not_depend_on_its_place_in_the_batch(seed, order):
    images, draws = images_and_draws(12, 3, 9, 10, 8, seed)
    for policy in (
        lambda images, draws: autoaugment_cifar10(images, draws[:, :5]),
        lambda images, draws: randaugment(images, draws, FILL),
        lambda images, draws: colour_jitter(images, draws[:, :6], (0.4, 0.4, 0.4, 0.1), 0.8),
    ):
        made = policy(images, draws)
        assert torch.equal(policy(images[order], draws[order]), made[order])
        assert torch.equal(policy(images[:1], draws[:1]), made[:1])


def test_the_extremes_of_the_draws_choose_something():
    images, _ = images_and_draws(2, 3, 8, 8, 0)
    draws = torch.tensor([0, 1 - 2**-24]).view(2, 1)
    for made in (
        autoaugment_cifar10(images, draws.expand(2, 5)),
        randaugment(images, draws.expand(2, 8), FILL),
        colour_jitter(images, draws.expand(2, 6), (0.4, 0.4, 0.4, 0.1)),
    ):
        assert made.shape == images.shape


def test_random_boxes_have_the_shares_and_shapes_asked_for():
    draws = torch.rand((20_000, CROP_DRAWS), generator=torch.Generator().manual_seed(0))
    top, left, height, width = random_box((64, 64), (0.2, 1.0), draws).double().unbind(1)
    area, ratio = height * width / 64**2, width / height
    assert 0.19 < area.min() < 0.22
    assert area.max() == 1.0
    assert 0.73 < ratio.min() < 0.78
    assert 1.28 < ratio.max() < 1.38
    assert 0.47 < area.mean() < 0.6  # large parts of extreme shape do not fit
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 64).all() and (left + width <= 64).all()
    free = width < 64
    assert 0.48 < (left / (64 - width))[free].mean() < 0.52


def test_a_box_that_never_fits_is_the_whole_image():
    assert random_box((4, 64), (1.0, 1.0), torch.rand(5, CROP_DRAWS)).tolist() == [[0, 0, 4, 64]] * 5
