"""H2T: the classifier of a cross-entropy network, trained on features of balanced images fused with those of others."""

from dataclasses import replace

import torch
from torch import Tensor

from ltbench.method import (
    MethodConfig,
    Range,
    SecondStage,
    Shuffled,
    Stage,
    StageSchedule,
    class_balanced,
    hyperparameter,
)
from ltbench.method.losses import cross_entropy


class H2T(SecondStage):
    """Freeze the backbone and train the classifier on balanced classes, some of their features those of other images.

    Li et al. (AAAI 2024), "head to tail": images are drawn by class-balanced sampling, and a share of the channels of
    each is replaced by those of an image drawn uniformly from all, mostly of a head class; the label stays. So tail
    classes take in what head classes vary in, and the decision boundary moves. Channels are the same for a whole batch
    and drawn anew for every step. The first stage has mixup. In the second the classifier goes on from that of the
    first at a fifth of the recipe's rate, and the frozen batch norms go on updating their running statistics, each half
    by its own images.

    Channels are fused after pooling, which is the same as before it, where the published code does so. Its figures come
    from a classifier on one pooled feature; the paper's experiments on RIDE's experts are not here.

    Departures: the last epoch counts, not the best on the test set; the second stage has the weight decay of the
    recipe, where the authors' configuration for CIFAR-100-LT at imbalance ratio 100 raises it from 2e-4 to 5e-4 (those
    for 50 and 200 do not). Classes are drawn at random, as in the code.
    """

    class Config(MethodConfig):
        mixup: float = hyperparameter(
            1.0,
            search=Range(0.0, 1.0),
            ge=0,
            description="alpha of mixup's Beta(alpha, alpha) in the first stage; 0 turns it off",
        )
        share: float = hyperparameter(
            0.25,
            search=Range(0.1, 0.5),
            ge=0,
            lt=1,
            description="fraction of the feature channels taken from the other image",
        )
        lr_factor: float = hyperparameter(
            0.2,
            search=Range(0.05, 1.0, log=True),
            gt=0,
            description="initial learning rate of the second stage, as a factor of the recipe's",
        )
        epochs: int = hyperparameter(10, ge=1, description="epochs of the second stage, in addition to the recipe's")

    family = "two stages"
    first = "ce"
    revision = 1

    def stages(self, recipe):
        schedule = StageSchedule(recipe.lr * self.config.lr_factor)
        return [Stage("classifier", self.config.epochs, ("network.heads",), frozen_norms="train", schedule=schedule)]

    def samplers(self, labels, stage):
        return {"main": class_balanced(labels), "head": Shuffled(len(labels))}

    def prepare(self, batch, progress):
        """Add the other images as a view, and which channels are theirs."""
        channels = self.network.num_features
        taken = progress.generator("channels").permutation(channels)[: int(self.config.share * channels)]
        mask = torch.zeros(channels, dtype=torch.bool)
        mask[torch.from_numpy(taken)] = True
        masks = mask.to(batch.labels.device).expand(len(batch.labels), -1)
        return replace(batch, views=(batch.images, batch.streams["head"].images, masks))

    def forward(self, batch, progress):
        """CE(z, y), z the logits of the fused features."""
        images, others, taken = batch.views
        with torch.no_grad():
            fused = torch.where(taken, self._features(others), self._features(images))
        logits = self.network.heads[0](fused)
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def _features(self, images: Tensor) -> Tensor:
        features: Tensor = self.network.features(images)[0]
        return features
