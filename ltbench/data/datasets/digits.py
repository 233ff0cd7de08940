"""digits-lt: the handwritten digits that come with scikit-learn, made long-tailed. No download."""

import gzip
import importlib.util
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ltbench import rng
from ltbench.data.datasets.base import Source
from ltbench.data.images import LabelledImages, RawData

TEST_PER_CLASS = 40
FILE = ("datasets", "data", "digits.csv.gz")
"""Where scikit-learn keeps the digits."""


class Digits(Source):
    """1,797 grey images of 8 x 8 pixels in 10 classes; 40 a class are the balanced test set."""

    name = "digits-lt"
    summary = "handwritten digits of scikit-learn, 8 x 8 grey, 10 classes; comes with ltbench"
    recipe_table = "digits"
    backbone = "cifar_resnet20"
    image_size = 8
    any_size = False
    imbalance_ratio: ClassVar[float | None] = 20.0

    def load(self, folder: Path, image_size: int) -> RawData:
        """Read the digits and set the test images aside; always the same ones."""
        self.fixed_size(image_size)
        digits = _digits()
        labels = digits[:, -1].astype(np.int64)
        images = np.round(digits[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        generator = rng.numpy_generator(0, "digits-lt test set")
        tests = np.zeros(len(labels), dtype=bool)
        for label in range(10):
            tests[generator.permutation(np.flatnonzero(labels == label))[:TEST_PER_CLASS]] = True
        whole = LabelledImages(images, labels)
        train, test = (tuple(map(str, np.flatnonzero(part))) for part in (~tests, tests))
        classes = tuple(str(digit) for digit in range(10))
        return RawData(whole.take(~tests), whole.take(tests), classes, test, train_names=train)


def _digits() -> NDArray[np.float64]:
    """(1797, 65): the 64 pixels, 0 to 16, and the label of each image.

    What ``sklearn.datasets.load_digits`` reads, to import which takes a second; it is called where the file has moved.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder, *FILE)).is_file():
            with gzip.open(file, "rt") as stream:
                return np.loadtxt(stream, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
