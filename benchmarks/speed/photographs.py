"""Photographs as JPEG files, of the size that ImageNet's have, and the usual way to load them."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

HEIGHT, WIDTH = 375, 500
SIZE, BATCH = 224, 64
COPIED = 256
"""Shorter side of copies that are scaled once."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = 0.4


def write(folder: Path, count: int, classes: int = 10) -> None:
    """Random parts of scikit-learn's two sample photographs, in a folder for each class."""
    generator = np.random.default_rng(0)
    pictures = load_sample_images().images
    for i in range(count):
        picture = pictures[i % len(pictures)]
        top = generator.integers(0, picture.shape[0] - HEIGHT + 1)
        left = generator.integers(0, picture.shape[1] - WIDTH + 1)
        file = folder / f"{i % classes}" / f"{i:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[top : top + HEIGHT, left : left + WIDTH]).save(file, quality=92)


def training(*, jitter: bool) -> transforms.Compose:
    """The transforms of the ImageNet-LT codes, without colour jitter those of iNaturalist."""
    varied = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
    colours = [transforms.ColorJitter(JITTER, JITTER, JITTER)] if jitter else []
    return transforms.Compose([*varied, *colours, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def test() -> transforms.Compose:
    """The transforms of test images."""
    scaled = [transforms.Resize(256), transforms.CenterCrop(SIZE)]
    return transforms.Compose([*scaled, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def loader(folder: Path, transform: transforms.Compose, workers: int, *, train: bool) -> DataLoader[tuple[Tensor, int]]:
    """Batches from worker processes, one image at a time through PIL."""
    data = ImageFolder(str(folder), transform)
    return DataLoader(data, BATCH, shuffle=train, num_workers=workers, persistent_workers=workers > 0)
