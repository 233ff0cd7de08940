"""``--suite`` from end to end: what is left, what is missing, and that the command which fills it does."""

import re
import shlex

import pytest

SUITE = """
summary = "two methods"
dataset = "digits-lt"
backbone = "cifar_resnet8"
epochs = 1
seeds = "0-1"
method = "ce,balanced_softmax"
"""


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "two.toml").write_text(SUITE)
    return "two.toml"


def test_a_dry_run_prints_a_line_for_each_run_and_writes_nothing(cli, suite, tmp_path):
    done = cli("run", "--suite", suite, "--dry-run", "--device", "cpu")
    assert done.code == 0, done.err
    names = [line.partition(": about ")[0] for line in done.out.splitlines()]
    assert names == ["ce, seed 0", "ce, seed 1", "balanced_softmax, seed 0", "balanced_softmax, seed 1"]
    assert re.search(
        r"4 runs: 0 stored, 4 left \(digits-lt, IR 20, 1 epochs\); about .* \(4 by timed steps\)", done.err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["two.toml"]


def test_a_dry_run_says_why_times_are_not_known(cli):
    done = cli("run", "--method", "ce,crt", "--dataset", "folder-lt", "--data-dir", "nowhere", "--dry-run")
    assert (done.code, done.out.splitlines()) == (0, ["ce, seed 0: time not known", "crt, seed 0: time not known"])
    _, reason = done.err.split("how long they take is not known\n")
    assert re.fullmatch(r"time not known: the data folder is not there\n  where: .*nowhere\n  to do: .*\n", reason)


def test_a_dry_run_for_other_machines_says_that_no_steps_are_timed(cli):
    done = cli("run", "--method", "ce", "--launch", "slurm", "--dry-run")
    assert (done.code, done.out) == (0, "ce, seed 0: time not known\n")
    assert "time not known: no stored run is alike, and" in done.err


@pytest.mark.slow
def test_what_is_missing_is_said_and_filled(cli, suite, tmp_path):
    empty = cli("report", "--suite", suite)
    assert empty.code == 0, empty.err
    assert "2 of 2 settings lack 4 of 4 runs" in empty.out
    cli("run", "--suite", suite, "--method", "ce", "--seeds", "1", "--device", "cpu")
    half = cli("report", "--suite", suite)
    assert "two.toml: 2 of 2 settings lack 3 of 4 runs." in half.out
    rows = [line.split() for line in half.out.splitlines() if re.match(r" (ce|balanced_softmax) +(none|\d)", line)]
    assert rows == [["ce", "1", "0"], ["balanced_softmax", "none", "0-1"]]
    [command] = re.findall(r"^ +(ltbench run --suite .*)$", half.out, re.MULTILINE)
    filled = cli(*shlex.split(command)[1:])
    assert filled.code == 0, filled.err
    assert "1 stored, 3 left" in filled.err
    assert filled.out.count("digits-lt, seed") == 3
    assert "all 2 settings are complete" in cli("report", "--suite", suite).out
    again = cli("run", "--suite", suite)
    assert (again.code, again.out) == (0, "")
    assert "4 runs: 4 stored, none left" in again.err
    assert "none left" in cli("run", "--suite", suite, "--dry-run").err


@pytest.mark.slow
def test_a_report_of_a_suite_leaves_other_runs_out(cli, suite):
    cli("run", "--suite", suite, "--device", "cpu")
    cli("run", "--method", "balpoe", "--backbone", "cifar_resnet8", "--epochs", 1)
    assert "BalPoE" in cli("report").out
    shown = cli("report", "--suite", suite, "--format", "csv")
    assert "BalPoE" not in shown.out
    assert "all 2 settings are complete" in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--suite", "smok"), "did you mean smoke?"),
        (("report", "--suite", "smok"), "did you mean smoke?"),
        (("run", "--suite", "none.toml"), "none.toml"),
        (("run", "--suite", "smoke", "--config", "x.toml"), "give one of the two"),
        (("report", "--suite", "smoke", "--format", "csv"), "smoke: 4 of 4 settings lack 8 of 8 runs."),
    ],
)
def test_bad_suites_are_refused(cli, words, message):
    done = cli(*words)
    assert done.code == 2
    assert message in done.err


def test_suites_are_listed(cli):
    lines = cli("list", "suites").out.splitlines()
    assert len(lines) == 18
    assert re.match(r"smoke +A minute: ", lines[-1])
