"""Everything that a result says about a set of predictions."""

from typing import Any

from ltbench.evaluate import accuracy, calibration
from ltbench.evaluate.predict import Predictions
from ltbench.outcomes import Outcomes
from ltbench.store import Metrics


def measure(predictions: Predictions, groups: dict[str, list[int]], temperature: float | None = None) -> Metrics:
    """Accuracy and calibration of a set of predictions.

    Args:
        predictions: of the method.
        groups: class labels of the shot groups.
        temperature: fitted on validation images; None leaves the scaled figures out.
    """
    logits, labels = predictions.logits, predictions.labels
    correct, total = accuracy.correct_by_class(logits, labels)
    confidence, predicted = calibration.top(logits)
    table = calibration.reliability(confidence, predicted == labels)
    scaled = None
    if temperature is not None:
        scaled = {"temperature": temperature, **calibration.calibration(logits / temperature, labels)}
    values: dict[str, Any] = {
        **accuracy.accuracies(correct, total, groups),
        **calibration.calibration(logits, labels),
        "temperature_scaled": scaled,
        "bins": {
            "count": table.count.tolist(),
            "confidence": table.confidence.tolist(),
            "accuracy": table.accuracy.tolist(),
        },
        "correct": correct.tolist(),
        "total": total.tolist(),
        "mean_probability": calibration.mean_probability(logits).tolist(),
        "expert_mean_probability": [calibration.mean_probability(expert).tolist() for expert in predictions.experts],
    }
    return Metrics.model_validate(values)


def outcomes(predictions: Predictions) -> Outcomes:
    """Label, predicted class and confidence of every image."""
    confidence, predicted = calibration.top(predictions.logits)
    return Outcomes.of(predictions.labels.numpy(), predicted.numpy(), confidence.numpy())
