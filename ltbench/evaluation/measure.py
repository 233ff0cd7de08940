"""All metrics of a set of predictions."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from ltbench.evaluation.label_shift import under_shift
from ltbench.evaluation.predict import Predictions
from ltbench.metrics import accuracy, calibration
from ltbench.metrics.confidence_bins import BINS
from ltbench.metrics.logits import Logits
from ltbench.results.predictions import PackedPredictions
from ltbench.results.records import DataRecord, FittedFor, Metrics


def measure(
    logits: Logits,
    labels: Tensor,
    experts: Iterable[Logits],
    groups: dict[str, list[int]],
    temperature: float | None = None,
    bins: int = BINS,
    fitted_for: FittedFor | None = None,
) -> Metrics:
    """Accuracy and calibration of a set of predictions.

    Args:
        logits: (N, C) of the method.
        labels: (N,).
        experts: (N, C) of each expert.
        groups: class labels of the shot groups.
        temperature: fitted on validation images; None leaves the scaled figures out.
        bins: of the binned calibration errors.
        fitted_for: the class frequencies that the temperature is fitted for; None for those of the validation images.
    """
    correct, total = accuracy.correct_by_class(logits, labels)
    confidence, predicted = calibration.top(logits)
    table = calibration.reliability(confidence, predicted == labels, bins)
    scaled = None
    if temperature is not None:
        about = fitted_for or FittedFor()
        scaled = {"temperature": temperature, **_scaled(logits, labels, temperature, bins), "fitted_for": about}
    values: dict[str, Any] = {
        **accuracy.accuracies(correct, total, groups),
        **calibration.calibration(logits, labels, bins),
        "temperature_scaled": scaled,
        "bins": {
            "count": table.count.tolist(),
            "confidence": table.confidence.tolist(),
            "accuracy": table.accuracy.tolist(),
        },
        "correct": correct.tolist(),
        "total": total.tolist(),
        "mean_probability": calibration.mean_probability(logits).tolist(),
        "expert_mean_probability": [calibration.mean_probability(expert).tolist() for expert in experts],
    }
    return Metrics.model_validate(values)


def _scaled(logits: Logits, labels: Tensor, temperature: float, bins: int) -> dict[str, float]:
    scaled = calibration.scaled(logits, temperature)
    confidence, predicted = calibration.top(scaled)
    found = calibration.reliability(confidence, predicted == labels, bins).estimate
    figures = calibration.calibration(scaled, labels, bins)
    return {**figures, "ece_floor": found.floor, "ece_debiased": found.debiased}


def packed_predictions(predictions: Predictions) -> PackedPredictions:
    """Label, predicted class and confidence of every image."""
    confidence, predicted = calibration.top(predictions.logits)
    return PackedPredictions.of(predictions.labels.numpy(), predicted.numpy(), confidence.numpy())


def of_images(
    predictions: Predictions, data: DataRecord, *, logit_prior: float | None, transductive: bool
) -> dict[str, Any]:
    """What a result keeps of single test images, and the figures of the test sets that are drawn from them.

    Args:
        predictions: for the whole test set.
        data: what the method is trained on.
        logit_prior: exponent of the training prior that is left in the logits.
        transductive: whether the method has adapted to this test set; it would have to adapt to each shifted one
            anew, so that there are no figures of those.

    Returns:
        ``outcomes`` and ``shift`` of a result.
    """
    logits, labels, counts = predictions.logits, predictions.labels, np.array(data.trained_on)
    shift = None if transductive else under_shift(logits, labels, counts, logit_prior, data.groups)
    return {"outcomes": packed_predictions(predictions), "shift": shift}
