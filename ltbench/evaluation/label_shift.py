"""Accuracy and calibration on test sets with other class frequencies, drawn from the predictions for the whole one."""

from collections import defaultdict
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.data.label_shift import DISTRIBUTIONS, shifted
from ltbench.metrics import accuracy, calibration
from ltbench.metrics.logits import Logits, SelectedRows
from ltbench.metrics.prior_correction import corrected, estimated
from ltbench.results.records import ShiftTable, TestPrior


def under_shift(
    logits: Tensor,
    labels: Tensor,
    train_counts: NDArray[np.int64],
    logit_prior: float | None,
    groups: dict[str, list[int]],
) -> ShiftTable:
    """Every shifted test set of ``ltbench.data.label_shift``, with its prior unknown, known and estimated.

    Args:
        logits: (N, C) of the whole test set.
        labels: (N,).
        train_counts: (C,) images that were trained on.
        logit_prior: exponent of the training prior that is left in the logits; None leaves the corrections out.
        groups: class labels of the shot groups.
    """
    columns: dict[str, list[Any]] = defaultdict(list)
    train = torch.from_numpy(train_counts).double()
    for distribution in DISTRIBUTIONS:
        index = torch.from_numpy(shifted(labels.numpy(), train_counts, distribution))
        own, its = SelectedRows(logits, index), labels[index]
        truth = torch.bincount(its, minlength=len(train)).double()
        for prior in get_args(TestPrior) if logit_prior is not None else ("unknown",):
            suited, error = adapted(own, prior, logit_prior, train, truth)
            row = {"distribution": distribution.name, "prior": prior, "prior_error": error}
            for name, value in {**row, **_figures(suited, its, groups)}.items():
                columns[name].append(value)
    return ShiftTable(**columns)


def adapted(
    logits: Logits, prior: TestPrior, logit_prior: float | None, train: Tensor, truth: Tensor
) -> tuple[Logits, float | None]:
    """Logits for a test set whose class frequencies are unknown, known or estimated.

    Args:
        logits: (N, C) of all images of the test set.
        prior: what is known of its class frequencies.
        logit_prior: exponent of the training prior that is left in the logits.
        train: (C,) images that were trained on.
        truth: (C,) images of the test set.

    Returns:
        (N, C) logits, and the total variation distance of an estimated prior to the true one.

    Raises:
        LtbenchError: if the prior is to be corrected and the exponent is not known.
    """
    if prior == "unknown":
        return logits, None
    if prior == "known":
        return corrected(logits, logit_prior, train, truth), None
    guess = estimated(logits, logit_prior, train)
    error = min(1.0, float((guess - truth / truth.sum()).abs().sum() / 2))  # which rounding may exceed
    return corrected(logits, logit_prior, train, guess.clamp(min=1e-12)), error


def _figures(logits: Logits, labels: Tensor, groups: dict[str, list[int]]) -> dict[str, Any]:
    correct, total = accuracy.correct_by_class(logits, labels)
    confidence, predicted = calibration.top(logits)
    bins = calibration.reliability(confidence, predicted == labels)
    accuracies = accuracy.accuracies(correct, total, groups)
    return {
        "images": len(labels),
        "classes": int((total > 0).sum()),
        **{name: accuracies[name] for name in ("top1", "macro", "many", "medium", "few")},
        "ece": bins.ece,
        "ece_floor": bins.ece_floor,
        "mce": bins.mce,
        "nll": calibration.negative_log_likelihood(logits, labels),
    }
