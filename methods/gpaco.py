"""GPaCo: generalised parametric contrastive learning, without a momentum encoder."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ltbench.config.recipes.augmentations import CIFAR_AUTOAUGMENT_CUTOUT, IMAGENET_BLURRED, IMAGENET_RANDAUGMENT
from ltbench.method import (
    BackboneFactory,
    Batch,
    Choice,
    Claim,
    ClassPrior,
    DatasetDefaults,
    Loss,
    Method,
    MethodConfig,
    Paper,
    Progress,
    Range,
)
from ltbench_methods.paco import Queue, larger_label, paco_loss


class GPaCo(Method):
    """PaCo with one network for both views: both are anchors, both are classified, and gradients reach both.

    Cui et al. (TPAMI 2023). The loss is PaCo's, over twice as many anchors; the queue holds the second view's past
    features. The projection is three linear layers without batch norm, and each view passes the network by itself,
    both as in the authors' code. Departures are PaCo's: the queue starts with random vectors of no class, where theirs
    have random labels, and mixed images wait in it under the label with the larger share. For CIFAR-100-LT the
    authors' repository has no script: the temperature 0.05 is PaCo's, the rate 0.1 of ``--recipe paper`` has no source
    there, and the script for the balanced CIFAR-100 with ResNet-50 has 0.07 and 0.05.
    """

    class Config(MethodConfig):
        """Weights of the contrast and the size of its memory."""

        alpha: float = Field(0.01, ge=0, description="weight of an image of the same class; the class centre has 1")
        temperature: float = Field(0.05, gt=0, description="of the similarities between images")
        queue: int = Field(1024, ge=1, description="length of the queue of past features")

        dataset_defaults: ClassVar[DatasetDefaults] = {
            "imagenet-lt": {"alpha": 0.045, "temperature": 0.2, "queue": 8192},
            "inaturalist2018": {"alpha": 0.05, "temperature": 0.2, "queue": 8192},
            "places-lt": {"alpha": 0.02, "temperature": 0.2, "queue": 8192},
        }
        space: ClassVar[Mapping[str, Range | Choice]] = {
            "alpha": Range(0.005, 0.1, log=True),
            "temperature": Range(0.05, 0.3, log=True),
        }

    family = "contrastive"
    revision = 1
    views = ("train", "contrast")
    couples_batch = True
    gathers_across_processes = True
    config: Config
    paper = Paper(
        title="Generalized Parametric Contrastive Learning",
        authors="Jiequan Cui and Zhisheng Zhong and Zhuotao Tian and Shu Liu and Bei Yu and Jiaya Jia",
        venue="IEEE Transactions on Pattern Analysis and Machine Intelligence",
        year=2023,
        claims=(
            "GPaCo|ImageNet-LT|256|ResNet-50|400",
            Claim(
                "GPaCo|ImageNet-LT|256|ResNeXt-50-32x4d|400",
                differs=("the authors' alpha is 0.05 there, their rate 0.06, and RandAugment has three operations",),
            ),
            "GPaCo|iNaturalist-2018|500|ResNet-50|400",
        ),
        recipes={
            "cifar": {
                "epochs": 400,
                "batch_size": 128,
                "lr": 0.1,
                "nesterov": False,
                "weight_decay": 5e-4,
                "milestones": (0.8, 0.9),
                "warmup": 0.025,
                "augment": CIFAR_AUTOAUGMENT_CUTOUT,
                "contrast": {
                    "crop": (0.2, 1.0),
                    "flip": True,
                    "jitter": (0.4, 0.4, 0.4, 0.1),
                    "jitter_chance": 0.8,
                    "grey": 0.2,
                    "blur": 0.2,
                },
                "head": "linear",
            },
            "imagenet-lt": {  # ResNet-50's; ResNeXt-50 has alpha 0.05, lr 0.06 and three operations of RandAugment
                "epochs": 400,
                "batch_size": 128,
                "lr": 0.04,
                "nesterov": False,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup": 0.025,
                "augment": IMAGENET_RANDAUGMENT,
                "contrast": {
                    "crop": (0.08, 1.0),
                    "flip": True,
                    "jitter": (0.4, 0.4, 0.4, 0.0),
                    "grey": 0.2,
                    "blur": 0.5,
                    "policy": "randaugment",
                },
                "head": "linear",
            },
            "inaturalist2018": {
                "epochs": 400,
                "batch_size": 128,
                "lr": 0.04,
                "nesterov": False,
                "weight_decay": 1e-4,
                "schedule": "cosine",
                "warmup": 0.025,
                "augment": IMAGENET_RANDAUGMENT,
                "contrast": IMAGENET_BLURRED,
                "head": "linear",
            },
        },
    )

    def __init__(self, build: BackboneFactory, prior: ClassPrior, config: Config) -> None:
        super().__init__(build, prior, config)
        features = self.network.num_features
        dimension = 32 if features <= 64 else 128
        self.projection = nn.Sequential(
            nn.Linear(features, features),
            nn.ReLU(inplace=True),
            nn.Linear(features, features),
            nn.ReLU(inplace=True),
            nn.Linear(features, dimension),
        )
        self.queue = Queue(config.queue, dimension)

    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The mean over both views of the loss against class centres, both views and queue."""
        encoded = [self._encode(view) for view in batch.views]
        compared, logits = torch.cat([own for own, _ in encoded]), torch.cat([own for _, own in encoded])
        features = torch.cat(
            [progress.gather(compared), self.queue.keys]
        )  # one process's views together, then the next's
        self.queue.offer(progress.gather(encoded[1][0].detach()), progress.gather(larger_label(batch)))

        def per_sample(labels: Tensor) -> Tensor:
            anchors: Tensor = paco_loss(
                features,
                torch.cat([progress.gather(labels.repeat(2)), self.queue.labels]),
                logits,
                self.log_prior,
                alpha=self.config.alpha,
                temperature=self.config.temperature,
                first=2 * progress.first,
            )
            return anchors.view(2, -1).mean(0)

        return batch.loss(per_sample)

    def after_step(self, progress: Progress) -> None:
        """The second view's features join the queue."""
        self.queue.advance()

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(images)
        return F.normalize(self.projection(features[0]).float(), dim=1), self.network.classify(features)[0]
