"""Trained runs on digits, made once: a single network, several experts, and a head of its own."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ltbench.config import RunConfig
from ltbench.data.datasets.digits import Digits
from ltbench.results.store import Store
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run


@pytest.fixture(scope="session")
def _trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    options, results = RunOptions(out=folder / "runs", device="cpu"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTBENCH_CACHE", str(folder / "cache"))
        for method, settings in {"ce": {}, "balpoe": {"experts": 2}, "tau_norm": {"tau": 0.5}}.items():
            results[method] = run(
                RunConfig(method=method, backbone="cifar_resnet8", hyperparameters=settings, epochs=1), options
            )
    return SimpleNamespace(results=results, store=Store(folder / "runs"), cache=folder / "cache")


@pytest.fixture
def trained(_trained, monkeypatch):
    """``trained(method)``: its result, file, folder of results, and the logits (N, C) of the test images."""
    monkeypatch.setenv("LTBENCH_CACHE", str(_trained.cache))

    def one(method):
        result = _trained.results[method]
        with np.load(_trained.cache / "runs" / result.run_id / "test.npz") as archive:
            logits = archive["logits"]
        path = _trained.store.path(result.config, result.run_id)
        return SimpleNamespace(result=result, path=path, folder=_trained.store.folder, logits=torch.from_numpy(logits))

    return one


@pytest.fixture
def older(trained, tmp_path):
    """A result file as it was before results had the images' mean and deviation, with some data changed."""

    def write(method, **changes):
        content = json.loads(trained(method).path.read_text())
        del content["data"]["mean"], content["data"]["std"]
        content["data"].update(changes)
        path = tmp_path / f"{content['run_id']}.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture(scope="session")
def test_digits():
    """(400, 1, 8, 8) uint8, in the order of the test set."""
    return Digits().load(None, 8).test.images


@pytest.fixture
def write_pixels():
    """Write an image file from pixels (H, W) or (H, W, 3); missing folders are made."""

    def write(path, pixels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
        return path

    return write
