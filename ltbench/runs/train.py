"""The training of one run: from an untrained method to trained weights and their history."""

import math
from dataclasses import dataclass, replace

import torch

from ltbench.data.images import Images
from ltbench.data.loading.base import Loader
from ltbench.errors import TrainingFailedError
from ltbench.evaluation.measure import measure
from ltbench.evaluation.predict import predict
from ltbench.evaluation.result_parts import shot_groups
from ltbench.features.loader import PLAIN, FeatureLoader
from ltbench.method import Method
from ltbench.runs.listeners import RunListeners
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import PlannedRun
from ltbench.training.distributed.batch_norm import check_has_batch_norm, sync_batch_norm
from ltbench.training.history import History
from ltbench.training.trainer import fit
from ltbench.training.validation_curve import ValidationCurve


@dataclass(frozen=True)
class Loaders:
    """The images of a run, in batches on its device."""

    train: Loader
    validation: Loader | None
    test: Loader | None
    """None where the test set is not looked at."""
    unlabelled: Loader | None
    """Images without labels that a transductive method adapts to."""


def make_loaders(planned: PlannedRun, options: RunOptions) -> Loaders:
    """The loaders of a run.

    Raises:
        LtbenchError: if resized images cannot be kept, or there is no GPU to decode on.
    """
    features = planned.features

    def loader(images: Images, *, labelled: bool = True) -> Loader:
        made = planned.data.loader(
            images, planned.device, labelled=labelled, workers=options.workers, listener=options.listener
        )
        return made if features is None else features.loader(images, made, options.listener)

    validation, test = planned.data.validation, planned.data.test if options.evaluate_test else None
    adapts_to = (test if test is not None else validation) if planned.method.transductive else None
    return Loaders(
        train=loader(planned.data.train),
        validation=loader(validation) if validation is not None else None,
        test=loader(test) if test is not None else None,
        unlabelled=loader(adapts_to, labelled=False) if adapts_to is not None else None,
    )


def train(
    planned: PlannedRun, method: Method, loaders: Loaders, options: RunOptions, listeners: RunListeners
) -> History:
    """Train a method in place, going on from the run's checkpoint if there is one.

    Raises:
        TrainingFailedError: if the loss or a weight is not finite.
        KeyboardInterrupt: passed on, once the state is saved.
    """
    _compute_features(planned, method, loaders)
    if planned.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(planned.device)
    if planned.config.batch_norm_images:
        check_has_batch_norm(method)
        sync_batch_norm(method, options.group, planned.sync_group_size)
    return fit(
        method,
        loaders.train,
        planned.resolved.recipe,
        seed=planned.config.seed,
        options=replace(
            options,
            checkpoint=planned.checkpoint(options),
            precision=planned.config.precision,
            listener=listeners,
            validation_curve=_validation_curve(planned, method, loaders, options),
        ),
        validation=loaders.validation,
        unlabelled=loaders.unlabelled,
    )


def _compute_features(planned: PlannedRun, method: Method, loaders: Loaders) -> None:
    """Compute the frozen features that a run will ask for, whose time is part neither of training nor of evaluation."""
    recipe = planned.resolved.recipe
    for stage in method.stages(recipe):
        loader = loaders.train if stage.source == "train" else loaders.unlabelled
        if isinstance(loader, FeatureLoader):
            loader.compute([recipe.views[name] for name in stage.views or method.views])
    for loader in (loaders.validation, loaders.test):
        if isinstance(loader, FeatureLoader):
            loader.compute([PLAIN])


def _validation_curve(
    planned: PlannedRun, method: Method, loaders: Loaders, options: RunOptions
) -> ValidationCurve | None:
    """What is measured while a trial trains that may be pruned; None for other runs."""
    held_out, pruning = loaders.validation, options.pruning
    if held_out is None or pruning is None:
        return None

    def value() -> float:
        predictions = predict(method, held_out, planned.config.precision, options.group)
        if not options.group.is_main:  # which alone has the predictions of all
            return math.nan
        metrics = measure(predictions.logits, predictions.labels, predictions.experts, shot_groups(planned.data))
        found = getattr(metrics, pruning.objective)
        if found is None:
            raise TrainingFailedError(f"there is no {pruning.objective} without such classes")
        return float(found)

    return ValidationCurve(pruning.objective, value, pruning.ends)
