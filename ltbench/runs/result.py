"""The result of one run, put together from its plan, its training and its evaluation."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ltbench import registry
from ltbench.evaluation.result_parts import (
    count_parameters,
    data_record,
    experts_record,
    multiply_adds,
    multiply_adds_of,
    peak_memory,
)
from ltbench.method import Method
from ltbench.method.claims import paper_record
from ltbench.method.paper import paper_of
from ltbench.results.provenance import provenance
from ltbench.results.records import Cost, CurvePoint, MethodRecord, Status, ValidationRecord, WeightsRecord
from ltbench.results.schema import Result
from ltbench.runs.evaluate import Evaluation, logit_prior
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import PlannedRun
from ltbench.runs.resolve import default_hyperparameters
from ltbench.training.history import History
from ltbench.training.schedule import plan, stages_of
from ltbench.training.validation_curve import settled


@dataclass
class BaseRuns:
    """The runs whose trained weights a run starts from."""

    run_ids: dict[str, str] = field(default_factory=dict)
    """Run ids of the runs that it starts from, by the name that the method gives them."""
    seconds: float = 0.0
    """Seconds of their training."""


def _labels(planned: PlannedRun) -> dict[str, str | None]:
    """The name of the table of labels, and its columns."""
    table, columns = planned.labels
    return {"labels": table and Path(table).name, "label_columns": columns}


def make_result(
    planned: PlannedRun,
    options: RunOptions,
    status: Status,
    started: datetime,
    *,
    reason: str | None = None,
    base_runs: BaseRuns | None = None,
    method: Method | None = None,
    history: History | None = None,
    evaluation: Evaluation | None = None,
) -> Result:
    """The result of a run.

    Args:
        planned: the run.
        options: where and how it was carried out.
        status: done; failed or interrupted, for a reason.
        started: when it was.
        reason: why it is not done.
        base_runs: what it started from.
        method: with its weights; None where there are none worth a record.
        history: of its training.
        evaluation: what was measured.
    """
    base_runs, evaluation = base_runs or BaseRuns(), evaluation or Evaluation()
    return Result(
        run_id=planned.run_id,
        status=status,
        reason=reason,
        config=planned.config,
        data=data_record(planned.data).model_copy(
            update={"folder": planned.source.folder_name(options.data_dir), **_labels(planned)},
        ),
        weights=_weights_record(planned),
        method=MethodRecord(
            revision=planned.revision,
            logit_prior=logit_prior(method) if method is not None else None,
            transductive=planned.method.transductive,
            track=_comparison_group(planned),
            uses=base_runs.run_ids,
            name=paper_of(planned.method).name or None,
            defaults=default_hyperparameters(registry.declaration(planned.config.method), planned.config),
            selected=history.selected if history else {},
            paper=(paper := paper_record(planned.method, planned.config, planned.source.recipe_table)),
            extended_recipe=paper_of(planned.method).recipe.get(planned.source.recipe_table) if paper is None else None,
        ),
        metrics=evaluation.metrics,
        **evaluation.about_images,
        validation_curve=_validation_record(planned, options, method, history) if method and history else None,
        experts=experts_record(method.network) if method is not None else None,
        curve=[CurvePoint(one.stage, one.epoch, one.lr, one.loss) for one in (history.curve if history else ())],
        cost=_cost(planned, method, history, base_runs, evaluation) if method and history else None,
        tuning=dict(options.tuning) if options.tuning else None,
        provenance=provenance(planned.device, started),
    )


def _comparison_group(planned: PlannedRun) -> str | None:
    """The kind of runs to compare a run with; None: networks trained from scratch."""
    if planned.config.train == "head":
        return "linear probing"
    return planned.method.comparison_group or ("pre-trained network" if planned.resolved.weights is not None else None)


def _weights_record(planned: PlannedRun) -> WeightsRecord | None:
    weights = planned.resolved.weights
    return None if weights is None else WeightsRecord(file=weights.file.name, sha256=weights.sha256)


def _validation_record(
    planned: PlannedRun, options: RunOptions, method: Method, history: History
) -> ValidationRecord | None:
    if options.pruning is None or not history.validation_curve:
        return None
    recipe = planned.resolved.recipe
    stages = plan(stages_of(method, recipe), recipe)
    return ValidationRecord(
        metric=options.pruning.objective,
        values=history.validation_curve,
        first=settled(stages),
        epochs=sum(stage.epochs for stage in stages),
    )


def _cost(planned: PlannedRun, method: Method, history: History, base_runs: BaseRuns, evaluation: Evaluation) -> Cost:
    parameters, operations = count_parameters(method.network), multiply_adds(method, planned.input_shape)
    if planned.features is not None:
        encoder = planned.features.encoder
        parameters += encoder.num_parameters
        operations += multiply_adds_of(encoder, planned.data.shape, planned.device)
    return Cost(
        parameters=parameters,
        multiply_adds=operations,
        training_seconds=history.seconds + base_runs.seconds,
        training_images_per_second=history.images / history.seconds if history.seconds else None,
        evaluation_images_per_second=evaluation.images_per_second,
        training=history.execution,
        evaluation=evaluation.execution,
        divisions=history.divisions,
        peak_memory_bytes=peak_memory(planned.device),
        peak_memory_of="device" if planned.device.type == "cuda" else "process",
    )
