"""Photographs as JPEG files, of the size that ImageNet's have, and the usual way to load them.

    python -m ltbench_speed.photographs FOLDER

writes a small long-tailed folder of nine subjects, for trying ``ltbench run --dataset folder-lt`` on real photographs.
Parts of one photograph are all alike, in training and in test: accuracies on it say nothing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
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


COUNTS = (72, 50, 35, 24, 17, 12, 8, 6, 4)
"""Training images of a long-tailed folder, by subject."""


def write(folder: Path, count: int, classes: int = 10) -> None:
    """Random parts of scikit-learn's two sample photographs, in a folder for each class."""
    generator = np.random.default_rng(0)
    pictures = load_sample_images().images
    for i in range(count):
        _write_part(pictures[i % len(pictures)], folder / f"{i % classes}" / f"{i:05}.jpg", generator)


def write_subjects(folder: Path, counts: Sequence[int] = COUNTS, test: int = 8) -> None:
    """Random parts of the sample photographs of scikit-learn and scikit-image: train/ and test/, a class a photograph.

    Args:
        folder: for both.
        counts: training images of each of the subjects, nine at most.
        test: images of each.
    """
    from skimage import data

    china, flower = load_sample_images().images
    pictures = {
        "coffee": data.coffee(), "rocket": data.rocket(), "china": china, "astronaut": data.astronaut(),
        "flower": flower, "motorcycle": data.stereo_motorcycle()[0], "galaxies": data.hubble_deep_field(),
        "tissue": data.immunohistochemistry(), "retina": data.retina(),
    }  # fmt: skip
    generator = np.random.default_rng(0)
    for (name, picture), count in zip(pictures.items(), counts, strict=False):
        for part, number in (("train", count), ("test", test)):
            for i in range(number):
                _write_part(picture, folder / part / name / f"{i:03}.jpg", generator)


def _write_part(picture: NDArray[np.uint8], file: Path, generator: np.random.Generator) -> None:
    top = generator.integers(0, picture.shape[0] - HEIGHT + 1)
    left = generator.integers(0, picture.shape[1] - WIDTH + 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture[top : top + HEIGHT, left : left + WIDTH]).save(file, quality=92)


def training(*, jitter: bool) -> transforms.Compose:
    """The transforms of the ImageNet-LT codes, without colour jitter those of iNaturalist."""
    augmented = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
    colours = [transforms.ColorJitter(JITTER, JITTER, JITTER)] if jitter else []
    return transforms.Compose([*augmented, *colours, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def test() -> transforms.Compose:
    """The transforms of test images."""
    scaled = [transforms.Resize(256), transforms.CenterCrop(SIZE)]
    return transforms.Compose([*scaled, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def loader(folder: Path, transform: transforms.Compose, workers: int, *, train: bool) -> DataLoader[tuple[Tensor, int]]:
    """Batches from worker processes, one image at a time through PIL."""
    data = ImageFolder(str(folder), transform)
    return DataLoader(data, BATCH, shuffle=train, num_workers=workers, persistent_workers=workers > 0)


if __name__ == "__main__":
    write_subjects(Path(sys.argv[1]))
