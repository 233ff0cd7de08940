"""Data that are not there are told before anything is read."""

import numpy as np
import pytest
from PIL import Image

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.runs.data_folder import check_data_is_there, published_sizes

PHOTOS = RunConfig(dataset="folder-lt")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PHOTOS, "the data folder is not there"),
        (PHOTOS.replace(keep_classes_without_test_images=True), "the data folder is not there"),
        (RunConfig(dataset="cifar10-lt"), "cifar10-lt: no data found"),
        (RunConfig(dataset="cifar10-lt", keep_classes_without_test_images=True), "every class of cifar10-lt has test"),
        (RunConfig(dataset="places-lt"), "places-lt is incomplete"),
        (RunConfig(dataset="torchvision:Flowers102"), "Flowers102"),
    ],
)
def test_data_that_are_not_there_are_refused_as_when_they_are_read(config, message, tmp_path):
    with pytest.raises(LtbenchError, match=message) as caught:
        check_data_is_there([config, config.replace(seed=1)], tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value) or "--keep" in str(caught.value)


def test_data_that_are_there_are_not_read(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "cat" / "one.png")
    check_data_is_there([PHOTOS], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cat"]


def test_runs_on_other_data_sets_go_on(tmp_path):
    check_data_is_there([PHOTOS, RunConfig(dataset="digits-lt")], tmp_path / "nowhere")
    check_data_is_there([PHOTOS.replace(labels="labels.csv")], tmp_path / "nowhere")


def test_the_sizes_of_official_lists_need_no_folder():
    assert published_sizes(RunConfig(dataset="imagenet-lt")) is not None
    assert published_sizes(RunConfig(dataset="imagenet-lt", imbalance_ratio=10)) is None
    assert published_sizes(PHOTOS) is None
