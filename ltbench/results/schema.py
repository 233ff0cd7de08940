"""The schema of a result, which is stored as one JSON file a run and is readable without ltbench."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ltbench.config import Frozen, Recipe, RunConfig
from ltbench.results import consistency
from ltbench.results.predictions import PackedPredictions
from ltbench.results.records import (
    Cost,
    CurvePoint,
    DataRecord,
    ExpertsRecord,
    MethodRecord,
    Metrics,
    ShiftTable,
    Status,
    ValidationRecord,
    WeightsRecord,
)

SCHEMA_VERSION: Literal[1] = 1


RunId = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]


class Result(Frozen):
    """One run."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: RunId
    status: Status
    reason: str | None = None
    config: RunConfig
    data: DataRecord
    weights: WeightsRecord | None = Field(None, description="pre-trained weights; null: trained from scratch")
    method: MethodRecord
    metrics: dict[str, Metrics] = Field(
        default_factory=dict, description="metrics of the test set and of a validation part"
    )
    outcomes: PackedPredictions | None = Field(None, description="packed predictions of the test images")
    shift: ShiftTable | None = Field(None, description="null where the method would have to adapt to each set anew")
    curve: list[CurvePoint] = Field(default_factory=list)
    validation_curve: ValidationRecord | None = Field(None, description="null for runs that are no trials with pruning")
    experts: ExpertsRecord | None = Field(
        None, description="null for one network, and in results older than this field"
    )
    cost: Cost | None = None
    tuning: dict[str, Any] | None = Field(None, description="trials that chose the hyper-parameters")
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        settings = {
            "config": vars(self.config),
            "config.recipe": vars(self.recipe) if self.recipe else {},
            "method.paper": vars(self.method.paper) if self.method.paper else {},
            "tuning": self.tuning,
            "provenance": self.provenance,
            "method.selected": self.method.selected,
        }
        trials = self.tuning.get("trials", 0) if self.tuning else 0
        if type(trials) is not int or trials < 0:
            raise ValueError("tuning.trials is no number of trials")
        consistency.check(settings, self.data, self.metrics, self.outcomes)
        return self

    @property
    def recipe(self) -> Recipe | None:
        """The recipe by which ltbench trained it; None where all that is known of it is a name."""
        return self.config.recipe if isinstance(self.config.recipe, Recipe) else None

    @property
    def test(self) -> Metrics | None:
        """The figures on the test set, if the run is done."""
        return self.metrics.get("test")
