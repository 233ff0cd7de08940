"""Material for figures, made by hand."""

import math

import numpy as np
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from ltbench.report.collection import Collection
from ltbench.report.figures.material import gather
from ltbench.report.leaderboard import largest, leaderboards


@pytest.fixture
def run(make_result):
    """A run of two classes, 20 and 1 training images; ``test`` replaces figures on the test set, the rest fields."""

    def make(method="ce", seed=0, hyperparameters=None, test=None, **rest):
        fields = {name: rest.pop(name) for name in ("data", "shift", "curve") if name in rest}
        settings = {"hyperparameters": hyperparameters} if hyperparameters else {}
        result = make_result(method, seed, settings=settings, **rest)
        metrics = result.test.model_copy(update=test or {})
        data = result.data.model_copy(update=fields.pop("data", {}))
        return result.model_copy(update={"metrics": {"test": metrics}, "data": data, **fields})

    return make


@pytest.fixture
def material(tmp_path):
    """The material of the largest leaderboard of some runs."""

    def make(*results, **options):
        stored = Collection(
            {one.run_id: one for one in results}, {one.run_id: tmp_path / f"{one.run_id}.json" for one in results}
        )
        return gather(stored, largest(leaderboards(stored)), **options)

    return make


@pytest.fixture
def bars_of():
    """The error bars of axes, by label: x, y and half the length of each bar, NaN for none."""

    def read(axes):
        found = {}
        for one in axes.containers:
            if isinstance(one, ErrorbarContainer):
                line, _, (bars,) = one.lines
                halves = [np.ptp(ends[:, 1]) / 2 if len(ends) else math.nan for ends in bars.get_segments()]
                found[one.get_label()] = (list(line.get_xdata()), list(line.get_ydata()), halves)
        return found

    return read


@pytest.fixture
def heights_of():
    """The bars of axes, by label: (bottom, height) of each."""

    def read(axes):
        found = [one for one in axes.containers if isinstance(one, BarContainer)]
        return {one.get_label(): [(bar.get_y(), bar.get_height()) for bar in one] for one in found}

    return read
