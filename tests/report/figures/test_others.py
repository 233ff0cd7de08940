"""The other figures: what is plotted, against figures worked out by hand."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from ltbench.errors import LtbenchError
from ltbench.report.figures import cost, draw
from ltbench.report.figures.labels import label_points
from ltbench.report.figures.material import Material
from ltbench.report.figures.tuning import Search, importance, searches
from ltbench.report.pareto import pareto
from ltbench.results.records import CurvePoint, ShiftTable

pytestmark = pytest.mark.slow

ROOT2 = math.sqrt(2)


def table(**top1):
    """Of three distributions; by prior their accuracies, and ten points less as ECE."""
    rows = [(prior, *row) for prior, row in top1.items()]
    names = ("forward-50", "uniform", "backward-50")
    cells = [(prior, name, value) for prior, *values in rows for name, value in zip(names, values, strict=True)]
    priors, distributions, values = (list(column) for column in zip(*cells, strict=True))
    counted = {"images": [9] * len(values), "classes": [2] * len(values)}
    measured = {"top1": values, "macro": values, "ece": [value - 10 for value in values], "mce": values, "nll": values}
    unknown = dict.fromkeys(("prior_error", "many", "medium", "few"), [None] * len(values))
    return ShiftTable(distribution=distributions, prior=priors, **counted, **measured, **unknown)


def test_shift_has_a_column_for_each_prior(run, material, bars_of):
    full = [table(unknown=[90, 80, 70], known=[95, 80, 75]), table(unknown=[92, 82, 74], known=[95, 80, 75])]
    made = material(
        *(run("a", seed, shift=one, top1=80.0) for seed, one in enumerate(full)),
        run("b", shift=table(unknown=[60, 50, 40]), top1=50.0),
        run("older"),
    )
    figure = draw("shift", made)
    unknown, known, estimated = (bars_of(axes) for axes in figure.axes[:3])
    assert unknown["a"][:2] == ([0, 1, 2], [91, 81, 72])
    assert unknown["a"][2] == pytest.approx([ROOT2, ROOT2, 2 * ROOT2])
    assert unknown["b"][1] == [60, 50, 40]
    assert {label: y for label, (_, y, _) in known.items()} == {"a": [95, 80, 75]}
    assert estimated == {}
    assert bars_of(figure.axes[3])["a"][1] == [81, 71, 62]
    assert [tick.get_text() for tick in figure.axes[3].get_xticklabels()] == ["50", "1", "50"]


def test_a_pareto_front_by_hand():
    # 2 costs as much as 0 and is better; 3 costs more and is worse; 4 costs most and is best.
    assert pareto([1, 2, 1, 3, 4], [50, 60, 55, 58, 61]) == [2, 1, 4]
    assert pareto([1, 1], [50, 50]) == [0]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_nobody_beats_who_is_on_a_front_and_somebody_who_is_not(points):
    front = pareto(*map(list, zip(*points, strict=True)))
    for place, (price, accuracy) in enumerate(points):
        better = [one for one in points if one[0] <= price and one[1] >= accuracy and one != (price, accuracy)]
        twin = points.index((price, accuracy)) != place
        assert (place in front) == (not better and not twin)


def test_cost_is_relative_to_the_cheapest(run, material):
    def costing(name, top1, seconds, work):
        return run(name, top1=top1, cost={"training_seconds": seconds, "multiply_adds": work})

    figure = draw(
        "cost",
        material(
            costing("a", 90.0, 40.0, 6_000_000),
            costing("b", 70.0, 10.0, 3_000_000),
            costing("c", 60.0, 20.0, 3_000_000),
        ),
    )
    time, work = figure.axes
    fronts = [
        next(line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "D") for axes in (time, work)
    ]
    assert fronts == [[[1, 70], [4, 90]], [[3, 70], [6, 90]]]
    others = [line.get_xydata().tolist() for line in time.lines if line.get_marker() == "o"]
    assert others == [[], [[2, 60]]]
    assert {text.get_text() for text in time.texts} == {"a", "b", "c"}


def test_training_times_are_of_equal_hardware(run, material):
    def costing(name, top1, seconds, machine):
        made = run(name, top1=top1, cost={"training_seconds": seconds, "multiply_adds": 3_000_000})
        return made.model_copy(update={"provenance": {"hardware": {"processor": machine}}})

    made = material(
        costing("a", 90.0, 40.0, "AMD"), costing("b", 70.0, 20.0, "AMD"), costing("c", 80.0, 1.0, "Intel"),
    )  # fmt: skip
    time, work = draw("cost", made).axes
    fronts = [line.get_xydata().tolist() for line in time.lines if line.get_marker() == "D"]
    assert fronts == [[[1, 70], [2, 90]]]
    assert {text.get_text() for text in time.texts} == {"a", "b"}
    assert {text.get_text() for text in work.texts} == {"a", "b", "c"}


def test_the_front_is_of_accuracies_on_the_seeds_of_the_table(run, material):
    # b has a mean of 85 thanks to an easy seed of its own, and lacks seed 1: it is 5 behind a on seed 0.
    def costing(name, seed, top1, seconds):
        return run(name, seed, top1=top1, cost={"training_seconds": seconds, "multiply_adds": 1_000_000})

    made = material(
        *(costing("a", seed, 80.0, 40.0) for seed in (0, 1)),
        *(costing("c", seed, 60.0, 10.0) for seed in (0, 1)),
        costing("b", 0, 75.0, 20.0), costing("b", 2, 95.0, 20.0),
    )  # fmt: skip
    time, _ = draw("cost", made).axes
    assert {text.get_text() for text in time.texts} == {"a", "c", "b †"}
    points = {line.get_marker(): line.get_xydata().tolist() for line in time.lines if len(line.get_xydata())}
    assert points["D"] == [[1, 60], [4, 80]]
    assert points["o"] == [[2, 75]]


def test_the_line_of_a_front():
    x, y = cost.steps(np.array([1.0, 100.0]), np.array([50.0, 60.0]), points=3)
    assert list(zip(x, y, strict=True)) == [(1, 50), (10, 50), (100, 50), (100, 50), (100, 55), (100, 60)]
    assert cost.steps(np.array([1.0]), np.array([50.0]))[0].size == 0


def test_cost_names_the_front_and_few_others(run, material):
    # The dearer the better: a front of three; below it nine, of which those of even steps are named.
    def costing(name, top1, seconds):
        return run(name, top1=top1, cost={"training_seconds": seconds, "multiply_adds": 1_000_000})

    front = [costing(f"front{place}", 90.0 + place, 10.0 + place) for place in range(3)]
    time, work = draw("cost", material(*front, *(costing(f"m{place}", 80.0 - place, 20.0) for place in range(9)))).axes
    # Twelve rows, best first: places 0, 3, 6, 8, 11 of np.linspace(0, 11, 5), rounded to even.
    named = {"front0", "front1", "front2", "m0", "m3", "m5", "m8"}
    assert {text.get_text() for text in time.texts} == named
    assert {text.get_text() for text in work.texts} == named - {"front0", "front1"}


def test_labels_of_points_do_not_cover_each_other_and_stay_within():
    figure = Figure(figsize=(3.3, 3), dpi=100)
    axes = figure.subplots()
    y = [70.0 + 0.1 * place for place in range(12)]
    axes.plot([1.0] * 12, y, "o")
    figure.draw_without_rendering()
    label_points(axes, [1.0] * 12, y, {place: f"method {place}" for place in range(12)})
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 12
    assert sum(one.overlaps(other) for one in boxes for other in boxes) == 12  # each with itself
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 + 1 for box in boxes)


def test_training_curves_are_means_over_seeds(run, material):
    def curve(*losses):
        stages = ["one"] * (len(losses) - 1) + ["two"]
        return [CurvePoint(stage=stage, epoch=0, lr=0.1, loss=loss) for stage, loss in zip(stages, losses, strict=True)]

    made = material(run("a", 0, curve=curve(4.0, 2.0, 1.0)), run("a", 1, curve=curve(6.0, 2.0, 3.0)), run("posthoc"))
    upper, lower = draw("training", made).axes
    (line,) = upper.lines
    assert line.get_xydata().tolist() == [[1, 5], [2, 2], [3, 2]]
    assert lower.lines[0].get_ydata() == pytest.approx([0.1] * 3)
    assert upper.get_yscale() == "log"
    assert upper.get_title() == "a"
    band = upper.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(2 - ROOT2), pytest.approx(5 + ROOT2))


def test_a_loss_below_zero_can_be_seen(run, material):
    curve = [CurvePoint(stage="one", epoch=epoch, lr=0.1, loss=loss) for epoch, loss in enumerate((90.0, -0.5))]
    upper, _ = draw("training", material(run(curve=curve))).axes
    low, high = upper.get_ylim()
    assert low < -0.5
    assert high > 90
    to_screen = upper.transScale.transform
    assert to_screen((0, 0))[1] - to_screen((0, -0.5))[1] > 0.1 * (to_screen((0, high))[1] - to_screen((0, low))[1])


SPACE = {"mixup": {"low": 0.0, "high": 1.0, "log": False}, "experts": {"options": [2, 3]}}
HISTORY = [
    {"number": place, "params": {"mixup": place / 12, "experts": 2 + place % 2}, "macro": value, "ece": 3.0}
    for place, value in enumerate([70.0, 60.0, 71.0, 62.0, 72.0, 61.0, 73.0, 62.5, 73.5, 61.5, 74.0, 63.0])
]
FAILED = {"number": 12, "params": {"mixup": 1.0, "experts": 2}, "reason": "the loss is nan"}
TUNING = {"trials": 13, "space": SPACE, "history": [*HISTORY, FAILED]}


def test_tuning_shows_trials_and_the_best_so_far(run, material):
    figure = draw("tuning", material(run("product", tuning=TUNING)))
    left, right = figure.axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in left.lines}
    assert [y for _, y in lines["trial"]] == [trial["macro"] for trial in HISTORY]
    assert [y for _, y in lines["best so far"]] == [70, 70, 71, 71, 72, 72, 73, 73, 73.5, 73.5, 74, 74]
    assert [x for x, _ in lines["failed"]] == [13]  # counted from 1
    (legend,) = figure.legends
    told = "product on digits-lt · standard recipe, 200 epochs · n = 13 trials, 1 failed"
    assert legend.get_title().get_text() == told
    widths = [bar.get_width() for bar in right.patches]
    assert sum(widths) == pytest.approx(100)
    assert [tick.get_text() for tick in right.get_yticklabels()] == ["experts", "mixup"]  # two levels, ten points apart


def test_a_slice_shows_each_hyperparameter_on_its_own_scale(run, material):
    space = {"rate": {"low": 1e-3, "high": 1.0, "log": True}, "experts": {"options": [2, 3]}}
    history = [
        {**one, "params": {"rate": 10.0 ** (-one["number"] / 4), "experts": 2 + one["number"] % 2}} for one in HISTORY
    ]
    pruned = {"number": 12, "params": {"rate": 1.0, "experts": 2}, "pruned_after": 7, "last_macro": 99.0}
    figure = draw(
        "tuning-slice", material(run("product", tuning={"trials": 13, "space": space, "history": [*history, pruned]}))
    )
    left, right = (axes for axes in figure.axes if axes.get_visible())
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["2", "3"]
    expected = [[trial["params"]["experts"] - 2, trial["macro"]] for trial in history]
    assert right.collections[0].get_offsets().tolist() == expected
    assert figure.get_suptitle().endswith("n = 13 trials, 1 pruned · darker: later trials")


def test_tuning_tells_pruned_trials_from_failed_ones_and_has_another_objective(run, material):
    pruned = {"number": 13, "params": {"mixup": 1.0, "experts": 2}, "pruned_after": 7, "last_ece": 1.0}
    history = [{**one, "ece": 100 - one["macro"]} for one in HISTORY]
    tuning = {"trials": 14, "space": SPACE, "objectives": ["ece"], "history": [*history, FAILED, pruned]}
    axes = draw("tuning", material(run("product", tuning=tuning))).axes[0]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert [y for _, y in lines["best so far"]] == [30, 30, 29, 29, 28, 28, 27, 27, 26.5, 26.5, 26, 26]
    assert ([x for x, _ in lines["failed"]], [x for x, _ in lines["pruned"]]) == ([13], [14])
    assert axes.get_ylabel() == "ECE on validation (%)"


def test_the_pareto_front_is_drawn_with_the_numbers_of_its_files(run, material):
    history = [
        {"number": number, "params": {"mixup": 0.1, "experts": 2}, "macro": macro, "ece": ece}
        for number, (macro, ece) in enumerate([(80.0, 2.0), (85.0, 3.0), (84.0, 5.0), (90.0, 9.0)])
    ]
    tuning = {"trials": 4, "space": SPACE, "objectives": ["macro", "ece"], "front": [3, 1, 0], "history": history}
    [axes] = draw("pareto-front", material(run("product", tuning=tuning))).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["trial"] == [[84, 5]]
    assert lines["Pareto front"] == [[80, 2], [85, 3], [90, 9]]
    assert {text.get_text() for text in axes.texts} == {"1", "2", "4"}
    lacking = [{name: value for name, value in one.items() if name != "ece"} for one in history]
    with pytest.raises(LtbenchError, match="has its ece on record"):
        draw("pareto-front", material(run("product", tuning={**tuning, "history": lacking})))
    with pytest.raises(LtbenchError, match="no search with several objectives"):
        draw("pareto-front", material(run("product", tuning=TUNING)))


def test_importance_is_the_same_each_time_and_needs_outcomes_that_differ():
    search = Search("one", "", SPACE, HISTORY)
    assert importance(search) == importance(search)
    assert importance(Search("flat", "", SPACE, [{**trial, "macro": 50.0} for trial in HISTORY])) == {}
    assert importance(Search("short", "", SPACE, HISTORY[:1])) == {}
    same = [{**HISTORY[0], "number": number, "macro": 50.0 + number} for number in range(3)]
    assert importance(Search("equal parameters", "", SPACE, same)) == {}


def test_a_search_is_read_from_its_folder(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "best.toml").write_text("""
        method = "product"
        dataset = "digits-lt"
        [tuning.space.mixup]
        low = 0.0
        high = 1.0
        log = false
        [[tuning.history]]
        number = 0
        macro = 50.0
        ece = 3.0
        params = { mixup = 0.5 }
    """)
    (tmp_path / "old.toml").write_text("")
    (found,) = searches(Material(None, [], folders=[tmp_path]))
    assert (found.name, found.done[0]["macro"]) == ("product on digits-lt", 50.0)


def test_a_best_toml_without_its_trials_is_no_search(tmp_path):
    (tmp_path / "best.toml").write_text("method = 'ce'\n[tuning]\ntrials = 20\n")
    with pytest.raises(LtbenchError, match="no search for hyper-parameters with its trials on record") as caught:
        draw("tuning", Material(None, [], folders=[tmp_path]))
    assert "to do: ltbench tune" in str(caught.value)


def test_ranks_with_bars_as_wide_as_the_critical_difference(run, material):
    # The same order on both seeds: ranks 1, 2, 3. Nemenyi at 5 % for three: 2.343 sqrt(3 * 4 / (6 * 2)) = 2.343.
    runs = [run(name, seed, top1=top1) for name, top1 in (("a", 90.0), ("b", 80.0), ("c", 70.0)) for seed in range(2)]
    made = material(*runs)
    assert made.leaderboard.critical_difference == pytest.approx(2.343, abs=2e-3)
    (axes,) = draw("critical-difference", made).axes
    bars = [one.lines for one in axes.containers]
    assert [line.get_xdata().tolist() for line, _, _ in bars] == [[1, 2, 3], []]  # none is apart from the best
    ends = [(low, high) for (low, _), (high, _) in bars[0][2][0].get_segments()]
    # Half of it to each side, but none beyond ranks 1 and 3.
    assert ends == [(1, pytest.approx(2.1715, abs=1e-3)), (1, 3), (pytest.approx(1.8285, abs=1e-3), 3)]
    assert list(axes.get_xticks()) == [1, 2, 3]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a   1.0", "b   2.0", "c   3.0"]


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("shift", "no figures under label shift"),
        ("training", "no stored run has a training curve"),
        ("critical-difference", "average ranks need several settings"),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_makes_it(run, material, name, lacks):
    with pytest.raises(LtbenchError, match=lacks) as caught:
        draw(name, material(run()))
    assert re.search(r"to do: ltbench (run|evaluate)", str(caught.value))
