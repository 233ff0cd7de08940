"""The five figures of the poster: what is plotted, against figures worked out by hand."""

import math

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from ltbench.errors import LtbenchError
from ltbench.report.figures import draw, experts, mixup
from ltbench.results.records import BinTable

pytestmark = pytest.mark.slow

ROOT2 = math.sqrt(2)


def lines(axes):
    """The consistency bars: lower and upper end of each."""
    (bars,) = (one for one in axes.collections if isinstance(one, LineCollection))
    return [tuple(segment[:, 1].tolist()) for segment in bars.get_segments()]


def test_reliability_pools_the_images_of_all_seeds(run, material, heights_of):
    # First bin: 1 of 2 right at .4 and 0 of 6 at .2: 1/8 = 12.5 %, confidence (.8 + 1.2) / 8 = 25 %. Second: 2 images.
    first = BinTable(count=[2, 2], confidence=[0.4, 0.9], accuracy=[0.5, 1.0])
    second = BinTable(count=[6, 0], confidence=[0.2, 0.0], accuracy=[0.0, 0.0])
    figure = draw(
        "reliability",
        material(
            run(seed=0, test={"bins": first}, ece=4.0, mce=9.0), run(seed=1, test={"bins": second}, ece=6.0, mce=9.0)
        ),
    )
    upper, lower = figure.axes
    bars = heights_of(upper)
    assert bars["accuracy"] == [(0, pytest.approx(12.5)), (0, pytest.approx(100))]
    assert bars["gap to confidence"] == [
        (pytest.approx(12.5), pytest.approx(12.5)),
        (pytest.approx(100), pytest.approx(-10)),
    ]
    assert [height for _, height in next(iter(heights_of(lower).values()))] == [80, 20]
    # E|X - n p| of 2 images at .4: 2 (.6) 1 (.48) = .576, of 2 at .9: .324; of 6 at .2: 2 (.8) 2 (.24576) = .786432.
    # Floors (.576 + .324) / 4 = 22.5 % and .786432 / 6 = 13.1 %: mean 17.8. Deviations of the ECE 1, 1: sqrt(2 / 1)
    *ece, mce = upper.get_title().splitlines()
    assert ece == ["Cross Entropy", "ECE 5.0 ± 1.4 (floor 17.8)"]
    # The larger gap of the first seed's two bins: .01 (.9) + .1584 (.6) + .4428 (.4) + .3888 (.1) = 32.0 %; 13.1.
    assert mce.startswith("MCE 9.0 ± 0.0 (floor ")
    assert float(mce.split()[-1].rstrip(")")) == pytest.approx(22.6, abs=1)  # by draws
    # (2 + 6) / 2 = 4 images at .25, of which 0 to 3 are right in 95 of 100 cases; 1 image at .9: none or all
    assert lines(upper) == [(0, 75), (0, 100)]
    assert "images of all seeds pooled" in figure.get_supxlabel()
    assert figure.legends[0].get_title().get_text().endswith("n = 2 seeds × 4 images")
    # 4 images a seed: sqrt(4) / 5; one image: sqrt(1) / 5
    assert [bar.get_alpha() for bar in upper.containers[0]] == pytest.approx([0.4, 0.2])


def test_reliability_of_one_seed_has_no_spread_and_an_empty_bin_no_bar(run, material, heights_of):
    bins = BinTable(count=[0, 4], confidence=[0.0, 0.75], accuracy=[0.0, 0.5])
    figure = draw("reliability", material(run(test={"bins": bins}, ece=25.0, mce=25.0)))
    # 4 images at .75: 2 (.25) 4 (.316) / 4 = 15.8 %
    *ece, mce = figure.axes[0].get_title().splitlines()
    assert ece == ["Cross Entropy", "ECE 25.0 (floor 15.8)"]
    assert float(mce.removeprefix("MCE 25.0 (floor ").rstrip(")")) == pytest.approx(15.8, abs=1.5)  # by draws
    assert "pooled" not in figure.get_supxlabel()
    empty, full = heights_of(figure.axes[0])["accuracy"]
    assert math.isnan(empty[1])
    assert full == (0, 50)


@pytest.mark.slow
def test_reliability_of_five_methods_keeps_titles_apart(run, material):
    figure = draw("reliability", material(*(run(f"m{place}", seed) for place in range(5) for seed in (0, 1))))
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes[:5]]
    assert sum(one.overlaps(other) for one in boxes for other in boxes) == 5  # each with itself


def test_class_rank_sorts_classes_by_training_images(run, material, bars_of):
    data = {"counts": [5, 150, 50], "groups": {"many": [1], "medium": [2], "few": [0]}}
    tests = [{"correct": [1, 4, 3], "total": [4, 4, 4]}, {"correct": [3, 4, 3], "total": [4, 4, 4]}]
    figure = draw("class-rank", material(*(run(seed=seed, test=test, data=data) for seed, test in enumerate(tests))))
    # class 1 first (100, 100), then 2 (75, 75), then 0 (25, 75: mean 50, deviation sqrt(2 * 625))
    x, y, sd = bars_of(figure.axes[0])["Cross Entropy"]
    assert (x, y) == ([1, 2, 3], [100, 75, 50])
    assert sd == pytest.approx([0, 0, 25 * ROOT2])
    places = {text.get_text(): text.get_position()[0] for text in figure.axes[0].texts}
    assert places == {"many": 1, "medium": 2, "few": 3}


@pytest.mark.slow
def test_class_rank_with_many_classes_averages_neighbours_and_leaves_out_empty_ones(run, material, bars_of):
    # 40 classes: pairs. A class without test images counts in no mean.
    correct, total = [1, 0] * 20, [1, 1] * 20
    correct[2], total[2], total[4], total[5], correct[4] = 0, 0, 0, 0, 0
    data = {"counts": list(range(140, 100, -1)), "groups": {"many": list(range(40)), "medium": [], "few": []}}
    figure = draw("class-rank", material(run(test={"correct": correct, "total": total}, data=data)))
    x, y, _ = bars_of(figure.axes[0])["Cross Entropy"]
    assert x == [1.5 + 2 * place for place in range(20)]
    assert y[:2] == [50, 0]
    assert math.isnan(y[2])
    assert set(y[3:]) == {50}
    assert "means of 2 classes" in figure.axes[0].get_xlabel()
    assert [text.get_text() for text in figure.axes[0].texts] == ["many"]


def ensemble(run, taus, **options):
    values = {"taus": taus, "width": 1.0, **options.pop("more", {})}
    test = {"expert_mean_probability": [[0.5, 0.5]] * len(taus)}
    return run("product", hyperparameters=values, test=test, **options)


def test_experts(run, material, bars_of):
    runs = [
        ensemble(run, [1.0], top1=50.0, ece=9.0),
        ensemble(run, [0.0, 2.0], top1=60.0, ece=4.0),
        ensemble(run, [0.0, 2.0], seed=1, top1=62.0, ece=6.0),
        ensemble(run, [0.0, 1.0, 2.0], top1=64.0, ece=3.0),
        ensemble(run, [0.5, 1.5], top1=99.0),  # spread differently
        ensemble(run, [0.0, 2.0], top1=99.0, more={"width": 0.75}),
    ]
    figure = draw("experts", material(*runs))
    x, y, sd = bars_of(figure.axes[0])["product"]
    assert (x, y) == ([1, 2, 3], [50, 61, 64])
    assert sd[1] == pytest.approx(ROOT2)
    assert bars_of(figure.axes[1])["product"][1] == [9, 5, 3]


def test_other_methods_stand_beside_the_line_of_the_experts(run, material, bars_of):
    def with_experts(method, number, **options):
        return run(method, test={"expert_mean_probability": [[0.5, 0.5]] * number}, **options)

    line = [ensemble(run, [1.0], top1=50.0), ensemble(run, [0.0, 2.0], top1=60.0)]
    others = [with_experts(name, 3, top1=40.0) for name in ("ride", "sade", "mdcs")] + [run("ce")]
    figure = draw("experts", material(*line, *others))
    found = bars_of(figure.axes[0])
    assert list(found) == ["product", "RIDE", "SADE"]  # MDCS is none of the usual ones, and ce has one network
    assert [found[name][0] for name in ("RIDE", "SADE")] == [[pytest.approx(2.94)], [pytest.approx(3.06)]]
    asked = draw("experts", material(*line, *others, asked=True))
    assert list(bars_of(asked.axes[0])) == ["product", "MDCS", "RIDE", "SADE"]


def test_experts_that_are_a_number(run, material):
    def branched(experts, width=1):
        test = {"expert_mean_probability": [[0.5, 0.5]] * experts}
        return run(
            "branched",
            test=test,
            hyperparameters={"branches": experts, "width": width, "depth": 2},
            top1=70.0 + experts,
        )

    made = material(branched(3), branched(2), branched(1), run("ce"))
    ((one, two, three),) = experts.families(made.settings)
    assert [one.experts, two.experts, three.experts] == [1, 2, 3]
    assert not experts.families(material(branched(2), branched(3, width=0.5)).settings)


def test_kl_divergence_by_hand():
    # .5 log(.5 / .25) + .5 log(.5 / .75) = .5 log 2 + .5 log(2 / 3) = .5 log(4 / 3)
    assert mixup.kl_divergence(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.5 * math.log(4 / 3))
    assert mixup.kl_divergence(np.array([1.0, 0.0]), np.array([0.25, 0.75])) == pytest.approx(math.log(4))
    assert mixup.kl_divergence(np.array([0.3, 0.7]), np.array([0.3, 0.7])) == 0


@pytest.mark.parametrize(
    ("tau", "expected"), [(0.0, [0.8, 0.2]), (1.0, [0.5, 0.5]), (2.0, [0.2, 0.8]), (0.5, [2 / 3, 1 / 3])]
)
def test_targets(tau, expected):
    # sqrt(.8) : sqrt(.2) is 2 : 1; 1 / .8 : 1 / .2 is 1 : 4
    assert list(mixup.target(np.array([0.8, 0.2]), tau)) == pytest.approx(expected)


def test_mixup(run, material, bars_of):
    def at(alpha, seed, first, second, combined):
        test = {"expert_mean_probability": [first, second], "mean_probability": combined}
        values = {"taus": [0.0, 2.0], "mixup": alpha}
        return run("product", seed, hyperparameters=values, test=test, data={"trained_on": [12, 4]})

    # The prior is (.75, .25), its inverse (.25, .75). The divergence of (.5, .5) to either is .5 log(4 / 3).
    half = 0.5 * math.log(4 / 3)
    exact = at(0.4, 0, [0.75, 0.25], [0.25, 0.75], [0.5, 0.5])
    sweep = [at(0.0, 0, [0.5, 0.5], [0.25, 0.75], [1.0, 0.0]), at(0.0, 1, [0.75, 0.25], [0.25, 0.75], [1.0, 0.0])]
    (axes,) = draw("mixup", material(exact, *sweep, run("ce"))).axes
    lines = bars_of(axes)
    assert list(lines) == ["expert to LT prior", "expert to inverse LT", "ensemble to uniform"]
    assert {tuple(x) for x, _, _ in lines.values()} == {(0.0, 0.4)}
    assert lines["expert to LT prior"][1] == pytest.approx([half / 2, 0])
    # The deviation of (half, 0) is half / sqrt(2), more than the mean: below, the bar ends at 0.
    assert lines["expert to LT prior"][2][0] == pytest.approx((half / ROOT2 + half / 2) / 2)
    assert lines["expert to inverse LT"][1] == pytest.approx([0, 0])
    assert lines["ensemble to uniform"][1] == pytest.approx([math.log(2), 0])


def test_prior(run, material):
    test = {"expert_mean_probability": [[0.2, 0.8], [0.4, 0.6]], "mean_probability": [0.3, 0.7]}
    other = {"expert_mean_probability": [[0.4, 0.6], [0.4, 0.6]], "mean_probability": [0.3, 0.7]}
    data = {"counts": [1, 3], "trained_on": [1, 3]}
    runs = [run("product", seed, test=one, data=data) for seed, one in enumerate((test, other))]
    (axes,) = draw("prior", material(*runs, run("ce", data=data, top1=99.0))).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["training prior"] == [75, 25]
    assert set(lines["uniform"]) == {50}
    assert lines["expert 1"] == pytest.approx([70, 30])  # the class with most images first
    assert lines["expert 2"] == pytest.approx([60, 40])
    assert lines["ensemble"] == pytest.approx([70, 30])
    assert axes.get_yscale() == "log"


def test_prior_with_many_classes_averages_neighbours(run, material):
    data = {"counts": list(range(140, 100, -1)), "trained_on": [3, 1] * 20}
    test = {"expert_mean_probability": [[0.01, 0.04] * 20] * 2, "mean_probability": [0.02, 0.03] * 20}
    (axes,) = draw("prior", material(run("product", test=test, data=data))).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["expert 1"].get_xdata()) == [1.5 + 2 * place for place in range(20)]
    for label in ("training prior", "expert 1", "expert 2", "ensemble"):
        assert list(lines[label].get_ydata()) == pytest.approx([2.5] * 20)


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("experts", "no method was run with several numbers of experts"),
        ("mixup", "no method whose experts have taus was run with several alphas"),
        ("prior", "no run of a method with several experts"),
    ],
)
def test_what_is_missing_is_said_with_the_command_that_makes_it(run, material, name, lacks):
    with pytest.raises(LtbenchError, match=lacks) as caught:
        draw(name, material(run(hyperparameters={"mixup": 0.0})))
    assert "to do: ltbench run" in str(caught.value)


def test_hyper_parameters_of_a_users_own_method_need_not_be_numbers(run, material):
    lists = {"losses": ["ce", "balanced", "inverse"], "taus": 0.5, "gains": [[0.0], [1.0], [2.0]]}
    three = run("mine", hyperparameters=lists, test={"expert_mean_probability": [[0.5, 0.5]] * 3})
    assert experts.families(material(three).finished()) == []
    assert mixup.sweep(material(three).finished()) == []
    assert experts.middle(0, 2) == 1
    assert experts.middle([0.0, 1.0], [2.0, 3.0]) == [1.0, 2.0]
    assert experts.middle("ce", "inverse") == ["ce", "inverse"]


def test_a_method_without_multiply_adds_is_left_out_of_their_panel(run, material):
    figure = draw("cost", material(run("mine", top1=60.0, cost={"multiply_adds": 0}), run("ce")))
    drawn = [[line for line in axes.get_lines() if line.get_marker() in ("o", "D")] for axes in figure.axes[:2]]
    assert [sum(len(line.get_xdata()) for line in some) for some in drawn] == [2, 1]
