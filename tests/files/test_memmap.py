"""Tables of predictions that are too large for memory."""

import os

import pytest
import torch

from ltbench.errors import LtbenchError
from ltbench.files import memmap
from ltbench.files.memmap import empty_or_memmap


@pytest.fixture
def in_files(tmp_path, monkeypatch):
    """Every table lies in a file."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(memmap, "IN_MEMORY", 0)
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
