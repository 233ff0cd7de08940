"""Every operation on pixels against PIL: equal byte for byte, each image with its own parameter."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as by_torchvision
from torchvision.transforms.autoaugment import _apply_op

from ltbench.data.augmentation import colour, filters, geometry
from ltbench.data.augmentation.random_crop import CROP_DRAWS, random_box

SIZES = [(1000, 3, 32, 32), (200, 1, 32, 32), (200, 3, 17, 30), (100, 1, 8, 8), (20, 3, 2, 5)]


@cache
def photographs(batch, channels, height, width):
    """Crops of photographs at several scales, after a few plain, two-coloured and noisy images."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(picture) for picture in load_sample_images().images]
    made = []
    for _ in range(batch):
        picture, scale = pictures[rng.integers(2)], rng.uniform(1, 6)
        left, top = rng.uniform(0, 400), rng.uniform(0, 200)
        box = (left, top, left + width * scale, top + height * scale)
        made.append(np.asarray(picture.resize((width, height), box=box)).transpose(2, 0, 1)[:channels])
    images = torch.tensor(np.stack(made))
    generator = torch.Generator().manual_seed(0)
    speckled = torch.where(torch.rand(images[0].shape, generator=generator) < 0.01, 3, 200)
    noisy = torch.randint(256, images[0].shape, generator=generator)
    for image, other in zip(images, [*map(torch.tensor, (0, 255, 1, 128)), speckled, noisy], strict=False):
        image[:] = other
    return images


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())  # squeeze: grey has no channel axis


def from_pil(picture, channels):
    return torch.tensor(np.asarray(picture)).view(*picture.size[::-1], channels).permute(2, 0, 1)


def one_by_one(operation, images, values):
    pairs = zip(images, values.tolist(), strict=True)
    return torch.stack([from_pil(operation(to_pil(image), value), images.shape[1]) for image, value in pairs])


def affine(*matrix):
    def moved(picture, value):
        data = [entry(value) if callable(entry) else entry for entry in matrix]
        return picture.transform(picture.size, Image.Transform.AFFINE, data, Image.Resampling.NEAREST)

    return moved


def policy_operation(name):
    """As torchvision's AutoAugment moves a PIL image."""
    return lambda picture, value: _apply_op(picture, name, value, InterpolationMode.NEAREST, None)


def brightened(picture, addend):
    return picture.point([min(255, i + int(addend)) if i < 128 else i for i in range(256)] * len(picture.getbands()))


def posterized(picture, bits):
    return ImageOps.posterize(picture, int(bits))


def greyed(picture, value):
    return picture.convert("L").convert(picture.mode)


def grey(images, value):
    return colour.grey(images)


# ours, PIL's, range of the parameter, parameters that are a special case
CASES = {
    "invert": (colour.invert, lambda picture, value: ImageOps.invert(picture), (0, 1), ()),
    "posterize": (colour.posterize, posterized, (1, 9), (1, 4, 8)),
    "solarize": (colour.solarize, ImageOps.solarize, (0, 256), (0, 1, 128, 255, 256)),
    "solarize_add": (colour.solarize_add, brightened, (0, 129), (0, 110, 128)),
    "autocontrast": (colour.autocontrast, lambda picture, value: ImageOps.autocontrast(picture), (0, 1), ()),
    "equalize": (colour.equalize, lambda picture, value: ImageOps.equalize(picture), (0, 1), ()),
    "brightness": (colour.brightness, lambda p, v: ImageEnhance.Brightness(p).enhance(v), (0, 3), (0, 1, 1.9, 40)),
    "contrast": (colour.contrast, lambda p, v: ImageEnhance.Contrast(p).enhance(v), (0, 3), (0, 1, 1.9, 40)),
    "saturation": (colour.saturation, lambda p, v: ImageEnhance.Color(p).enhance(v), (0, 3), (0, 1, 1.9, 40)),
    "sharpness": (filters.sharpness, lambda p, v: ImageEnhance.Sharpness(p).enhance(v), (0, 3), (0, 1, 1.9, 40)),
    "hue": (colour.hue, by_torchvision.adjust_hue, (-0.5, 0.5), (-0.5, 0, 0.5)),
    "grey": (grey, greyed, (0, 1), ()),
    "gaussian_blur": (
        filters.gaussian_blur,
        lambda picture, value: picture.filter(ImageFilter.GaussianBlur(value)),
        (0.1, 2),
        (0, 0.1, 2, 9.5, 40),
    ),
    "rotate": (geometry.rotate, lambda picture, value: picture.rotate(value), (-400, 400), (0, 15, -90, 90, 180, 270)),
    "shear_x": (geometry.shear_x, policy_operation("ShearX"), (-1, 1), (0, 0.3, -0.3, 1e-6)),
    "shear_y": (geometry.shear_y, policy_operation("ShearY"), (-1, 1), (0, 0.3, -0.3, 1e-6)),
    "translate_x": (geometry.translate_x, affine(1, 0, lambda v: -v, 0, 1, 0), (-20, 20), (0, 1, -1, 8, -14, 99)),
    "translate_y": (geometry.translate_y, affine(1, 0, 0, 0, 1, lambda v: -v), (-20, 20), (0, 1, -1, 8, -14, 99)),
}


@pytest.mark.parametrize(
    "size",
    [pytest.param(size, marks=() if size == (100, 1, 8, 8) else pytest.mark.slow) for size in SIZES],
    ids=lambda size: "x".join(map(str, size)),
)
@pytest.mark.parametrize("name", CASES)
def test_byte_for_byte_what_pil_does(name, size):
    ours, theirs, (low, high), special = CASES[name]
    images = photographs(*size)
    values = low + (high - low) * torch.rand(len(images), generator=torch.Generator().manual_seed(1))
    made = ours(images, values)
    assert (made.dtype, made.shape) == (torch.uint8, images.shape)
    assert torch.equal(made, one_by_one(theirs, images, values))
    for value in special:
        some = torch.full((12,), float(value))
        assert torch.equal(ours(images[:12], some), one_by_one(theirs, images[:12], some)), value


@pytest.mark.parametrize("name", ["TranslateX", "TranslateY"])
def test_torchvisions_translation_is_by_whole_pixels(name):
    images = photographs(40, 3, 20, 32)
    values = torch.arange(-20, 20) / 1.7
    ours = geometry.translate_x if name == "TranslateX" else geometry.translate_y
    assert torch.equal(ours(images, values.trunc()), one_by_one(policy_operation(name), images, values))


@pytest.mark.slow
def test_hue_of_every_colour():
    levels = torch.arange(0, 256, 3, dtype=torch.uint8)  # 86 of each, black and white among them
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 86 * 86, 86)
    for shift in (-0.3, 0.0, 0.1):
        assert torch.equal(
            colour.hue(colours, torch.tensor([shift])),
            one_by_one(by_torchvision.adjust_hue, colours, torch.tensor([shift])),
        )


@pytest.mark.parametrize("name", ["hue", "saturation", "grey"])
def test_grey_images_have_no_colour_to_change(name):
    images = photographs(10, 1, 8, 8)
    assert torch.equal(CASES[name][0](images, torch.linspace(-0.5, 0.5, 10)), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_comes_from_outside_has_the_colour_of_the_fill(channels):
    images = photographs(20, channels, 12, 16)
    fill = (200, 30, 77)[:channels]
    degrees = torch.linspace(-180, 170, 20)
    want = one_by_one(lambda p, v: p.rotate(v, fillcolor=fill if channels == 3 else fill[0]), images, degrees)
    assert torch.equal(geometry.rotate(images, degrees, fill), want)
    away = geometry.translate_x(images, torch.full((20,), 16.0), fill)
    assert torch.equal(away, torch.tensor(fill, dtype=torch.uint8).view(1, -1, 1, 1).expand_as(away))


def test_an_erased_square_is_cut_off_at_the_border():
    images = photographs(8, 3, 6, 9)[4:] | 1
    made = geometry.erase(images, torch.tensor([4, 0, 8, 4]), torch.tensor([3, 0, 5, 5]), 4)
    want = images.clone()
    want[0, :, 1:5, 2:6] = want[1, :, :2, :2] = want[2, :, 3:, 6:] = want[3, :, 3:, 2:6] = 0
    assert torch.equal(made, want)
    assert torch.equal(geometry.erase(images, torch.zeros(4), torch.zeros(4), 0), images)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12))
def test_an_image_does_not_depend_on_its_batch(name, seed, height, width):
    ours, _, (low, high), _ = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (6, 3, height, width), generator=generator, dtype=torch.uint8)
    before, values = images.clone(), low + (high - low) * torch.rand(6, generator=generator)
    made = ours(images, values)
    assert torch.equal(images, before)
    alone = [ours(images[i : i + 1], values[i : i + 1]) for i in range(6)]
    assert torch.equal(made, torch.cat(alone))
    assert torch.equal(ours(images.mT.contiguous().mT, values), made)  # nor on the order of its bytes


@given(seed=st.integers(0, 2**32))
def test_what_undoes_or_repeats_itself(seed):
    images = torch.randint(256, (3, 3, 5, 7), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    assert torch.equal(colour.invert(colour.invert(images)), images)
    assert torch.equal(geometry.rotate(geometry.rotate(images, torch.full((3,), 180)), torch.full((3,), 180)), images)
    for repeated, value in ((colour.posterize, 3), (colour.saturation, 0)):
        once = repeated(images, torch.full((3,), value))
        assert torch.equal(repeated(once, torch.full((3,), value)), once)


@pytest.mark.parametrize("size", [(3, 32, 32), (1, 8, 8), (3, 20, 31)], ids=["cifar", "digits", "wide"])
def test_a_part_of_an_image_resized_as_pil_does(size):
    channels, height, width = size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (500, *size), generator=generator, dtype=torch.uint8)
    box = random_box((height, width), (0.05, 1.0), torch.rand((500, CROP_DRAWS), generator=generator))
    made = geometry.resized_crop(images, box)
    for image, (top, left, rows, columns), found in zip(images, box.tolist(), made, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())
        part = picture.crop((left, top, left + columns, top + rows))
        want = np.asarray(part.resize((width, height), Image.Resampling.BILINEAR)).reshape(height, width, channels)
        np.testing.assert_array_equal(found.numpy(), want.transpose(2, 0, 1))
