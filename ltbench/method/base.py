"""The base class of all methods: the one file to read before writing a method.

Only ``forward`` must be written. Everything else has a default that fits one network with one head:

    class CrossEntropy(Method):
        def forward(self, batch, progress):
            return batch.loss(lambda labels: cross_entropy(self.network(batch.images), labels))

The training loop owns devices, precision, optimiser, schedule, checkpoints and logging; a method touches none of
them, and no files. All of a method's state is parameters and buffers, so that it is saved and resumed without code of
its own. A parameter that ``__init__`` freezes and a module that it puts in eval mode (a teacher) stay so.

A method that overrides something need not repeat its type annotations. What is published about a method stands in a
TOML file of the same name beside it (``methods/balpoe.toml`` explains the keys); a method of a user's own needs none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, final

from torch import Tensor, nn

from ltbench.config import Recipe, RunConfig
from ltbench.method.batch import Batch, Loss
from ltbench.method.method_config import MethodConfig
from ltbench.method.mixing import mixed
from ltbench.method.sampler import Sampler, Shuffled, class_balanced
from ltbench.method.stage import Progress, Stage
from ltbench.models.experts import ExpertNetwork

_MOVED = {
    "paper": "what is published stands in the TOML file beside the method's",
    "coupled": "it is called couples_batch",
    "gathers": "it is called gathers_across_processes",
    "track": "it is called comparison_group",
    "space": "a search range stands on its hyper-parameter in Config",
    "dataset_defaults": "write [defaults.DATASET] into the TOML file beside the method's",
}
"""Attributes of older versions, which would be ignored in silence."""


@dataclass(frozen=True)
class ClassPrior:
    """The class frequencies of the training images."""

    counts: Tensor
    """(C,) int64, number of images of each class, at least one."""

    @property
    def probabilities(self) -> Tensor:
        """(C,) float32 class frequencies; they sum to one."""
        return (self.counts.double() / self.counts.sum()).float()

    @property
    def log(self) -> Tensor:
        """(C,) float32 log probabilities."""
        return (self.counts.double() / self.counts.sum()).log().float()


def base_run(run: RunConfig, method: str, **hyperparameters: Any) -> RunConfig:
    """The run of another method that a run starts from: same data, recipe, seed, mixing and SAM.

    Args:
        run: settings of the run that starts from it.
        method: name of the other method.
        hyperparameters: hyper-parameters of the other method; those that every method has are the run's unless given.
    """
    common = {name: value for name, value in run.hyperparameters.items() if name in MethodConfig.model_fields}
    return run.replace(method=method, hyperparameters={**common, **hyperparameters})


class StageData(Protocol):
    """The images of a stage, for a method that looks at them before the stage begins."""

    labels: Tensor
    """(N,) int64 class indices; -1 for unlabelled images."""

    def eval_batches(self) -> Iterator[Batch]:
        """Batches of all images, each once, in order, without augmentation."""


class BackboneFactory(Protocol):
    """Builds the run's network, randomly initialised unless the run asks for pre-trained weights."""

    def __call__(
        self, experts: int = 1, *, width: float = 1.0, head: str | None = None, shared: bool = True
    ) -> ExpertNetwork:
        """Build a network.

        Args:
            experts: number of experts.
            width: factor on the channels of the experts' own stages: 1, or 0.75 as published for RIDE and SADE.
            head: kind of classifier, linear or cosine; None: the recipe's.
            shared: whether the experts share the early stages; if not, each is a complete network.
        """


class Method(nn.Module):
    """A long-tailed method: its network, its loss and its prediction rule.

    Args:
        build: builds the run's network.
        prior: class frequencies of the training images.
        config: hyper-parameters, an instance of this class's ``Config``.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    family: ClassVar[str] = "other"
    """Kind of method, e.g. "loss" or "experts"."""
    revision: ClassVar[int | None] = None
    """Raise it when results change. None: a hash of the method's file, so that any edit counts as a change."""
    views: ClassVar[tuple[str, ...]] = ("train",)
    """The views of an image in a batch: "train" as the recipe augments, "contrast" stronger, "plain" not augmented."""
    head: ClassVar[str | None] = None
    """Kind of classifier, linear or cosine; None: the recipe's."""
    couples_batch: ClassVar[bool] = False
    """Whether the loss couples the samples of a batch, so that gradients cannot be accumulated over micro-batches."""
    gathers_across_processes: ClassVar[bool] = False
    """Whether a loss that couples the batch takes in other processes' samples, by ``progress.gather``."""
    transductive: ClassVar[bool] = False
    """Whether the method adapts to unlabelled test images; its results stand in a table of their own."""
    comparison_group: ClassVar[str | None] = None
    """The kind of methods to compare it with, in a table of their own; None: those that are trained from scratch."""
    trains_backbone: ClassVar[bool] = False
    """Whether the method is about the network's inner layers, so that a head on frozen features is nothing to it."""
    compiles: ClassVar[bool] = True
    """Whether ``forward`` compiles whole (``torch.compile(fullgraph=True)``)."""

    config: Any
    """Hyper-parameters, an instance of ``Config``."""
    log_prior: Tensor
    """(C,) log class frequencies of the training images."""

    def __init_subclass__(cls) -> None:
        """Refuse what would be ignored. Predictions are stored by expert, so that they can be combined anew."""
        if "predict" in cls.__dict__:
            raise TypeError(f"{cls.__name__} overrides predict; override experts or combine, of which it is made")
        for name in _MOVED.keys() & cls.__dict__.keys():
            raise TypeError(f"{cls.__name__}.{name} is not read; {_MOVED[name]}")

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
        """Exponent of the training prior that is left in the logits of ``predict``; a class attribute or a property.

        1 for cross entropy, 0 for balanced losses; None where it is not known, so that the logits cannot be corrected
        for another test prior.
        """
        return None

    @classmethod
    def uses(cls, run: RunConfig) -> dict[str, RunConfig]:
        """The finished runs that a run starts from, by a name of the method's choice."""
        return {}

    def start_from(self, runs: Mapping[str, "Method"]) -> None:
        """Copy weights from the runs of ``uses``; called once, before training."""

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """The stages of training; none for a method that changes the prediction only."""
        return (Stage(),)

    def begin(self, stage: Stage, data: StageData) -> None:
        """Prepare for a stage, e.g. re-initialise a head or compute class means. Not called again on resuming."""

    def samplers(self, labels: Tensor, stage: Stage) -> dict[str, Sampler]:
        """The samplers of an epoch: "main" sets its length, further ones give ``batch.streams``, e.g. CMO's "tail"."""
        tail = {"tail": class_balanced(labels)} if self.config.cmo else {}
        return {"main": Shuffled(len(labels)), **tail}

    def prepare(self, batch: Batch, progress: Progress) -> Batch:
        """Change a whole batch before the step: by default, mix its images as the hyper-parameters say."""
        return mixed(batch, self.config, self.prior.counts, progress.run_fraction, progress.generator)

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The training loss of a batch."""
        raise TypeError(f"{type(self).__name__} must define forward(self, batch, progress)")

    def after_step(self, progress: Progress) -> None:
        """Update what the optimiser does not, e.g. momentum encoders and queues; without gradients."""

    def select(self, validation: StageData) -> Mapping[str, float]:
        """Choose post-hoc parameters on the validation images, after training and without gradients; returns them."""
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
