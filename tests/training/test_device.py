"""The device of a run."""

import pytest
import torch

from ltbench.training.device import choose_device


@pytest.mark.parametrize(("name", "current"), [("cuda:1", [torch.device("cuda", 1)]), ("cuda", []), ("cpu", [])])
def test_a_gpu_by_its_number_becomes_the_current_one(monkeypatch, name, current):
    """A CUDA graph records what the current device does, and nothing of another one."""
    made = []
    monkeypatch.delenv("LOCAL_RANK", raising=False)  # torchrun chooses the device of each of its processes
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    assert choose_device(name) == torch.device(name)
    assert made == current
