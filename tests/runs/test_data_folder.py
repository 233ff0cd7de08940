"""Data that are not there are told before anything is read."""

import numpy as np
import pytest
from PIL import Image

from ltbench.cli import options
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.runs.data_folder import check_data_is_there, published_sizes
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run

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
    with pytest.raises(LtbenchError) as read:
        run(config, RunOptions(data_dir=tmp_path / "nowhere", out=tmp_path, device="cpu"))
    assert str(caught.value) == str(read.value)


def test_data_that_are_there_are_not_read(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "cat" / "one.png")
    check_data_is_there([PHOTOS], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cat"]


@pytest.mark.parametrize(
    "configs",
    [
        [PHOTOS, RunConfig(dataset="digits-lt")],
        [PHOTOS.replace(labels="labels.csv")],
        [PHOTOS.replace(image_size=64), PHOTOS],  # each with a reason of its own
        [RunConfig(dataset="cifar10-lt", keep_classes_without_test_images=True), RunConfig(dataset="cifar10-lt")],
    ],
)
def test_runs_that_read_data_in_several_ways_are_left_to_themselves(configs, tmp_path):
    check_data_is_there(configs, tmp_path / "nowhere")


def test_a_process_of_several_tells_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    options.check_data_is_there([PHOTOS], tmp_path / "nowhere")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(LtbenchError, match="the data folder is not there"):
        options.check_data_is_there([PHOTOS], tmp_path / "nowhere")


def test_the_sizes_of_official_lists_need_no_folder():
    assert published_sizes(RunConfig(dataset="imagenet-lt")) is not None
    assert published_sizes(RunConfig(dataset="imagenet-lt", imbalance_ratio=10)) is None
    assert published_sizes(PHOTOS) is None
