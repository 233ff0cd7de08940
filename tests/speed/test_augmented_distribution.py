"""Batched augmentation draws from the distribution of torchvision's transforms on PIL images."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision import transforms

from ltbench.config import Augment
from ltbench.data.augmentation.pipeline import augment
from ltbench_speed.reference_loop import crop_flip_rotate

pytestmark = pytest.mark.slow

IMAGES = 3000
SIDE = 32
BASIC = Augment(padding=0.125, flip=True, rotation=15)


@pytest.fixture(scope="module")
def map_image():
    """(3, 32, 32): every pixel says which column and row it is, and that it is one."""
    column = np.broadcast_to(np.arange(SIDE) * 8, (SIDE, SIDE))
    return np.stack([column, column.T, np.full((SIDE, SIDE), 255)]).astype(np.uint8)


@pytest.fixture(scope="module")
def ours(map_image):
    draws = torch.rand(IMAGES, 5, generator=torch.Generator().manual_seed(0))
    return augment(torch.from_numpy(map_image).expand(IMAGES, -1, -1, -1), BASIC, draws).numpy()


@pytest.fixture(scope="module")
def theirs(map_image):
    transform = transforms.Compose(crop_flip_rotate())
    picture = Image.fromarray(map_image.transpose(1, 2, 0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return np.stack([np.asarray(transform(picture)) for _ in range(IMAGES)]).transpose(0, 3, 1, 2)


def drawn(images):
    """What was done to each image, read off its pixels: mirrored, angle, shift of columns and rows."""
    grid = np.arange(SIDE) - (SIDE - 1) / 2
    x, y = np.meshgrid(grid, grid)
    found = []
    for column, row, mask in images:
        seen = mask == 255
        terms = np.stack([x[seen], y[seen], np.ones(seen.sum())], axis=1)
        (across, _), (down, lower), (left, top) = np.linalg.lstsq(
            terms, np.stack([column[seen], row[seen]], axis=1) / 8 - (SIDE - 1) / 2, rcond=None
        )[0]
        mirrored = across < 0
        angle = np.degrees(np.arctan2(-down if mirrored else down, lower))
        found.append((mirrored, angle, left, top))
    return np.array(found)


def test_images_have_the_same_mean_and_variance(ours, theirs):
    for moment in (1.0, 2.0):
        first, second = ours.astype(float) ** moment, theirs.astype(float) ** moment
        error = np.sqrt((first.var(0) + second.var(0)) / IMAGES) + 1e-9
        z = np.abs(first.mean(0) - second.mean(0)) / error
        # Of 3,072 standard normal numbers the largest lies above 5 once in five hundred times.
        assert z.max() < 5, f"pixels differ by {z.max():.1f} standard errors"


def test_mirror_angle_and_crop_have_the_same_histograms(ours, theirs):
    first, second = drawn(ours), drawn(theirs)
    assert stats.fisher_exact([[d[:, 0].sum(), (1 - d[:, 0]).sum()] for d in (first, second)]).pvalue > 1e-3
    assert stats.ks_2samp(first[:, 1], second[:, 1]).pvalue > 1e-3
    assert np.abs(first[:, 1]).max() == pytest.approx(15, abs=0.5)
    for axis in (2, 3):
        bins = np.arange(-4.5, 5)
        counts = np.stack([np.histogram(d[:, axis], bins)[0] for d in (first, second)])
        assert stats.chi2_contingency(counts).pvalue > 1e-3
        assert stats.chisquare(counts[0]).pvalue > 1e-4, "every offset from -4 to 4 is as likely"
