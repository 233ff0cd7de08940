"""``ltbench bench``: a table of ratios; ``--compile``: said in the result."""

import json
import re

import pytest

from ltbench_speed import contests


def test_the_table_has_a_row_for_every_contest(cli, monkeypatch):
    calls = []
    pair = contests.Contest("counting", lambda: calls.append("theirs"), lambda: calls.append("ours"))
    monkeypatch.setitem(contests._MAKERS, "metrics", lambda device: iter([pair, pair]))
    done = cli("bench", "--only", "metrics", "--rounds", 3, "--device", "cpu")
    assert done.code == 0
    assert calls == ["theirs", "ours"] * 4 * 2, "once before, then three rounds taking turns"
    assert len(re.findall(r"^\| counting +\| +\d+\.\d{3} ", done.out, re.MULTILINE)) == 2
    assert "minima of 3 rounds" in done.out


def test_ratios_are_those_of_the_shortest_times():
    outcome = contests.Outcome("one", (4.0, 3.0, 9.0), (1.0, 2.0, 1.5))
    assert outcome.ratio == 3.0
    assert outcome.row == ("one", "3.000", "1.000", "3.00", "1.50 to 6.00")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["step", "metrics", "augmentation"])
def test_contests_can_be_carried_out(kind, cli, monkeypatch):
    monkeypatch.setattr(contests, "BATCH", 16)
    done = cli("bench", "--only", kind, "--rounds", 1, "--device", "cpu")
    assert done.code == 0
    assert done.out.count("\n| ") == 1 + len(list(contests._MAKERS[kind](contests.torch.device("cpu"))))


def test_an_unknown_kind_is_named(cli):
    done = cli("bench", "--only", "speed")
    assert done.code == 2
    assert "unknown benchmark 'speed'" in done.err


@pytest.mark.slow
def test_how_steps_were_carried_out_is_stored(cli, tmp_path):
    done = cli("run", "--method", "ce", "--epochs", 1, "--device", "cpu")
    assert done.code == 0
    cost = json.loads(next((tmp_path / "runs").rglob("*.json")).read_text())["cost"]
    assert (cost["training"], cost["evaluation"]) == ("eager", "batch norm folded")
