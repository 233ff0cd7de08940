"""Where a result comes from: the commit of the checkout that has made it."""

import subprocess
from pathlib import Path

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
