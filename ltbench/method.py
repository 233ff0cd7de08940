"""The one file that a contributor reads: what a long-tailed method is.

Only ``forward`` must be written. Everything else has a default that fits one network with one head:

    class CrossEntropy(Method):
        def forward(self, batch, at):
            return batch.loss(lambda labels: cross_entropy(self.network(batch.images), labels))

The training loop owns devices, precision, optimiser, schedule, checkpoints and logging; a method touches none of
them, and no files. All of a method's state is parameters and buffers, so it is saved and resumed by itself. A
parameter that ``__init__`` freezes and a module that it puts in eval mode (a teacher) stay so.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, final

import numpy as np
import torch
from torch import Tensor, nn

from ltbench import draws
from ltbench.config import Recipe, RunConfig
from ltbench.mixing import Mixing, mixed
from ltbench.models.experts import ExpertNetwork
from ltbench.paper import Claim as Claim
from ltbench.paper import Paper as Paper


@dataclass(frozen=True)
class Range:
    """A search range of numbers, both ends included."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """A search range of listed values."""

    options: tuple[Any, ...]


DatasetDefaults = Mapping[str | tuple[str, float], Mapping[str, Any]]
"""Hyper-parameters by data set, or by data set and imbalance ratio."""


class MethodConfig(Mixing):
    """The hyper-parameters that every method has, those of mixing; a method's own ``Config`` adds to them."""

    dataset_defaults: ClassVar[DatasetDefaults] = {}
    """The authors' values where they depend on the data set. The key is the data set's name, or the name and the
    imbalance ratio for what holds at that ratio only: ``{"cifar10-lt": {...}, ("cifar10-lt", 50): {...}}``."""
    space: ClassVar[Mapping[str, Range | Choice]] = {"mixup": Range(0.0, 1.0)}
    """What ``ltbench tune`` searches, by hyper-parameter."""

    @classmethod
    def defaults_for(cls, dataset: str, imbalance_ratio: float | None) -> dict[str, Any]:
        """The authors' values for a data set; those for its imbalance ratio come before those for every ratio.

        Args:
            dataset: its name.
            imbalance_ratio: of the run; None for a data set that is used as it is.
        """
        at_ratio = cls.dataset_defaults.get((dataset, imbalance_ratio), {}) if imbalance_ratio is not None else {}
        return {**cls.dataset_defaults.get(dataset, {}), **at_ratio}


@dataclass(frozen=True)
class ClassPrior:
    """The class frequencies of the images that a run trains on."""

    counts: Tensor
    """(C,) int64, each at least one."""

    @property
    def probabilities(self) -> Tensor:
        """(C,) float32, summing to one."""
        return (self.counts.double() / self.counts.sum()).float()

    @property
    def log(self) -> Tensor:
        """(C,) float32 log probabilities."""
        return (self.counts.double() / self.counts.sum()).log().float()


@dataclass
class Loss:
    """A loss as a sum and the weight to divide it by, so that unequal parts of a batch add up rightly."""

    total: Tensor
    weight: Tensor | float

    @classmethod
    def of(cls, per_sample: Tensor) -> "Loss":
        """The plain mean of one value a sample, (B,)."""
        if per_sample.ndim != 1:
            raise TypeError(f"a loss needs one value a sample, (B,), and got shape {tuple(per_sample.shape)}")
        return cls(per_sample.sum(), float(per_sample.shape[0]))

    @property
    def mean(self) -> Tensor:
        """What is minimised."""
        return self.total / self.weight


@dataclass
class Batch:
    """The images of one step, normalised and on the device."""

    views: tuple[Tensor, ...]
    """One (B, channels, height, width) tensor for each view of the method or the stage."""
    indices: Tensor
    """(B,) which training images these are."""
    labels: Tensor
    """(B,) int64; -1 where the stage sees unlabelled images."""
    mixed_labels: Tensor | None = None
    """(B,) labels of the images mixed in, if any."""
    weight: Tensor | None = None
    """Share of ``labels`` beside ``mixed_labels``: scalar or (B,)."""
    streams: dict[str, "Batch"] = field(default_factory=dict)
    """Batches of the method's further samplers, as many images each."""

    @property
    def images(self) -> Tensor:
        """The first view."""
        return self.views[0]

    def loss(self, per_sample: Callable[[Tensor], Tensor], class_weights: Tensor | None = None) -> Loss:
        """Apply a loss, sharing it between the two labels of mixed images.

        Args:
            per_sample: from labels (B,) to values (B,).
            class_weights: (C,) what a sample of each class counts; the mean is then divided by their sum.
        """
        values, weights = self._weighted(per_sample, self.labels, class_weights)
        if self.mixed_labels is not None and self.weight is not None:
            others, other_weights = self._weighted(per_sample, self.mixed_labels, class_weights)
            values = self.weight * values + (1 - self.weight) * others
            if weights is not None and other_weights is not None:
                weights = self.weight * weights + (1 - self.weight) * other_weights
        loss = Loss.of(values)
        return loss if weights is None else Loss(loss.total, weights.sum())

    @staticmethod
    def _weighted(
        per_sample: Callable[[Tensor], Tensor], labels: Tensor, class_weights: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        values = per_sample(labels)
        if class_weights is None:
            return values, None
        weights = class_weights[labels]
        return weights * values, weights


@dataclass(frozen=True)
class Schedule:
    """The learning rate of a stage that does not follow the recipe's: base rate and shape over the stage."""

    lr: float
    shape: Literal["constant", "cosine"] = "cosine"


@dataclass(frozen=True)
class Stage:
    """A part of training in which nothing changes, so that its step can be compiled once."""

    name: str = "train"
    epochs: int | None = None
    """Length; None: what is left of the recipe's epochs."""
    trains: tuple[str, ...] = ("",)
    """Prefixes of the names of the parameters that train; the rest is frozen."""
    frozen_norms: Literal["eval", "train"] = "eval"
    """Whether frozen batch norms keep their running statistics ("eval") or go on updating them ("train")."""
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    """Learning-rate factors by parameter-name prefix; the longest matching prefix counts."""
    schedule: Schedule | None = None
    """None: the recipe's schedule, which runs on through all stages that follow it."""
    optimiser: Literal["new", "carried"] = "carried"
    """Whether the parameters that trained in the stage before keep their momentum or all start afresh."""
    views: tuple[str, ...] | None = None
    """The views of a batch in this stage; None: the method's."""
    source: Literal["train", "unlabelled-test"] = "train"
    """Unlabelled test images make a method transductive; it must say so."""


def deferred(recipe: Recipe, share: float = 0.8) -> tuple[Stage, ...]:
    """Two stages: "train" for ``share`` of the recipe's epochs, and "deferred" for the rest.

    Each has one epoch at least; there is no second one where the share is 1 or the recipe has a single epoch. For what
    begins late, such as deferred re-weighting (DRW): Cao et al. (NeurIPS 2019), algorithm 1.
    """
    last = recipe.epochs if share == 1 else recipe.epochs - 1
    first = max(1, min(recipe.epochs_of(share), last))
    return (Stage(epochs=first), Stage("deferred")) if first < recipe.epochs else (Stage(epochs=first),)


@dataclass
class Progress:
    """Where training is. For ``forward``, which must compile whole: ``fraction``, ``gather`` and ``first`` only."""

    seed: int
    stage: Stage
    epoch: int
    """Within the stage."""
    step: int
    """Within the epoch."""
    fraction: Tensor
    """Scalar: share of the stage that is done."""
    share: float = 0.0
    """Share of all training that is done; for ``prepare``, not for ``forward``."""
    gather: Callable[[Tensor], Tensor] = lambda tensor: tensor
    """Concatenate a tensor over processes along its first axis, gradients too; the identity in one process."""
    first: int = 0
    """Where this process's images begin among those of all; they follow one another. 0 in one process."""

    def generator(self, stream: str) -> np.random.Generator:
        """A private generator for one purpose in this step."""
        return draws.numpy_generator(self.seed, stream, self.stage.name, self.epoch, self.step)


def base_run(run: RunConfig, method: str, **hyperparameters: Any) -> RunConfig:
    """The run of another method that one starts from: same data, recipe, seed and mixing.

    Args:
        run: of the method that starts from it.
        method: to start from.
        hyperparameters: of that method; mixing is taken over unless given.
    """
    mixing = {name: value for name, value in run.hyperparameters.items() if name in Mixing.model_fields}
    return run.replace(method=method, hyperparameters={**mixing, **hyperparameters})


class Sampler(Protocol):
    """Orders an epoch."""

    def __call__(self, generator: np.random.Generator) -> Tensor:
        """Indices of training images, in order; the length of the "main" one sets the epoch."""


@dataclass(frozen=True)
class Shuffled:
    """Every image once, in random order."""

    images: int

    def __call__(self, generator: np.random.Generator) -> Tensor:
        """(N,) a permutation."""
        return torch.from_numpy(generator.permutation(self.images))


@dataclass(frozen=True)
class Weighted:
    """As many images as there are weights, drawn with replacement, in proportion to the weights."""

    weights: Tensor

    def __call__(self, generator: np.random.Generator) -> Tensor:
        """(N,) draws."""
        chances = self.weights.double().numpy()
        return torch.from_numpy(generator.choice(len(chances), len(chances), p=chances / chances.sum()))


def class_balanced(labels: Tensor) -> Weighted:
    """As many images as there are, each class with the same chance."""
    return Weighted(1 / torch.bincount(labels)[labels].double())


class StageData(Protocol):
    """What a method may look at when a stage begins."""

    labels: Tensor
    """(N,) of the stage's images; -1 where unlabelled."""

    def plain(self) -> Iterator[Batch]:
        """All of the stage's images once, in order, without augmentation."""


class BackboneFactory(Protocol):
    """Builds the run's network, randomly initialised unless the run asks for pre-trained weights."""

    def __call__(
        self, experts: int = 1, *, width: float = 1.0, head: str | None = None, shared: bool = True
    ) -> ExpertNetwork:
        """A network with this many experts.

        Args:
            experts: how many.
            width: of the experts' own stages: 1 or 0.75, as published for RIDE and SADE.
            head: linear or cosine; None: the recipe's.
            shared: whether the experts share the early stages; if not, each is a complete network.
        """


class Method(nn.Module):
    """A long-tailed method: its network, its loss and its prediction rule.

    Args:
        build: makes networks.
        prior: class frequencies of the training images.
        config: hyper-parameters, an instance of this class's ``Config``.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    family: ClassVar[str] = "other"
    """What kind of method it is, e.g. "loss" or "experts"."""
    paper: ClassVar[Paper | None] = None
    revision: ClassVar[int | None] = None
    """Raise it when results change. None: a hash of the method's file, so that any edit counts as a change."""
    views: ClassVar[tuple[str, ...]] = ("train",)
    """The views of a batch, of the kinds in ``Recipe.views``: "train" as the recipe augments, "contrast" stronger,
    "plain" not augmented."""
    head: ClassVar[str | None] = None
    """The classifier, linear or cosine; None: the recipe's."""
    coupled: ClassVar[bool] = False
    """Whether the loss couples the samples of a batch, so that gradients cannot be accumulated over parts."""
    gathers: ClassVar[bool] = False
    """Whether a coupled loss gets the samples of other processes by ``at.gather``; if not, it needs one process."""
    transductive: ClassVar[bool] = False
    """Whether it adapts to unlabelled test images; such results stand in a table of their own."""
    track: ClassVar[str | None] = None
    """Whom to compare it with, if not with networks that are trained from scratch: a table of its own."""
    compiles: ClassVar[bool] = True
    """Whether ``forward`` compiles whole (``torch.compile(fullgraph=True)``)."""

    log_prior: Tensor

    def __init_subclass__(cls) -> None:
        """Refuse what would be ignored: predictions are stored by expert, so that they can be combined anew."""
        if "predict" in cls.__dict__:
            raise TypeError(f"{cls.__name__} overrides predict; override experts or combine, of which it is made")

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: MethodConfig) -> None:
        super().__init__()
        self.config = config
        self.prior = prior
        self.register_buffer("log_prior", prior.log)
        self.network = self.make_network(build)

    def make_network(self, build: BackboneFactory) -> ExpertNetwork:
        """The network to train: one expert, unless a method says otherwise."""
        return build(head=self.head)

    @property
    def logit_prior(self) -> float | None:
        """Exponent of the training prior that is left in the logits of ``predict``.

        1 for cross entropy, 0 for balanced losses; None where it is not known, so that no correction for
        another test prior can be made.
        """
        return None

    @classmethod
    def uses(cls, run: RunConfig) -> dict[str, RunConfig]:
        """The finished runs that this one starts from, by a name of the method's choice."""
        return {}

    def start_from(self, runs: Mapping[str, "Method"]) -> None:
        """Take over weights from the runs of ``uses``; called once, before training."""

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """The stages of training; none for a method that only changes the prediction."""
        return (Stage(),)

    def begin(self, stage: Stage, data: StageData) -> None:
        """Prepare for a stage: re-initialise a head, compute class means. Not called again on resuming."""

    def samplers(self, labels: Tensor, stage: Stage) -> dict[str, Sampler]:
        """The order of the images: "main" sets the epoch, further ones give ``batch.streams``; CMO's where it is on."""
        tail = {"tail": class_balanced(labels)} if self.config.cmo else {}
        return {"main": Shuffled(len(labels)), **tail}

    def prepare(self, batch: Batch, at: Progress) -> Batch:
        """Change a batch before the step; mixes its images where the configuration says so. Sees the whole batch."""
        return mixed(batch, self.config, self.prior.counts, at.share, at.generator)

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """The training loss of a batch."""
        raise TypeError(f"{type(self).__name__} must define forward(self, batch, at)")

    def after_step(self, at: Progress) -> None:
        """Update what the optimiser does not: momentum encoders, queues. Runs without gradients."""

    def select(self, validation: StageData) -> Mapping[str, float]:
        """Choose post-hoc parameters on the validation images, after training; without gradients. Gives the choice."""
        return {}

    def experts(self, images: Tensor) -> Tensor:
        """The logits of every expert, (M, B, C); M = 1 for a single network."""
        return self.network.experts(images)

    def combine(self, experts: Tensor) -> Tensor:
        """The prediction (B, C) from the experts' logits (M, B, C): their mean."""
        return experts.mean(0)

    @final
    def predict(self, images: Tensor) -> Tensor:
        """(B, C) logits of a batch of normalised images: ``combine(experts(images))``."""
        return self.combine(self.experts(images))
