"""The one file that a contributor reads: what a long-tailed method is.

Only ``forward`` must be written. Everything else has a default that fits one network with one head:

    class CrossEntropy(Method):
        def forward(self, batch, progress):
            return batch.loss(lambda labels: cross_entropy(self.network(batch.images), labels))

The training loop owns devices, precision, optimiser, schedule, checkpoints and logging; a method touches none of
them, and no files. All of a method's state is parameters and buffers, so it is saved and resumed by itself. A
parameter that ``__init__`` freezes and a module that it puts in eval mode (a teacher) stay so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, final

from torch import Tensor, nn

from ltbench.config import Recipe, RunConfig
from ltbench.method.batch import Batch, Loss
from ltbench.method.method_config import MethodConfig
from ltbench.method.mixing import Mixing, mixed
from ltbench.method.sampler import Sampler, Shuffled, class_balanced
from ltbench.method.stage import Progress, Stage
from ltbench.models.experts import ExpertNetwork


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


def base_run(run: RunConfig, method: str, **hyperparameters: Any) -> RunConfig:
    """The run of another method that one starts from: same data, recipe, seed and mixing.

    Args:
        run: of the method that starts from it.
        method: to start from.
        hyperparameters: of that method; mixing is taken over unless given.
    """
    mixing = {name: value for name, value in run.hyperparameters.items() if name in Mixing.model_fields}
    return run.replace(method=method, hyperparameters={**mixing, **hyperparameters})


class StageData(Protocol):
    """What a method may look at when a stage begins."""

    labels: Tensor
    """(N,) of the stage's images; -1 where unlabelled."""

    def eval_batches(self) -> Iterator[Batch]:
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
    revision: ClassVar[int | None] = None
    """Raise it when results change. None: a hash of the method's file, so that any edit counts as a change."""
    views: ClassVar[tuple[str, ...]] = ("train",)
    """The views of a batch, of the kinds in ``Recipe.views``: "train" as the recipe augments, "contrast" stronger,
    "plain" not augmented."""
    head: ClassVar[str | None] = None
    """The classifier, linear or cosine; None: the recipe's."""
    couples_batch: ClassVar[bool] = False
    """Whether the loss couples the samples of a batch, so that gradients cannot be accumulated over parts."""
    gathers_across_processes: ClassVar[bool] = False
    """Whether a coupled loss gets other processes' samples by ``progress.gather``; if not, it needs one process."""
    transductive: ClassVar[bool] = False
    """Whether it adapts to unlabelled test images; such results stand in a table of their own."""
    comparison_group: ClassVar[str | None] = None
    """Whom to compare it with, if not with networks that are trained from scratch: a table of its own."""
    compiles: ClassVar[bool] = True
    """Whether ``forward`` compiles whole (``torch.compile(fullgraph=True)``)."""

    log_prior: Tensor

    def __init_subclass__(cls) -> None:
        """Refuse what would be ignored: predictions are stored by expert, so that they can be combined anew."""
        if "predict" in cls.__dict__:
            raise TypeError(f"{cls.__name__} overrides predict; override experts or combine, of which it is made")
        if "paper" in cls.__dict__:
            raise TypeError(f"{cls.__name__}.paper is not read; what is published stands in the TOML file beside it")

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

    def prepare(self, batch: Batch, progress: Progress) -> Batch:
        """Change a batch before the step; mixes its images where the configuration says so. Sees the whole batch."""
        return mixed(batch, self.config, self.prior.counts, progress.run_fraction, progress.generator)

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The training loss of a batch."""
        raise TypeError(f"{type(self).__name__} must define forward(self, batch, progress)")

    def after_step(self, progress: Progress) -> None:
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
