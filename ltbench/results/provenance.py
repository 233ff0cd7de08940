"""Provenance of a result: versions, source, hardware, time."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""What matters most for the speed of a CPU's matrix products, by Linux's names; the last three are ARM's."""

PACKAGES = ("ltbench", "torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow")


@cache
def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that results depend on; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def git_state() -> dict[str, Any] | None:
    """The commit of ltbench's own checkout and whether it has changes; None outside of one.

    Both are None where git does not answer, e.g. since it is not installed or another user owns the checkout.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    said = _git(root, "status", "--porcelain=v2", "--branch", "--", "ltbench", "methods")
    if said is None:
        return {"commit": None, "dirty": None}
    about = dict(line[2:].split(maxsplit=1) for line in said.splitlines() if line.startswith("# "))
    commit = about.get("branch.oid")
    return {
        "commit": commit if commit != "(initial)" else None,
        "dirty": any(not line.startswith("#") for line in said.splitlines()),
    }


def software() -> dict[str, str | None]:
    """The versions that machines must share which carry out a run together."""
    found = versions()
    commit = (git_state() or {}).get("commit")
    return {"version of ltbench": found["ltbench"], "commit of ltbench": commit, "version of torch": found["torch"]}


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, its instruction sets where Linux tells them, cores, threads and accelerator.

    Virtual machines give processors of several generations one name: their instruction sets tell many of them apart.
    """
    cpu = _cpuinfo()
    found: dict[str, Any] = {
        "device": device.type,
        "machine": platform.machine(),
        "processor": cpu.get("model name") or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    if flags:
        found["instruction_sets"] = [name for name in INSTRUCTION_SETS if name in flags]
    if device.type == "cuda":
        found["accelerator"] = torch.cuda.get_device_name(device)
        found["tf32_convolutions"] = torch.backends.cudnn.allow_tf32  # torch's default where the GPU has them
    return found


def provenance(device: torch.device, started: datetime) -> dict[str, Any]:
    """The provenance of a result."""
    return {
        "versions": versions(),
        "git": git_state(),
        "system": platform.system(),
        "hardware": hardware(device),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpuinfo() -> dict[str, str]:
    """The fields of the first processor in Linux's list; empty where there is none."""
    try:
        first = Path("/proc/cpuinfo").read_text().strip().partition("\n\n")[0]
    except OSError:
        return {}
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}
