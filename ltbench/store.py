"""The result of a run and the folder of results: one JSON file a run, written whole, readable without ltbench."""

import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from ltbench.atomic import write_text
from ltbench.config import Frozen, Recipe, RunConfig
from ltbench.errors import LtbenchError
from ltbench.outcomes import Outcomes

SCHEMA_VERSION: Literal[1] = 1
Status = Literal["done", "failed", "interrupted"]
TestPrior = Literal["unknown", "known", "estimated"]


class BinTable(Frozen):
    """The reliability table: 15 bins of equal width, (lower, upper]."""

    count: list[int]
    confidence: list[float]
    accuracy: list[float]


class FittedFor(Frozen):
    """Which class frequencies a temperature is fitted for, and on what."""

    prior: str = Field(
        "validation",
        description="balanced or test: those of the test set; validation: those of the validation images, as in "
        "results of older versions; or of a shifted test set, by its name",
    )
    validation_images: int | None = None
    effective_images: float | None = Field(
        None, description="that equally weighted images would be worth as much as the weighted ones"
    )
    classes_without_images: int | None = Field(
        None, description="of the target, whose weight the classes with the fewest validation images have instead"
    )


class Metrics(Frozen):
    """Figures of one test distribution. Accuracies and calibration errors are percentages, 0 to 100."""

    top1: float
    macro: float
    many: float | None = Field(description="mean class accuracy; null where the group has no class")
    medium: float | None
    few: float | None
    worst_class: float
    nll: float
    brier: float
    ece: float
    mce: float
    overconfidence: float
    adaptive_ece: float
    classwise_ece: float
    temperature_scaled: dict[str, float | FittedFor] | None = Field(
        None,
        description="temperature, the calibration figures of logits that are divided by it, and fitted_for",
    )
    bins: BinTable
    correct: list[int] = Field(description="images classified correctly, by class")
    total: list[int] = Field(description="images, by class")
    mean_probability: list[float] = Field(description="mean predicted distribution of the combined prediction")
    expert_mean_probability: list[list[float]] = Field(description="the same for every expert")

    @field_validator("temperature_scaled")
    @classmethod
    def _says_what_for(cls, scaled: dict[str, float | FittedFor] | None) -> dict[str, float | FittedFor] | None:
        """Older versions fitted temperatures for the frequencies of the validation images, and did not say so."""
        return scaled if scaled is None or "fitted_for" in scaled else {**scaled, "fitted_for": FittedFor()}


class ShiftTable(Frozen):
    """Figures on test sets with other class frequencies, drawn from the test set: one entry a row, column by column.

    Percentages, 0 to 100; null where a group has no class with images.
    """

    distribution: list[str] = Field(default_factory=list, description="uniform, forward-R or backward-R")
    prior: list[TestPrior] = Field(
        default_factory=list,
        description="what predictions were corrected by: nothing, the shifted set's class frequencies, or their "
        "estimate from its images without labels (transductive)",
    )
    prior_error: list[float | None] = Field(
        default_factory=list, description="of an estimated prior: total variation distance to the true one, 0 to 1"
    )
    images: list[int] = Field(default_factory=list)
    classes: list[int] = Field(default_factory=list, description="that have images")
    top1: list[float] = Field(default_factory=list)
    macro: list[float] = Field(default_factory=list, description="over the classes that have images")
    many: list[float | None] = Field(default_factory=list)
    medium: list[float | None] = Field(default_factory=list)
    few: list[float | None] = Field(default_factory=list)
    ece: list[float] = Field(default_factory=list)
    ece_floor: list[float] = Field(
        default_factory=list,
        description="that a perfectly calibrated model with the same confidences measures; none in older results",
    )
    mce: list[float] = Field(default_factory=list)
    nll: list[float] = Field(default_factory=list)


class PaperRecord(Frozen):
    """Where the method comes from, and how its authors train it on such data."""

    title: str
    authors: str
    venue: str
    year: int
    bibtex: str
    claims: list[str] = Field(
        description="what is published about the method with such hyper-parameters: the beginnings of the rows of "
        "published.csv, columns joined by |"
    )
    differs: dict[str, list[str]] = Field(
        default_factory=dict, description="by claim: hyper-parameters that this run has otherwise, in words"
    )
    checkpoint: str | None = Field(None, description="which epoch's weights its authors report, if known")
    draw: str | None = Field(None, description="whose draw of images its authors' long-tailed CIFAR has, if known")
    recipe: Recipe | None = Field(None, description="of its authors, for data of this kind")


class DataRecord(Frozen):
    """What the run was trained and tested on."""

    fingerprints: dict[str, str]
    classes: list[str]
    counts: list[int] = Field(description="training images by class, validation part included")
    trained_on: list[int] = Field(description="training images by class, without the validation part")
    shots: dict[str, int] = Field(description="the rule: many > many, few < few")
    groups: dict[str, list[int]] = Field(description="class labels of each shot group")
    without_validation: list[int] = Field(description="classes too small to give a validation image")
    mean: tuple[float, ...] | None = Field(None, description="of each channel, pixels in [0, 1]; subtracted from them")
    std: tuple[float, ...] | None = Field(None, description="likewise; divided by")
    streamed: bool = Field(
        False, description="whether images stay files, of which evaluation sees the centre, scaled with a margin"
    )


class MethodRecord(Frozen):
    """What produced the predictions."""

    revision: str
    logit_prior: float | None = Field(description="exponent of the training prior left in the logits")
    transductive: bool
    track: str | None = Field(None, description="whom to compare it with, if not with networks trained from scratch")
    uses: dict[str, str] = Field(description="run ids that it started from")
    selected: dict[str, float] = Field(default_factory=dict, description="chosen on the validation images")
    paper: PaperRecord | None = None


class Division(Frozen):
    """How the batches of training were divided."""

    processes: int
    accumulate: int = Field(description="parts of a process's share whose gradients were added up")
    batch_norm_images: int | None = Field(
        description="images of a full batch that shared batch-norm statistics, at least; null without batch norm"
    )


class Cost(Frozen):
    """What the run took."""

    parameters: int
    multiply_adds: int = Field(description="of one image through all experts")
    training_seconds: float | None = Field(
        description="with those of the runs that it starts from; null where others have trained the weights"
    )
    training_images_per_second: float | None
    evaluation_images_per_second: float
    training: str | None = Field(None, description="how steps were carried out (eager, compiled), and why not faster")
    evaluation: str | None = Field(None, description="how the network was run, e.g. with batch norm folded")
    divisions: list[Division] = Field(
        default_factory=list,
        description="how batches were divided, one after the other where it went on with other processes",
    )
    peak_memory_bytes: int | None = Field(description="null where the system does not tell")
    peak_memory_of: Literal["device", "process"] = Field(
        description="of the device in this run, or of the process so far, runs before it included"
    )

    @property
    def divided(self) -> bool:
        """Whether batches were divided at all."""
        return any(one.processes * one.accumulate > 1 for one in self.divisions)


class CurvePoint(Frozen):
    """Training loss of an epoch."""

    stage: str
    epoch: int
    lr: float
    loss: float


class Result(Frozen):
    """One run."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    status: Status
    reason: str | None = None
    config: RunConfig
    data: DataRecord
    method: MethodRecord
    metrics: dict[str, Metrics] = Field(default_factory=dict, description="of the test set, and of a validation part")
    outcomes: Outcomes | None = Field(None, description="of the test images")
    shift: ShiftTable | None = Field(None, description="null where the method would have to adapt to each set anew")
    curve: list[CurvePoint] = Field(default_factory=list)
    cost: Cost | None = None
    tuning: dict[str, Any] | None = Field(None, description="trials that chose the hyper-parameters")
    provenance: dict[str, Any]

    @property
    def test(self) -> Metrics | None:
        """The figures on the test set, if the run is done."""
        return self.metrics.get("test")


class Store:
    """A folder of results: ``<data set>/<method>/<run id>.json``.

    Args:
        folder: its root; made when the first result is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, config: RunConfig, run_id: str) -> Path:
        """Where the result of a run belongs."""
        return self.folder / config.dataset / config.method / f"{run_id}.json"

    def get(self, config: RunConfig, run_id: str) -> Result | None:
        """The stored result, whatever its status; None if there is none."""
        path = self.path(config, run_id)
        return read(path) if path.exists() else None

    def save(self, result: Result) -> Path:
        """Write a result, replacing one of the same run; but one that is done only by another that is done."""
        path = self.path(result.config, result.run_id)
        if result.status != "done" and path.exists() and read(path).status == "done":
            return path
        write(path, result)
        return path

    def check_writable(self) -> None:
        """Fail before the work rather than after it.

        Raises:
            LtbenchError: if results cannot be saved here.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise LtbenchError(
                f"results cannot be saved: {error.strerror}",
                where=self.folder.absolute(),
                hint="make the folder writable or choose another with --out",
            ) from None


def write(path: Path, result: Result) -> None:
    """Write a result file, whole or not at all."""
    write_text(path, result.model_dump_json(indent=1) + "\n")


def read(path: Path) -> Result:
    """Read a result file.

    Raises:
        LtbenchError: if it is damaged, of another schema, or no result at all.
    """
    try:
        return Result.model_validate_json(path.read_bytes())
    except OSError as error:
        raise LtbenchError(f"cannot read the result: {error.strerror}", where=path) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise LtbenchError(
            f"not a valid result: {place}: {first['msg']}",
            where=path,
            hint="restore the file, or delete it and run again",
        ) from None
