"""cRT: the classifier of a cross-entropy network, trained anew on balanced classes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ltbench.config import Recipe
from ltbench.config.recipes.augmentations import IMAGENET, INATURALIST
from ltbench.method import (
    Batch,
    Choice,
    Claim,
    DatasetDefaults,
    Loss,
    MethodConfig,
    Paper,
    Progress,
    Range,
    Sampler,
    Schedule,
    Stage,
    StageData,
    class_balanced,
)
from ltbench.method.losses import cross_entropy
from ltbench.method.second_stage import SecondStage
from ltbench.models.heads import reinitialise


class ClassifierRetraining(SecondStage):
    """Freeze the backbone of the CE run and train a new classifier on classes drawn alike.

    Kang et al. (ICLR 2020), "cRT": the long tail spoils the classifier more than the features. As in the published
    code the frozen batch norms go on updating their running statistics, now of balanced batches, the second stage
    starts at the rate of the first, and a linear head gets new weights that are uniform within 1 / sqrt(D).

    Departures: every image of a batch is of a class drawn at random, where the published sampler visits the classes
    in a shuffled cycle and takes four images at each visit; in expectation the two are the same. Mixing belongs to
    the first stage; the second sees images as they are. A cosine head, which the published code has not, gets new
    weights as it had at first. On Places-LT the published second stage has a rate of its own (0.1, batches of 256).
    """

    class Config(MethodConfig):
        """The second stage; mixing is that of the cross-entropy run."""

        epochs: int = Field(10, ge=1, description="of the second stage, beside the recipe's")

        dataset_defaults: ClassVar[DatasetDefaults] = {"inaturalist2018": {"epochs": 30}}
        space: ClassVar[Mapping[str, Range | Choice]] = {"epochs": Choice((5, 10, 20, 30)), "mixup": Range(0.0, 1.0)}

    family = "two stages"
    first = "ce"
    revision = 2
    config: Config
    paper = Paper(
        title="Decoupling Representation and Classifier for Long-Tailed Recognition",
        authors="Bingyi Kang and Saining Xie and Marcus Rohrbach and Zhicheng Yan and Albert Gordo and Jiashi Feng "
        "and Yannis Kalantidis",
        venue="International Conference on Learning Representations",
        year=2020,
        claims=(
            "Decouple (cRT-type)|CIFAR-100-LT|100|ResNet-32|200",
            "cRT|ImageNet-LT|256|ResNeXt-50-32x4d|90(+10 cRT/+5 LWS)",
            "cRT released model|ImageNet-LT|256|ResNeXt-50-32x4d|90+10",
            "cRT|ImageNet-LT|256|ResNet-50|180+10",
            "Decouple-IB-cRT|ImageNet-LT|256|ResNeXt-50-32x4d|90",
            "Decouple-IB-cRT|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            "Softmax / cRT|ImageNet-LT|256|ResNeXt-50-32x4d|200",
            *(Claim(f"cRT+mixup|CIFAR-100-LT|{ratio}|ResNet-32|200+10", {"mixup": ...}) for ratio in (10, 50, 100)),
            Claim("cRT+mixup|ImageNet-LT|256|ResNet-50|180+10", {"mixup": ...}),
            Claim("cRT+mixup|iNaturalist-2018|500|ResNet-50|see source", {"mixup": ...}),
        ),
        recipes={
            "imagenet-lt": {
                "epochs": 90,
                "batch_size": 512,
                "lr": 0.2,
                "nesterov": False,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup": 0,
                "augment": IMAGENET,
                "head": "linear",
            },
            "inaturalist2018": {
                "epochs": 90,
                "batch_size": 512,
                "lr": 0.2,
                "nesterov": False,
                "weight_decay": 1e-4,
                "schedule": "cosine",
                "warmup": 0,
                "augment": INATURALIST,
                "head": "linear",
            },
        },
        checkpoint="best epoch on the validation set",
    )

    @property
    def logit_prior(self) -> float:
        """0: the classifier has seen balanced classes only."""
        return 0.0

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """One, of the classifier."""
        return (
            Stage(
                "classifier",
                epochs=self.config.epochs,
                trains=("network.heads",),
                frozen_norms="train",
                schedule=Schedule(recipe.lr),
            ),
        )

    def begin(self, stage: Stage, data: StageData) -> None:
        """Forget the classifier of the first stage."""
        for head in self.network.heads:
            reinitialise(head)

    def samplers(self, labels: Tensor, stage: Stage) -> dict[str, Sampler]:
        """Every class with the same chance."""
        return {"main": class_balanced(labels)}

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """CE(z, y)."""
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))
