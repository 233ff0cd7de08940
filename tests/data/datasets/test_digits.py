"""digits-lt: balanced test set, long-tailed training set, always the same."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ltbench.config import RunConfig
from ltbench.data import dataset
from ltbench.data.datasets.digits import Digits
from ltbench.data.long_tail import fingerprint
from ltbench.errors import LtbenchError

NOWHERE = Path("no folder is needed")


@pytest.fixture(scope="module")
def digits():
    return Digits().load(NOWHERE, 8)


def distinct(part):
    return {image.tobytes() for image in part.images}


def test_forty_test_images_a_class(digits):
    assert np.bincount(digits.test.labels).tolist() == [40] * 10
    assert digits.classes == tuple("0123456789")


def test_train_and_test_are_disjoint_and_together_everything(digits):
    assert len(digits.train) + len(digits.test) == 1797
    assert distinct(digits.train).isdisjoint(distinct(digits.test))
    every = load_digits()
    pixels = np.rint(every.images / 16 * 255).astype(np.uint8)
    want = {(image.tobytes(), int(label)) for image, label in zip(pixels, every.target, strict=True)}
    got = {
        (image.tobytes(), int(label))
        for part in (digits.train, digits.test)
        for image, label in zip(part.images, part.labels, strict=True)
    }
    assert got == want


def test_pixels_use_the_whole_range(digits):
    for part in (digits.train, digits.test):
        assert part.images.shape[1:] == (1, 8, 8)
        assert part.images.dtype == np.uint8
        assert (part.images.min(), part.images.max()) == (0, 255)


def test_the_same_images_every_time_whatever_the_global_generator(digits):
    np.random.seed(5)  # noqa: NPY002
    state = np.random.get_state()  # noqa: NPY002
    again = Digits().load(NOWHERE, 8)
    assert fingerprint(again.test.images, again.test.labels) == fingerprint(digits.test.images, digits.test.labels)
    np.testing.assert_array_equal(again.train.images, digits.train.images)
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


def test_the_same_images_where_scikit_learn_keeps_its_file_elsewhere(digits, monkeypatch):
    monkeypatch.setattr("ltbench.data.datasets.digits.FILE", ("elsewhere",))
    again = Digits().load(NOWHERE, 8)
    for part, same in ((digits.train, again.train), (digits.test, again.test)):
        np.testing.assert_array_equal(part.images, same.images)
        np.testing.assert_array_equal(part.labels, same.labels)


def test_counts_at_the_default_ratio():
    config = RunConfig(dataset="digits-lt", image_size=8, imbalance_ratio=Digits.imbalance_ratio)
    data = dataset.load(Digits(), config, NOWHERE)
    assert Digits.imbalance_ratio == 20
    assert (data.counts[0], data.counts[-1]) == (138, 6)
    assert (np.diff(data.counts) < 0).all()
    np.testing.assert_array_equal(np.bincount(data.train.labels), data.counts)
    assert len(data.test) == 400


def test_another_image_size_is_refused():
    with pytest.raises(LtbenchError, match="8 pixels, not 32"):
        Digits().load(NOWHERE, 32)
