"""From a source to the parts of a run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ltbench.config import RunConfig
from ltbench.data import dataset
from ltbench.data.datasets.base import Source
from ltbench.data.datasets.image_folder import Folder
from ltbench.data.images import ImageFiles, LabelledImages, RawData
from ltbench.data.loading.from_files import FileLoader
from ltbench.data.long_tail import hold_out, profile
from ltbench.errors import LtbenchError
from ltbench.evaluation.result_parts import data_record

NOWHERE = Path("no folder is needed")


class InMemory(Source):
    """A third party's data set: class sizes as given, every image different."""

    name = "in-memory"
    summary = "made up"
    recipe_table = "folder"
    backbone = "cifar_resnet20"
    image_size = 4

    def __init__(self, sizes, *, names=None, constant=False):
        self.sizes, self.names, self.constant = sizes, names or [f"class {i}" for i in range(len(sizes))], constant

    def load(self, folder, image_size):
        labels = np.repeat(np.arange(len(self.sizes)), self.sizes)
        images = np.random.default_rng(0).integers(0, 256, (len(labels), 3, image_size, image_size), dtype=np.uint8)
        if self.constant:
            images[:, 1] = 51
        test = LabelledImages(images[:2] ^ 255, labels[:2])
        return RawData(LabelledImages(images, labels), test, tuple(self.names))


def load(source, folder=NOWHERE, **settings):
    return dataset.load(source, RunConfig(dataset=source.name, image_size=4, **settings), folder)


def distinct(part):
    return {image.tobytes() for image in part.images}


def test_without_a_ratio_the_data_stays_as_it_is():
    data = load(InMemory([3, 9, 1]))
    assert data.counts.tolist() == [3, 9, 1]
    assert data.train_counts.tolist() == [3, 9, 1]
    assert data.validation is None
    assert len(data.test) == 2
    assert data.classes == ("class 0", "class 1", "class 2")


def test_a_ratio_takes_the_largest_head_that_the_classes_allow():
    data = load(InMemory([100, 30, 20]), imbalance_ratio=4)
    assert data.counts.tolist() == [61, 30, 15]  # 62 would need 31 of the second class
    assert data.counts.tolist() == profile(61, 3, 4).tolist()


def test_a_source_can_fix_the_largest_class():
    source = InMemory([100, 100, 100])
    source.largest = 40
    assert load(source, imbalance_ratio=4).counts.tolist() == [40, 20, 10]


@pytest.mark.parametrize(
    ("sizes", "ratio", "counts"),
    [
        ([100, 100, 100, 100], 10, [100, 100, 10, 10]),
        ([100, 100, 100, 100, 100], 7, [100, 100, 100, 14, 14]),  # of five, two are minor; floor(100 / 7)
        ([90, 30, 9, 5], 9, [30, 30, 3, 3]),  # the second class is the smallest of the large half
        ([90, 90, 2, 9], 9, [26, 26, 2, 2]),  # 27 would need 3 of the third class
        ([49, 49], 49, [49, 1]),
    ],
)
def test_a_step_leaves_half_of_the_classes_small(sizes, ratio, counts):
    assert load(InMemory(sizes), imbalance_ratio=ratio, imbalance="step").counts.tolist() == counts


def test_drawn_classes_are_the_same_counts_in_an_order_of_the_data_seed():
    orders = []
    for seed in range(4):
        counts = load(InMemory([80] * 6), imbalance_ratio=10, class_order="drawn", data_seed=seed).counts.tolist()
        assert sorted(counts, reverse=True) == profile(80, 6, 10).tolist()
        orders.append(tuple(counts))
    assert len(set(orders)) == 4
    assert load(InMemory([80] * 6), imbalance_ratio=10, class_order="drawn", seed=9).counts.tolist() == [*orders[0]]


def test_a_class_that_a_drawn_order_makes_large_has_room():
    """The largest head is that of the drawn order: no class has fewer images than it should have."""
    for seed in range(5):
        data = load(InMemory([100, 30, 20]), imbalance_ratio=4, class_order="drawn", data_seed=seed)
        assert (data.counts <= [100, 30, 20]).all()
        largest = data.counts.max()
        assert sorted(data.counts.tolist(), reverse=True) == profile(int(largest), 3, 4).tolist()


def test_a_class_keeps_its_images_whatever_the_kind_of_imbalance():
    """The smaller draw of a class is the beginning of the larger one."""
    falling, step, drawn = (
        load(InMemory([50] * 4), imbalance_ratio=10, **kind).train
        for kind in ({}, {"imbalance": "step"}, {"class_order": "drawn"})
    )
    for label in range(4):
        own = [[image.tobytes() for image in part.images[part.labels == label]] for part in (falling, step, drawn)]
        longest = max(own, key=len)
        assert all(longest[: len(one)] == one for one in own)


@pytest.mark.parametrize("setting", [{"imbalance": "step"}, {"class_order": "drawn"}])
def test_a_kind_of_imbalance_takes_a_ratio(setting):
    with pytest.raises(LtbenchError, match="used as it is") as caught:
        load(InMemory([3, 9, 1]), **setting)
    assert f"--{next(iter(setting)).replace('_', '-')}" in str(caught.value)
    assert "--imbalance-ratio" in str(caught.value)


def test_the_data_seed_chooses_images_and_the_seed_does_not():
    one, same, other = (
        load(InMemory([50, 50, 50]), imbalance_ratio=10, **seeds).fingerprint
        for seeds in ({}, {"seed": 7}, {"data_seed": 7})
    )
    assert one == same
    assert one != other


def test_a_ratio_that_empties_classes_names_them():
    source = InMemory([10, 10, 10, 10], names=["ant", "bee", "cat", "dog"])
    with pytest.raises(LtbenchError, match="ratio of 20 leaves no image for 1 of 4 classes: dog") as caught:
        load(source, imbalance_ratio=20)
    assert "the largest class has 10 images" in str(caught.value)
    with pytest.raises(LtbenchError, match="2 of 4 classes: cat, dog"):
        load(source, imbalance_ratio=500)


def test_of_many_empty_classes_the_first_eight_are_named():
    with pytest.raises(LtbenchError, match=r"13 of 20 classes: class 7, .* class 14 \.\.\.") as caught:
        load(InMemory([10] * 20), imbalance_ratio=1000)
    assert "class 15" not in str(caught.value)


@pytest.mark.parametrize("ratio", [None, 10])
def test_the_validation_part_is_a_fifth_of_each_training_class(ratio):
    source = InMemory([50, 50, 12])
    whole, data = load(source, imbalance_ratio=ratio), load(source, imbalance_ratio=ratio, validation=True)
    np.testing.assert_array_equal(data.counts, whole.counts)
    held = [max(1, round(0.2 * size)) for size in data.counts.tolist()]
    assert np.bincount(data.validation.labels, minlength=3).tolist() == held
    np.testing.assert_array_equal(data.train_counts, data.counts - held)
    assert distinct(data.train).isdisjoint(distinct(data.validation))
    assert distinct(data.train) | distinct(data.validation) == distinct(whole.train)
    assert data.fingerprints["test"] == whole.fingerprints["test"]


def test_a_class_of_one_image_is_trained_on():
    data = load(InMemory([10, 1]), validation=True)
    assert data.train_counts.tolist() == [8, 1]
    assert data.counts.tolist() == [10, 1]


def test_the_validation_draw_follows_the_data_seed():
    data, other = (load(InMemory([40, 20]), validation=True, data_seed=seed) for seed in (3, 4))
    everything = InMemory([40, 20]).load(NOWHERE, 4).train
    assert distinct(data.validation) == distinct(everything.take(hold_out(everything.labels, 3)))
    assert distinct(data.validation) != distinct(other.validation)


def test_a_data_seed_that_draws_nothing_is_no_part_of_a_run():
    for settings, kept in (({}, 0), ({"validation": True}, 3), ({"imbalance_ratio": 4.0}, 3)):
        config = RunConfig(dataset="in-memory", data_seed=3, **settings)
        data = load(InMemory([100, 30, 25]), **settings)
        assert dataset.effective(config, data).data_seed == kept


def test_the_fingerprint_names_each_part():
    data = load(InMemory([10, 10]), validation=True)
    assert set(data.fingerprints) == {"train", "validation", "test"}
    assert len(set(data.fingerprints.values())) == 3
    assert json.loads(data.fingerprint) == data.fingerprints
    assert set(load(InMemory([10, 10])).fingerprints) == {"train", "test"}


def test_statistics_are_measured_on_the_training_images():
    data = load(InMemory([30, 30]), validation=True)
    pixels = data.train.images / 255
    for channel in range(3):
        assert data.mean[channel] == pytest.approx(pixels[:, channel].mean(), abs=5.1e-5)
        assert data.std[channel] == pytest.approx(pixels[:, channel].std(), abs=5.1e-5)
    assert data.mean != load(InMemory([30, 30])).mean


def test_a_constant_channel_is_not_divided_by_zero():
    data = load(InMemory([30, 30], constant=True))
    assert (data.mean[1], data.std[1]) == (0.2, 1.0)


def test_published_statistics_are_taken_as_they_are():
    source = InMemory([30, 30])
    source.statistics = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    data = load(source)
    assert (data.mean, data.std) == source.statistics


@pytest.fixture
def image_folder(tmp_path, class_folders):
    class_folders(tmp_path / "train", {"ant": 12, "bee": 30, "cat": 8})
    class_folders(tmp_path / "test", {"ant": 2, "bee": 2, "cat": 2}, seed=1)
    return tmp_path


def test_a_folder_is_used_as_it_is(image_folder):
    data = load(Folder(), image_folder)
    assert data.counts.tolist() == [12, 30, 8]
    assert data.train.images.shape == (50, 3, 4, 4)
    assert data.classes == ("ant", "bee", "cat")


def test_a_folder_made_long_tailed_in_the_order_of_its_class_names(image_folder):
    whole, data = load(Folder(), image_folder), load(Folder(), image_folder, imbalance_ratio=6)
    assert data.counts.tolist() == [12, 4, 2]
    assert distinct(data.train) < distinct(whole.train)
    assert data.fingerprints["test"] == whole.fingerprints["test"]


def test_the_decoded_copy_gives_the_same_data_again(image_folder):
    first, second = (load(Folder(), image_folder, validation=True) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.mean == second.mean


def test_a_validation_part_that_would_be_empty_is_refused():
    with pytest.raises(LtbenchError, match="no class has two training images"):
        load(InMemory([1, 1, 1]), imbalance_ratio=None, validation=True)


class Official(InMemory):
    """A data set with a validation set of its own."""

    def load(self, folder, image_size):
        raw = super().load(folder, image_size)
        return replace(raw, validation=LabelledImages(raw.train.images[3:7] ^ 255, raw.train.labels[3:7]))


def test_an_official_validation_set_is_used_instead_of_training_images():
    data, without = load(Official([30, 6, 1]), validation=True), load(Official([30, 6, 1]))
    assert data.train_counts.tolist() == data.counts.tolist() == [30, 6, 1]
    assert len(data.validation) == 4
    assert data.fingerprints["train"] == without.fingerprints["train"]
    assert without.validation is None
    assert data_record(data).without_validation == [1, 2]  # the four images are of the first class


class OnDisk(Source):
    """Files that need not be images until they are decoded."""

    name = "on-disk"

    def load(self, folder, image_size):
        names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.jpg"))
        files = ImageFiles(folder, np.array(names), np.arange(len(names)) % 3)
        return RawData(files, files.take(np.arange(3)), ("ant", "bee", "cat"))


@pytest.fixture
def written(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02}.jpg").write_bytes(b"x" * (i + 1))
    return tmp_path


def test_files_stay_files_through_selection_and_hold_out(written):
    data = load(OnDisk(), written, imbalance_ratio=2, validation=True)
    assert data.counts.tolist() == [4, 2, 2]
    assert data.train_counts.tolist() == [3, 1, 1]
    names = [set(part.names.tolist()) for part in (data.train, data.validation)]
    assert (len(names[0]), len(names[1]), names[0] & names[1]) == (5, 3, set())
    assert data.shape == (3, 4, 4)
    loader = data.loader(data.train, torch.device("cpu"), labelled=False, workers=3)
    assert isinstance(loader, FileLoader)
    assert loader.labels.tolist() == [-1] * 5
    assert data.mean == (0.485, 0.456, 0.406)


def test_the_fingerprint_of_files_is_of_names_sizes_and_labels(written):
    first = load(OnDisk(), written).fingerprints
    (written / "01.jpg").write_bytes(b"y" * 2)  # other content of the same size, which is not read
    assert load(OnDisk(), written).fingerprints == first
    (written / "07.jpg").write_bytes(b"x")
    longer = load(OnDisk(), written).fingerprints
    assert longer["test"] == first["test"]
    assert longer["train"] != first["train"]
    (written / "07.jpg").rename(written / "70.jpg")
    assert load(OnDisk(), written).fingerprints["train"] != longer["train"]


def test_a_listed_file_that_is_gone_is_named(written):
    data = load(OnDisk(), written)
    (written / "05.jpg").unlink()
    with pytest.raises(LtbenchError, match=r"cannot be read(?s:.*)05\.jpg(?s:.*)ltbench data verify"):
        assert data.fingerprints
