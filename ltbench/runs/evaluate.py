"""The evaluation of one run: predictions of its validation and test images, and what is measured on them."""

import math
import time
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ltbench.errors import LtbenchWarning, TrainingFailedError
from ltbench.evaluation.measure import measure, of_images
from ltbench.evaluation.predict import Predictions, predict
from ltbench.evaluation.result_parts import data_record, shot_groups
from ltbench.method import Method
from ltbench.metrics.temperature import TargetPrior, Temperature, TrainingPrior, fit_for_prior
from ltbench.results.records import Metrics
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import PlannedRun
from ltbench.runs.train import Loaders


@dataclass
class Evaluation:
    """What was measured; metrics in the main process alone, which has the predictions."""

    metrics: dict[str, Metrics] = field(default_factory=dict)
    """Metrics by part: validation, test."""
    about_images: dict[str, Any] = field(default_factory=dict)
    """Fields of the result about single test images and label shift."""
    images: int = 0
    seconds: float = 0.0
    execution: str = ""
    """How predictions were made."""

    @property
    def images_per_second(self) -> float:
        """Throughput of prediction."""
        return self.images / self.seconds if self.images else 0.0


def evaluate(planned: PlannedRun, method: Method, loaders: Loaders, options: RunOptions) -> Evaluation:
    """Predict the held-out and the test images of a run with trained weights, and measure.

    Raises:
        TrainingFailedError: if logits are not finite.
    """
    found = Evaluation()
    held_out: tuple[Tensor, Tensor] | None = None
    for part, loader in {"validation": loaders.validation, "test": loaders.test}.items():
        if loader is None:
            continue
        began = time.monotonic()
        predictions = predict(method, loader, planned.config.precision, options.group)
        found.seconds += time.monotonic() - began
        fault = options.group.broadcast_object(predictions.fault)  # which the main process alone can tell
        if fault is not None:
            raise TrainingFailedError(f"{part}: {fault}")
        if not options.group.is_main:
            continue
        found.images, found.execution = found.images + len(predictions.labels), predictions.execution
        predictions.save(planned.folder / f"{part}.npz", run_id=planned.run_id)
        if part == "validation":
            held_out = predictions.logits, predictions.labels
        temperature = _temperature(planned, method, part, predictions, held_out)
        found.metrics[part] = measure(
            predictions.logits,
            predictions.labels,
            predictions.experts,
            shot_groups(planned.data),
            temperature.value if temperature else None,
            fitted_for=temperature.fitted_for if temperature else None,
        )
        if part == "test":
            found.about_images = of_images(
                predictions,
                data_record(planned.data),
                logit_prior=logit_prior(method),
                transductive=planned.method.transductive,
            )
    return found


def logit_prior(method: Method) -> float | None:
    """Exponent of the training prior that is left in the logits; None where it is not known."""
    prior = method.logit_prior if method.config.keeps_prior else None
    return prior if prior is not None and math.isfinite(prior) else None


def _temperature(
    planned: PlannedRun,
    method: Method,
    part: str,
    predictions: Predictions,
    held_out: tuple[Tensor, Tensor] | None,
) -> Temperature | None:
    """The temperature for a part; nothing of it but its class frequencies may choose one."""
    if held_out is None:
        return None
    prior = TargetPrior.of_labels(predictions.labels, predictions.logits.shape[1])
    prior = replace(prior, name=part) if part == "validation" else prior
    trained_on = torch.from_numpy(planned.data.train_counts).double()
    temperature = fit_for_prior(*held_out, prior, TrainingPrior(trained_on, logit_prior(method)))
    if temperature.fault is not None:
        warnings.warn(f"{part}: no temperature: {temperature.fault}", LtbenchWarning, stacklevel=2)
        return None
    return temperature
