"""Calibration metrics against the published code's numbers, torchmetrics, and tables worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltbench.metrics import calibration as cal
from ltbench.metrics import logits as rows
from ltbench.metrics.accuracy import correct_by_class


def test_ece_mce_and_overconfidence_equal_the_published_code(golden_losses):
    case = golden_losses("calibration")
    logits, labels = torch.from_numpy(case["logits"]), torch.from_numpy(case["targets"])
    table = cal.reliability(*judged(cal.probabilities(logits), labels), int(case["bins"]))
    assert table.ece == pytest.approx(100 * float(case["ece"]), rel=1e-4)
    assert table.mce == pytest.approx(100 * float(case["mce"]), rel=1e-4)
    assert table.overconfidence == pytest.approx(100 * float(case["overconfidence"]), rel=1e-4)


def judged(probs, labels):
    """Confidence of each prediction and whether it is right."""
    confidence, predicted = probs.max(1)
    return confidence, predicted == labels


def two_class(confidence):
    """Probabilities of two classes, the first predicted."""
    first = torch.tensor(confidence, dtype=torch.float32)
    return torch.stack([first, 1 - first], dim=1)


def test_a_table_small_enough_to_check_by_hand():
    # Five bins of width .2. Confidences .6 and .55 lie in (.4, .6], .9 and 1.0 in (.8, 1].
    probs = two_class([0.6, 0.55, 0.9, 1.0])
    labels = torch.tensor([0, 1, 0, 1])  # right, wrong, right, wrong
    table = cal.reliability(*judged(probs, labels), 5)
    assert table.count.tolist() == [0, 0, 2, 0, 2]
    assert table.accuracy.tolist() == [0, 0, 0.5, 0, 0.5]
    assert table.confidence.tolist() == pytest.approx([0, 0, 0.575, 0, 0.95])
    assert table.ece == pytest.approx(100 * (0.5 * 0.075 + 0.5 * 0.45))
    assert table.mce == pytest.approx(45.0)
    assert table.overconfidence == pytest.approx(100 * (0.5 * 0.575 * 0.075 + 0.5 * 0.95 * 0.45))


def test_bins_are_closed_on_the_right_and_hold_confidence_one():
    edges = torch.linspace(0, 1, 16)
    confidences = edges[8:].tolist()  # .5333 .. 1.0: each the upper end of its bin
    table = cal.reliability(torch.tensor(confidences), torch.ones(8, dtype=torch.bool))
    assert table.count.tolist() == [0] * 7 + [1] * 8


def random_predictions(seed, images=3000, classes=7):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, classes, generator=generator)
    return logits, torch.multinomial(logits.div(2).softmax(1), 1, generator=generator).squeeze(1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_ece_and_mce_agree_with_torchmetrics_away_from_confidence_one(seed):
    from torchmetrics.functional.classification import multiclass_calibration_error  # takes seconds to import

    logits, labels = random_predictions(seed)
    probs = (logits / 2).softmax(1)
    assert probs.max() < 1
    table = cal.reliability(*judged(probs, labels))
    theirs = [
        100 * multiclass_calibration_error(probs, labels, 7, n_bins=15, norm=norm).item() for norm in ("l1", "max")
    ]
    assert [table.ece, table.mce] == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
def test_torchmetrics_puts_confidence_one_into_a_bin_of_its_own():
    from torchmetrics.functional.classification import multiclass_calibration_error  # takes seconds to import

    # .95 wrong and 1.0 right share the bin (14/15, 1]: accuracy 1/2, confidence .975, gap 47.5. torchmetrics
    # puts 1.0 into a sixteenth bin, where it is right, and sees a gap of 95 in the other.
    probs, labels = two_class([0.95, 1.0]), torch.tensor([1, 0])
    assert cal.reliability(*judged(probs, labels)).mce == pytest.approx(47.5)
    theirs = multiclass_calibration_error(probs, labels, 2, n_bins=15, norm="max").item()
    assert theirs == pytest.approx(0.95)


def test_adaptive_bins_hold_equally_many_images():
    logits, labels = random_predictions(0, images=3001)
    table = cal.adaptive_reliability(*judged(logits.softmax(1), labels))
    assert table.count.sum() == 3001
    assert table.count.max() - table.count.min() <= 1


def test_the_order_of_images_of_equal_confidence_does_not_matter():
    # All are .7 sure and 72 of 100 right: 2 % in whatever order. Bins by rank alone would find right ones together.
    right = torch.arange(100) < 72
    orders = [right, right.flip(0), right[torch.randperm(100)]]
    errors = [cal.adaptive_reliability(torch.full((100,), 0.7), order).ece for order in orders]
    assert errors == [pytest.approx(2, abs=1e-4)] * 3
    assert len(set(errors)) == 1


def test_ties_are_spread_over_their_bins_evenly():
    # Three bins of two images: .5 wrong with one of three .6; two .6; .9 right. Of the .6 two are right.
    # Gaps: (.5 + .6 - 0 - 2/3) / 2, (1.2 - 4/3) / 2, (.9 + .95 - 2) / 2: |.2167|, |-.0667|, |-.075|
    confidence = torch.tensor([0.6, 0.9, 0.6, 0.5, 0.95, 0.6])
    right = torch.tensor([True, True, False, False, True, True])
    for order in (torch.arange(6), torch.tensor([5, 4, 3, 2, 1, 0]), torch.tensor([2, 0, 5, 1, 3, 4])):
        table = cal.adaptive_reliability(confidence[order], right[order], 3)
        assert table.count.tolist() == [2, 2, 2]
        expected = 100 * ((1.1 - 2 / 3) / 2 + (4 / 3 - 1.2) / 2 + 0.15 / 2) / 3
        assert table.ece == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 1000))
def test_no_figure_depends_on_the_order_of_images(seed):
    logits, labels = random_predictions(seed, images=60, classes=4)
    logits = logits.round()  # many are equal
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    assert cal.calibration(logits[order], labels[order]) == pytest.approx(cal.calibration(logits, labels), rel=1e-6)


def test_predictions_are_those_that_accuracy_counts():
    # Two logits that differ and have one probability in float32: the class is that of the higher one.
    logits = torch.tensor([[1000.0, 1000.00001]], dtype=torch.float64)
    assert logits.float().softmax(1).tolist() == [[0.5, 0.5]]
    confidence, predicted = cal.top(logits)
    assert (confidence.tolist(), predicted.tolist()) == ([0.5], [1])
    assert correct_by_class(logits, torch.tensor([1]))[0].tolist() == [0, 1]


def test_classwise_ece_by_hand():
    # Two images, three classes, two bins (0, .5] and (.5, 1].
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    labels = torch.tensor([0, 1])
    # class 0: upper bin, 1 hit, 1.3 expected: .3; class 1: lower bin, 1 against .5: .5; class 2: 0 against .2: .2
    assert cal.classwise_ece(probs.log(), labels, 2) == pytest.approx(100 * (0.3 + 0.5 + 0.2) / (2 * 3), rel=1e-6)


@given(st.integers(0, 1000))
def test_classwise_ece_is_the_mean_of_single_classes(seed):
    logits, labels = random_predictions(seed, images=60, classes=4)
    probs = logits.softmax(1)
    edges = np.linspace(0, 1, 16)[1:-1].astype(np.float32)
    errors = []
    for k in range(4):
        p, hit = probs[:, k].numpy(), (labels == k).numpy()
        cell = np.searchsorted(edges, p, side="left")
        errors.append(sum(abs((hit[cell == b] - p[cell == b].astype(float)).sum()) for b in range(15)) / 60)
    assert cal.classwise_ece(logits, labels) == pytest.approx(100 * np.mean(errors), rel=1e-5)


@given(st.integers(0, 1000), st.integers(1, 20))
def test_errors_lie_between_nothing_and_everything(seed, bins):
    logits, labels = random_predictions(seed, images=50)
    table = cal.reliability(*judged(logits.softmax(1), labels), bins)
    assert table.count.sum() == 50
    assert 0 <= table.ece <= table.mce * (1 + 1e-12) <= 100 * (1 + 1e-12), "but for the rounding of the last digit"


def test_perfect_predictions_have_no_error():
    logits = torch.full((10, 3), -1000.0)
    labels = torch.arange(10) % 3
    logits[torch.arange(10), labels] = 1000.0
    figures = cal.calibration(logits, labels)
    assert all(value == 0 for value in figures.values()), figures


def test_brier_and_nll_by_hand():
    logits = torch.tensor([[0.0, np.log(3.0)]])  # p = 1/4, 3/4
    assert cal.brier(logits, torch.tensor([0])) == pytest.approx(2 * 0.75**2)
    assert cal.negative_log_likelihood(logits, torch.tensor([0])) == pytest.approx(np.log(4))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(40_000, 5, generator=generator)
    labels = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator).squeeze(1)
    assert cal.fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_blocks_of_rows_change_nothing(monkeypatch):
    logits, labels = random_predictions(0, images=1001)
    whole = cal.calibration(logits, labels)
    confidence, predicted = cal.top(logits)
    assert torch.equal(confidence, logits.softmax(1).max(1).values)
    monkeypatch.setattr(rows, "_BLOCK", 7 * 10)  # ten images a block
    assert cal.calibration(logits, labels) == pytest.approx(whole, rel=1e-12)
    assert torch.equal(cal.top(logits)[1], predicted)
