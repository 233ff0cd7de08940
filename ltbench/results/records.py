"""The records that a result consists of: metrics, data, method, cost, training curve."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from ltbench.config import Fraction, Frozen, NonNegative, Recipe

Status = Literal["done", "failed", "interrupted", "pruned"]
"""pruned: a trial of a search that ended early, since validation images said that it would not be the best."""


TestPrior = Literal["unknown", "known", "estimated"]


LOWER_IS_BETTER = {"nll", "brier", "ece", "mce", "overconfidence", "adaptive_ece", "classwise_ece"}
"""The metrics of which less is better."""


Percent = Annotated[float, Field(ge=0, le=100)]


Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number of things, small enough that every reader of JSON has it exactly."""


Positive = Annotated[int, Field(ge=1, le=2**53)]
"""The same, of which there is at least one."""


class BinTable(Frozen):
    """The reliability table: 15 bins of equal width, (lower, upper]."""

    count: list[Count] = Field(min_length=1)
    confidence: list[Fraction]
    accuracy: list[Fraction]


class FittedFor(Frozen):
    """The class prior that a temperature is fitted for, and the images that it is fitted on."""

    prior: str = Field(
        "validation",
        description="balanced or test: those of the test set; validation: those of the validation images, as in "
        "results of older versions; or of a shifted test set, by its name",
    )
    validation_images: Count | None = None
    effective_images: NonNegative | None = Field(
        None, description="number of equally weighted images that the weighted ones are worth"
    )
    classes_without_images: Count | None = Field(
        None, description="number of classes without validation images; the classes with the fewest have their weight"
    )
    estimator: Count = Field(
        1, description="revision of what fits it; 1 in older results, whose temperatures are others"
    )


class Metrics(Frozen):
    """Metrics of one set of images. Accuracies and calibration errors are percentages, 0 to 100."""

    top1: Percent
    macro: Percent
    many: float | None = Field(ge=0, le=100, description="mean class accuracy; null where the group has no class")
    medium: float | None = Field(ge=0, le=100)
    few: float | None = Field(ge=0, le=100)
    worst_class: Percent
    nll: NonNegative
    brier: float = Field(ge=0, le=2.0001)
    ece: Percent
    mce: Percent
    overconfidence: Percent
    adaptive_ece: Percent
    classwise_ece: Percent
    temperature_scaled: dict[str, float | FittedFor] | None = Field(
        None,
        description="temperature, the calibration figures of logits that are divided by it, and fitted_for",
    )
    bins: BinTable
    correct: list[Count] = Field(description="images classified correctly, by class")
    total: list[Count] = Field(description="images, by class")
    mean_probability: list[Fraction] = Field(description="mean predicted distribution of the combined prediction")
    expert_mean_probability: list[list[Fraction]] = Field(description="the same for every expert")

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
    prior_error: list[Fraction | None] = Field(
        default_factory=list, description="total variation distance of an estimated prior to the true one, 0 to 1"
    )
    images: list[Count] = Field(default_factory=list)
    classes: list[Count] = Field(default_factory=list, description="number of classes that have images")
    top1: list[Percent] = Field(default_factory=list)
    macro: list[Percent] = Field(default_factory=list, description="mean accuracy of the classes that have images")
    many: list[Percent | None] = Field(default_factory=list)
    medium: list[Percent | None] = Field(default_factory=list)
    few: list[Percent | None] = Field(default_factory=list)
    ece: list[Percent] = Field(default_factory=list)
    ece_floor: list[Percent] = Field(
        default_factory=list,
        description="noise floor of the ECE; none in older results",
    )
    mce: list[Percent] = Field(default_factory=list)
    nll: list[NonNegative] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_entry_a_row(self) -> Self:
        lengths = {name: len(column) for name, column in vars(self).items()}
        if not lengths["ece_floor"]:  # of a result older than this column
            del lengths["ece_floor"]
        if len(set(lengths.values())) > 1:
            raise ValueError("the columns have different numbers of entries")
        return self


class PaperRecord(Frozen):
    """The paper of the method, and how its authors train it on such data."""

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
        default_factory=dict, description="by claim: hyper-parameters of this run that differ, in words"
    )
    checkpoint: str | None = Field(None, description="which epoch's weights its authors report, if known")
    draw: str | None = Field(None, description="whose draw of images its authors' long-tailed CIFAR has, if known")
    recipe: Recipe | None = Field(None, description="recipe of its authors, for data of this kind")


class DataRecord(Frozen):
    """The data that the run was trained and tested on."""

    fingerprints: dict[str, str]
    folder: str | None = Field(None, description="name of the user's own folder of images, if they are from one")
    labels: str | None = Field(None, description="name of the table that --labels gave; null: none was given")
    label_columns: str | None = Field(None, description="its columns, as --label-columns gave them")
    classes: list[str] = Field(min_length=1)
    counts: list[Count] = Field(description="training images by class, validation part included")
    trained_on: list[Count] = Field(description="training images by class, without the validation part")
    shots: dict[str, Count] = Field(description="the rule: many > many, few < few")
    groups: dict[str, list[Count]] = Field(description="class labels of each shot group")
    without_validation: list[Count] = Field(description="classes too small to give a validation image")
    mean: tuple[float, ...] | None = Field(None, description="mean of each channel, subtracted from pixels in [0, 1]")
    std: tuple[float, ...] | None = Field(None, description="standard deviation of each channel")
    streamed: bool = Field(
        False, description="whether images stay files; evaluation then resizes with a margin and crops the centre"
    )


class WeightsRecord(Frozen):
    """The pre-trained weights that a network starts from."""

    file: str = Field(description="name of the file")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class MethodRecord(Frozen):
    """The method that made the predictions."""

    revision: str
    logit_prior: float | None = Field(description="exponent of the training prior left in the logits")
    transductive: bool
    track: str | None = Field(None, description="comparison group, if not networks trained from scratch")
    uses: dict[str, str] = Field(description="ids of the runs that it starts from")
    name: str | None = Field(None, description="what papers call the method; null in older results")
    defaults: dict[str, Any] | None = Field(
        None, description="hyper-parameters of the method on this data set where a run sets none; null in older results"
    )
    selected: dict[str, float] = Field(default_factory=dict, description="parameters chosen on the validation images")
    paper: PaperRecord | None = None
    extended_recipe: Recipe | None = Field(
        None, description="authors' recipe of the method that one without a paper of its own extends"
    )

    @property
    def authors_recipe(self) -> Recipe | None:
        """How the authors train the method, or that which it extends, on such data; None where that is not known."""
        return self.paper.recipe if self.paper is not None else self.extended_recipe


class BatchSplit(Frozen):
    """How training batches were split over processes and gradient-accumulation steps."""

    processes: Positive
    accumulate: Positive = Field(description="gradient-accumulation steps per batch")
    batch_norm_images: Count | None = Field(
        description="smallest number of images per group of batch-norm statistics; null without batch norm"
    )


class ExpertsRecord(Frozen):
    """How several experts share the backbone, by the names of its modules that have parameters."""

    count: Positive
    shared: list[str] = Field(description="modules that all experts share; none for complete networks")
    own: list[str] = Field(description="modules that each expert has for itself; none for complete networks")

    def __str__(self) -> str:
        if not self.shared:
            return f"{self.count} complete networks"
        return f"{self.count}, which share {_in_words(self.shared)}; each has its own {_in_words(self.own)}"


def _in_words(names: list[str]) -> str:
    """A list of names; more than two in a row whose numbers follow each other as "blocks.0 to blocks.8"."""
    rows: list[list[str]] = []
    for name in names:
        stem, digits = re.fullmatch(r"(.*?)(\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
        if rows and digits and digits != "0" and rows[-1][-1] == f"{stem}{int(digits) - 1}":
            rows[-1].append(name)
        else:
            rows.append([name])
    return ", ".join(f"{row[0]} to {row[-1]}" if len(row) > 2 else ", ".join(row) for row in rows)


class Cost(Frozen):
    """Time, memory and size of the run."""

    parameters: Count
    multiply_adds: Count = Field(description="multiply-adds of one image through all experts")
    training_seconds: NonNegative | None = Field(
        description="training time, with the runs that it starts from; null for imported weights"
    )
    training_images_per_second: NonNegative | None
    evaluation_images_per_second: NonNegative
    training: str | None = Field(None, description="how steps were carried out (eager, compiled), and why not faster")
    evaluation: str | None = Field(None, description="how the network was run, e.g. with batch norm folded")
    divisions: list[BatchSplit] = Field(
        default_factory=list,
        description="how batches were split; several where training resumed with other processes",
    )
    peak_memory_bytes: Count | None = Field(description="null where the system does not tell")
    peak_memory_of: Literal["device", "process"] = Field(
        description="device: of this run; process: of the process so far, earlier runs included"
    )

    @property
    def divided(self) -> bool:
        """Whether batches were split at all."""
        return any(one.processes * one.accumulate > 1 for one in self.divisions)


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class CurvePoint:
    """Training loss of an epoch; with slots: as models, the points would be half of a result in memory."""

    stage: str
    epoch: Count
    lr: NonNegative
    loss: float


class ValidationRecord(Frozen):
    """What was measured on validation images while a trial of a search trained that may be pruned."""

    metric: str = Field(description="the metric that the search optimises")
    values: dict[Count, float] = Field(description="by number of epochs trained")
    first: Count = Field(description="number of epochs trained before the first of them, from which trials are pruned")
    epochs: Count = Field(description="number of epochs of all stages, if it is not pruned")
