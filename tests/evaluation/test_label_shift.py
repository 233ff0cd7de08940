"""Figures under label shift."""

import numpy as np
import pytest
import torch

from ltbench.data.label_shift import DISTRIBUTIONS
from ltbench.evaluation import label_shift
from ltbench.evaluation.label_shift import under_shift
from ltbench.metrics.accuracy import accuracies, correct_by_class
from ltbench.metrics.calibration import calibration

GROUPS = {"many": [0], "medium": [1], "few": [2], "none": []}
COUNTS = np.array([100, 10, 1])
LABELS = torch.arange(3).repeat_interleave(50)


def rows(table):
    plain = table.model_dump()
    return [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]


def noisy(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(150, 3, generator=generator) + 2 * torch.nn.functional.one_hot(LABELS, 3)


def test_every_distribution_with_its_prior_unknown_known_and_estimated():
    found = rows(under_shift(noisy(), LABELS, COUNTS, 0.0, GROUPS))
    expected = [(d.name, prior) for d in DISTRIBUTIONS for prior in ("unknown", "known", "estimated")]
    assert [(row["distribution"], row["prior"]) for row in found] == expected


def test_uniform_is_the_test_set_itself():
    logits = noisy()
    found = rows(under_shift(logits, LABELS, COUNTS, None, GROUPS))
    uniform = next(row for row in found if row["distribution"] == "uniform")
    whole = {**accuracies(*correct_by_class(logits, LABELS), GROUPS), **calibration(logits, LABELS)}
    assert uniform["images"] == 150
    for name in ("top1", "macro", "many", "medium", "few", "ece", "mce", "nll"):
        assert uniform[name] == pytest.approx(whole[name], abs=1e-5)


def test_without_an_exponent_nothing_is_corrected():
    assert set(under_shift(noisy(), LABELS, COUNTS, None, GROUPS).prior) == {"unknown"}


def test_classes_that_a_shifted_set_lacks_are_counted_and_left_out_of_means():
    labels = torch.arange(3).repeat_interleave(10)
    logits = 9.0 * torch.nn.functional.one_hot(labels, 3)
    found = rows(under_shift(logits, labels, COUNTS, 0.0, GROUPS))
    row = next(row for row in found if (row["distribution"], row["prior"]) == ("forward-50", "known"))
    assert (row["images"], row["classes"]) == (11, 2)
    assert (row["top1"], row["macro"], row["few"]) == (100.0, 100.0, None)


def test_a_known_prior_helps_where_it_should():
    """Balanced logits on a long-tailed set: the prior is worth much, its estimate nearly as much."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(3).repeat_interleave(2000)
    logits = torch.randn(6000, 3, generator=generator) + torch.nn.functional.one_hot(labels, 3)  # posterior: softmax(z)
    by = {(r["distribution"], r["prior"]): r for r in rows(under_shift(logits, labels, COUNTS, 0.0, GROUPS))}
    for name in ("forward-50", "backward-50"):
        unknown, known, estimated = (by[name, prior] for prior in ("unknown", "known", "estimated"))
        assert known["top1"] > unknown["top1"] + 5
        assert abs(estimated["top1"] - known["top1"]) < 1
        assert estimated["prior_error"] < 0.05
        assert known["nll"] <= estimated["nll"] + 1e-3 < unknown["nll"]


def test_an_estimate_that_is_wrong_altogether_has_a_distance_of_one(monkeypatch):
    """And no more by rounding, which a result could not hold."""
    guess = torch.tensor([0, 0, np.nextafter(np.nextafter(1, 2), 2)], dtype=torch.float64)
    monkeypatch.setattr(label_shift, "estimated", lambda *args: guess)
    table = under_shift(noisy()[:50], LABELS[:50], COUNTS, 0.0, GROUPS)
    assert {row["prior_error"] for row in rows(table) if row["prior"] == "estimated"} == {1.0}
