"""Memory that tensors free is that of the next ones."""

import platform
import resource
import subprocess
import sys

import pytest
import torch

from ltbench.training.device import choose_device
from ltbench.training.memory import keep_freed_memory

GLIBC = platform.libc_ver()[0] == "glibc"
BLOCK = 64 * 2**20
PAGES = BLOCK // resource.getpagesize()


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told")
def test_tensors_reuse_the_memory_of_those_before():
    choose_device("cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(32):
        torch.ones(BLOCK, dtype=torch.uint8)
    # New memory would take 32 x PAGES; the heap has grown by up to 9 blocks until it has holes for aligned ones.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 16 * PAGES


@pytest.mark.parametrize("variable", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_settings_of_the_user_stay(monkeypatch, variable):
    monkeypatch.setenv(variable, "")
    assert not keep_freed_memory.__wrapped__()


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told")
def test_the_c_library_is_asked_once_a_process():
    program = (
        "from ltbench.training.memory import keep_freed_memory as keep; print(keep(), keep(), keep.cache_info().misses)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "True", "1"]
