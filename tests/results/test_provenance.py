"""Where a result comes from: the commit of the checkout that has made it."""

import subprocess
from pathlib import Path

import pytest
import torch

import ltbench
from ltbench.results import provenance

ROOT = Path(ltbench.__file__).parents[1]


def test_the_commit_is_that_of_the_checkout():
    assert (ROOT / "pyproject.toml").exists(), "the tests run in a checkout"
    found = provenance.git_state()
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert found["commit"] == head.stdout.strip()
    else:
        assert found is None


def test_outside_of_a_checkout_nothing_is_known(monkeypatch, tmp_path):
    file = tmp_path / "site-packages" / "ltbench" / "results" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(file))
    assert provenance.git_state() is None
    (tmp_path / "site-packages" / ".git").mkdir(parents=True)
    assert provenance.git_state() == {"commit": None, "dirty": None}  # git says nothing of it


X86 = "model name\t: Xeon\nflags\t: fpu avx2 avx512f avx512_bf16 amx_bf16\n\nprocessor : 1\nmodel name : B"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve bf16\n"


@pytest.mark.parametrize(
    ("cpuinfo", "processor", "instruction_sets"),
    [
        (X86, "Xeon", ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]),
        (ARM, None, ["asimd", "sve", "bf16"]),
        ("model name: old\nflags: fpu sse2\n", "old", []),
        ("", None, None),
    ],
)
def test_hardware_names_the_processor_and_its_instruction_sets(monkeypatch, cpuinfo, processor, instruction_sets):
    monkeypatch.setattr(Path, "read_text", lambda path: cpuinfo)
    found = provenance.hardware(torch.device("cpu"))
    assert found["processor"] == (processor if processor is not None else provenance.platform.processor())
    assert found.get("instruction_sets") == instruction_sets


def test_outside_of_linux_no_instruction_sets_are_known(monkeypatch):
    def absent(path):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert "instruction_sets" not in provenance.hardware(torch.device("cpu"))
