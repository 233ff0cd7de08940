"""Finished runs evaluated again from their stored logits: other bins, shot rules, temperatures, test distributions."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltbench import registry
from ltbench.data.label_shift import LabelShift, shifted
from ltbench.data.long_tail import ShotRule
from ltbench.errors import LtbenchError
from ltbench.evaluation.label_shift import adapted
from ltbench.evaluation.measure import measure, of_images
from ltbench.evaluation.predict import Predictions
from ltbench.files import paths
from ltbench.method.claims import paper_record
from ltbench.metrics import calibration
from ltbench.metrics.accuracy import correct_by_class
from ltbench.metrics.confidence_bins import BINS
from ltbench.metrics.logits import Logits, SelectedRows
from ltbench.metrics.prior_correction import estimated
from ltbench.metrics.temperature import TargetPrior, TrainingPrior, fit_for_prior
from ltbench.results import external
from ltbench.results.records import FittedFor, Metrics, PaperRecord, ShiftTable, TestPrior
from ltbench.results.schema import Result

_TOLERANCE = 1e-4
"""Percent, of the figures that show whether logits are a result's own."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate stored logits; the defaults give the metrics that a result has."""

    bins: int = BINS
    """Number of bins of the calibration errors."""
    shots: ShotRule | None = None
    """None: the run's own."""
    temperature: bool = False
    """Divide logits by the temperature that the validation images ask for, weighted for the test set's frequencies: the
    whole test set's, or where ``prior`` says so, what is known of those of ``distribution``."""
    distribution: LabelShift | None = None
    """The test set to draw; None: the whole one."""
    prior: TestPrior = "unknown"
    """Knowledge of the test set's class prior, for which logits are corrected."""


@dataclass(frozen=True)
class Reevaluation:
    """Figures of stored logits under some settings, and what they rest on."""

    metrics: Metrics
    temperature: float | None
    """The number that logits are divided by, if any."""
    fitted_for: FittedFor | None
    """The class frequencies that the temperature is fitted for."""
    prior_error: float | None
    """Total variation distance of an estimated prior to the true one, 0 to 1."""

    @property
    def images(self) -> int:
        """Number of images of the test set."""
        return sum(self.metrics.total)

    @property
    def classes(self) -> int:
        """Number of classes that have images."""
        return sum(count > 0 for count in self.metrics.total)


def evaluate(path: Path, result: Result, settings: EvaluationSettings | None = None) -> Reevaluation:
    """Figures of a stored run, from the logits in the cache.

    Args:
        path: of the result file, for messages.
        result: the run.
        settings: how to evaluate it.

    Raises:
        LtbenchError: if there are no logits, if they are not the result's, or if the settings ask for what the run
            cannot give: a temperature without validation images that determine one, a prior that cannot be corrected,
            another test set than the one that a transductive method has adapted to.
    """
    settings = settings or EvaluationSettings()
    validation = load(path, result, "validation") if settings.temperature and result.config.validation else None
    return look(result, load(path, result), settings, validation)


def load(path: Path, result: Result, part: str = "test") -> Predictions:
    """The stored predictions of a run, if they are those that its result was made from.

    Args:
        path: of the result file, for messages.
        result: the run.
        part: test or validation.

    Raises:
        LtbenchError: if the run has no figures of this part, or the logits are missing, damaged or others.
    """
    if part not in result.metrics:
        raise LtbenchError(f"there are no figures of {part} images: the run is {result.status}", where=path)
    file = paths.cache_dir() / "runs" / result.run_id / f"{part}.npz"
    if not file.exists():
        raise LtbenchError("its logits are not in the cache folder", where=file, hint=_made_by(path, result))
    predictions = Predictions.load(file)
    wrong = predictions.fault()
    if wrong is not None:
        raise LtbenchError(wrong, where=file, hint=_made_by(path, result))
    if not _belong(predictions, result.run_id, result.metrics[part]):
        raise LtbenchError(
            "the logits are not those that the result was made from",
            where=f"{file} (result: {path})",
            hint=_made_by(path, result),
        )
    return predictions


def look(
    result: Result,
    predictions: Predictions,
    settings: EvaluationSettings | None = None,
    validation: Predictions | None = None,
) -> Reevaluation:
    """Figures of a run's predictions.

    A temperature comes before a correction: softmax(z / T) is the posterior that Bayes' rule starts from. It is fitted
    for what is known of the class frequencies of the test set that is looked at: the true ones; where these are to be
    estimated, their estimate; where they are unknown, those of the whole test set, from which a shifted one is drawn.
    The mean predictions of single experts are those of their own logits.

    Args:
        result: the run.
        predictions: for the whole test set.
        settings: how to evaluate them.
        validation: predictions for the validation images, to fit a temperature on.

    Raises:
        LtbenchError: see ``evaluate``.
    """
    settings = settings or EvaluationSettings()
    if settings.temperature and validation is None:
        raise LtbenchError(
            "there are no validation images to fit a temperature on",
            where="--temperature",
            hint="train with --validation; the test images must not choose a temperature",
        )
    counts = np.array(result.data.trained_on)
    logits: Logits = predictions.logits
    experts: Iterable[Logits] = predictions.experts
    labels = predictions.labels
    if settings.distribution is not None:
        index = _drawn(result, labels, settings.distribution)
        logits, labels = SelectedRows(predictions.logits, index), labels[index]
        experts = [SelectedRows(expert, index) for expert in predictions.experts]
    train, logit_prior = torch.from_numpy(counts).double(), result.method.logit_prior
    truth = torch.bincount(labels, minlength=len(counts)).double()
    temperature: float | None = None
    fitted_for: FittedFor | None = None
    if settings.temperature and validation is not None:
        prior = TargetPrior.of_labels(predictions.labels if settings.prior == "unknown" else labels, len(counts))
        if settings.distribution is not None and settings.prior != "unknown":
            prior = replace(prior, name=settings.distribution.name)
        if settings.prior == "estimated":
            prior = TargetPrior(f"{prior.name}, estimated", estimated(logits, logit_prior, train).clamp(min=1e-12))
        training = TrainingPrior(train, logit_prior)
        corrects = settings.prior != "unknown"
        found = fit_for_prior(validation.logits, validation.labels, prior, training, corrected=corrects)
        if found.fault is not None:
            raise LtbenchError(found.fault, where="--temperature", hint="leave it out for this run")
        temperature, fitted_for = found.value, found.fitted_for
        logits = calibration.scaled(logits, temperature)
    logits, prior_error = adapted(logits, settings.prior, logit_prior, train, truth)
    groups = settings.shots.groups(np.array(result.data.counts)) if settings.shots else result.data.groups
    return Reevaluation(
        measure(logits, labels, experts, groups, bins=settings.bins), temperature, fitted_for, prior_error
    )


def filled_in(result: Result, predictions: Predictions) -> tuple[Result, list[str]]:
    """A result with what it lacks since it is older than ltbench; what it has stays as it is.

    Args:
        result: the run.
        predictions: for the whole test set.

    Returns:
        The result, and the names of what was added: outcomes, shift, shift.ece_floor, method.paper.
    """
    added: list[str] = []
    method = result.method
    adds_shift = result.shift is None and not method.transductive
    adds_floors = result.shift is not None and len(result.shift.ece) > 0 and not result.shift.ece_floor
    if result.outcomes is None or adds_shift or adds_floors:
        prior = method.logit_prior
        found = of_images(predictions, result.data, logit_prior=prior, transductive=method.transductive)
        added += [name for name, value in found.items() if value is not None and getattr(result, name) is None]
        floors = None if adds_shift or result.shift is None else _floors(result.shift, found["shift"])
        result = result.model_copy(update={name: found[name] for name in added})
        if floors is not None:
            result = result.model_copy(update={"shift": floors})
            added.append("shift.ece_floor")
    paper = _paper(result) if method.paper is None else None
    if paper is not None:
        result = result.model_copy(update={"method": method.model_copy(update={"paper": paper})})
        added.append("method.paper")
    return result, added


def _floors(stored: ShiftTable, found: ShiftTable | None) -> ShiftTable | None:
    """Stored figures of shifted test sets with the noise floors that they lack; None if the sets are others."""
    if stored.ece_floor or found is None:
        return None
    same = all(getattr(stored, name) == getattr(found, name) for name in ("distribution", "prior", "images"))
    return stored.model_copy(update={"ece_floor": found.ece_floor}) if same else None


def _paper(result: Result) -> PaperRecord | None:
    """The paper of a method that is known here, on a data set that is."""
    config = result.config
    if config.method not in registry.method_names() or config.dataset not in registry.dataset_names():
        return None
    return paper_record(registry.method(config.method), config, registry.dataset(config.dataset).recipe_table)


def _belong(predictions: Predictions, run_id: str, metrics: Metrics) -> bool:
    logits, labels = predictions.logits, predictions.labels
    correct, total = correct_by_class(logits, labels)
    if predictions.about.get("run_id") != run_id or total.tolist() != metrics.total:
        return False
    confidence, predicted = calibration.top(logits)
    ece = calibration.reliability(confidence, predicted == labels).ece
    top1 = 100 * int(correct.sum()) / int(total.sum())
    return abs(top1 - metrics.top1) <= _TOLERANCE and abs(ece - metrics.ece) <= _TOLERANCE


def _made_by(path: Path, result: Result) -> str:
    """The command that makes logits again which the cache folder lacks."""
    run = shlex.join(["ltbench", "run", "--config", str(path), "--rerun"])
    return f"make them again: {external.command(result) or run}"


def _drawn(result: Result, labels: Tensor, distribution: LabelShift) -> Tensor:
    """The images of a shifted test set."""
    if result.method.transductive:
        raise LtbenchError(
            "the method adapts to its test set, and would have to adapt to each shifted test set anew",
            where="--test-prior",
        )
    return torch.from_numpy(shifted(labels.numpy(), np.array(result.data.trained_on), distribution))
