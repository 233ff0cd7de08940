"""Tables of predictions that are too large for memory."""

import os

import pytest
import torch

from ltbench.errors import LtbenchError
from ltbench.evaluation.measure import measure, of_images
from ltbench.evaluation.predict import Predictions
from ltbench.files import memmap as rooms
from ltbench.files.memmap import empty_or_memmap


@pytest.fixture
def in_files(tmp_path, monkeypatch):
    """Every table lies in a file."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(rooms, "IN_MEMORY", 0)
    return tmp_path


def test_a_large_table_lies_in_a_file_that_nobody_sees(in_files):
    table = empty_or_memmap((3, 5), torch.float64)
    assert table.shape == (3, 5)
    assert table.dtype == torch.float64
    table[1] = torch.arange(5.0)
    assert table.sum() == 10
    assert not list(in_files.iterdir())


def test_a_full_disk_is_told_before_anything_is_written(in_files, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(LtbenchError, match=r"no room for 0\.4 GB of predictions: No space left on device"):
        empty_or_memmap((10_000, 10_000))


def test_figures_do_not_depend_on_where_the_tables_lie(stored_run, tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    experts = torch.randn(3, 400, 7, generator=generator)
    labels = torch.randint(0, 7, (400,), generator=generator)
    counts = [500, 200, 100, 50, 20, 10, 5]
    data = stored_run(experts.mean(0), labels, counts).result.data
    path = tmp_path / "test.npz"
    Predictions(experts.mean(0), experts, labels).save(path, run_id="1")

    def figures():
        found = Predictions.load(path)
        assert found.about == {"run_id": "1"}
        assert torch.equal(found.experts, experts)
        about = of_images(found, data, logit_prior=0.5, transductive=False)
        return measure(found.logits, found.labels, found.experts, data.groups, 1.3), about["shift"]

    expected = figures()
    monkeypatch.setattr(rooms, "IN_MEMORY", 0)
    assert figures() == expected
