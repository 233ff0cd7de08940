"""ltbench's own times, for comparing two versions of it on one machine.

    pytest benchmarks/speed --benchmark-autosave
    pytest benchmarks/speed --benchmark-compare

The ratios to the reference loop come from ``ltbench bench``, where both sides take turns.
"""

import subprocess
import sys

import pytest
import torch

from ltbench.report.collection import collect
from ltbench.report.leaderboard import leaderboards
from ltbench_speed.contests import augmentation, epochs, evaluation, metrics, steps
from ltbench_speed.growth import store_results

CPU = torch.device("cpu")
SHORT = {
    "step": steps(CPU),
    "epoch": epochs(CPU, count=512),
    "evaluation": evaluation(CPU, count=512),
    "augmentation": augmentation(CPU),
    "metrics": metrics(CPU),
}
CONTESTS = [pytest.param(contest, id=contest.name) for kind in SHORT.values() for contest in kind]


@pytest.mark.parametrize("contest", CONTESTS)
def test_ours(benchmark, contest):
    benchmark.pedantic(contest.ours, rounds=5, warmup_rounds=1)


def test_report_over_10_000_results(benchmark, tmp_path):
    store_results(tmp_path, 10_000)
    boards = benchmark.pedantic(lambda: leaderboards(collect([tmp_path])), rounds=2)
    assert sum(len(board.rows) for board in boards) == 10


@pytest.mark.parametrize("words", [["--help"], ["list", "methods"], ["report", "--help"]], ids=" ".join)
def test_start_up(benchmark, words):
    command = [sys.executable, "-m", "ltbench", *words]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=5, warmup_rounds=1)
