"""BCL: balanced contrastive learning."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import logit_adjusted_cross_entropy
from ltbench.models.heads import projector
from ltbench.training.distributed.batch_norm import exclude_from_sync


def balanced_contrast(
    features: Tensor,
    prototypes: Tensor,
    labels: Tensor,
    temperature: float,
    gather: Callable[[Tensor], Tensor] = lambda own: own,
    first: int = 0,
) -> Tensor:
    """Supervised contrast in whose normaliser each class counts as one: the mean over its images and its prototype.

    An anchor is compared with all views of all images but itself, and with a prototype of every class, so that no
    class is ever missing. Positives are the images and the prototype of its class, all with the same weight.

    Args:
        features: (V, B, D) of unit length: V views of each image.
        prototypes: (C, D) of unit length.
        labels: (B,) class indices.
        temperature: of the similarities.
        gather: puts a tensor of this process together with those of others, with whose images it is compared as well.
        first: where this process's images begin among those of all.

    Returns:
        (B,) in nats: the mean over an image's views.
    """
    views, batch, _ = features.shape
    anchors, classes = slice(views * first, views * (first + batch)), len(prototypes)
    everyone = gather(features.flatten(0, 1))  # all views of one process's images, then those of the next
    with torch.autocast(features.device.type, enabled=False):
        dtype = torch.promote_types(features.dtype, torch.float32)
        members = torch.cat([everyone, prototypes]).to(dtype)
        similar = members[anchors] @ members.T / temperature
    labels = torch.cat([gather(labels.repeat(views)), torch.arange(classes, device=labels.device)])
    places = torch.arange(len(labels), device=labels.device)
    itself = places[anchors, None] == places
    same = labels[anchors, None] == labels
    sizes = F.one_hot(labels, classes).sum(0)[labels] - same.to(dtype)
    normaliser = (similar - sizes.clamp(min=1).log()).masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    positive = same & ~itself
    values = (positive * (normaliser - similar)).sum(1) / positive.sum(1)
    return values.view(views, batch).mean(0)


class BCL(Method):
    """A logit-adjusted classifier, and beside it a supervised contrast in which every class has the same weight.

    Zhu et al. (CVPR 2022). The contrast divides each class's share of the normaliser by the number of its images in
    the batch and adds a prototype of each class, made from the classifier's weights. Its two views and the
    classifier's own view go through the network together. The authors published no code that trains on CIFAR, and
    others could not reproduce its figures: the weights of the two losses are those of the ImageNet code; the
    temperature and the perceptron D-512-128 of small networks are those of a rerun in the code of CUDA (Ahn et al.,
    ICLR 2023), which weighs the losses by 2 and 0.6. Large networks have D-D-1024, as published.
    """

    class Config(MethodConfig):
        searches_mixup = False

        ce_weight: float = hyperparameter(1.0, gt=0, description="weight of the logit-adjusted cross entropy")
        contrast_weight: float = hyperparameter(
            0.35, search=Range(0.1, 1.0, log=True), ge=0, description="weight of the contrastive loss"
        )
        temperature: float = hyperparameter(
            0.1, search=Range(0.05, 0.3, log=True), gt=0, description="temperature of the similarities between images"
        )

    family = "contrastive"
    revision = 1
    logit_prior = 0.0  # the classifier learns with the prior added, so that none is left
    views = ("train", "contrast", "contrast")
    couples_batch = True
    gathers_across_processes = True

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        features = self.network.num_features
        hidden, dimension = (512, 128) if features <= 64 else (features, 1024)
        self.projection = projector(features, hidden, dimension)
        self.prototypes = projector(features, hidden, dimension)
        exclude_from_sync(self.prototypes)

    def forward(self, batch, progress):
        """The weighted sum of cross entropy on the first view and contrast between the other two."""
        size, config = len(batch.labels), self.config
        features = self.network.features(torch.cat(batch.views))
        logits = self.network.classify(features[:, :size])[0]
        compared = F.normalize(self.projection(features[0, size:]).float(), dim=1).view(2, size, -1)
        weights = self.network.heads[0].weight
        assert isinstance(weights, Tensor)
        prototypes = F.normalize(self.prototypes(weights).float(), dim=1)

        def per_sample(labels):
            adjusted = logit_adjusted_cross_entropy(logits, labels, self.log_prior, self.log_prior.new_ones(()))
            contrast = balanced_contrast(
                compared, prototypes, labels, config.temperature, progress.gather, progress.first
            )
            return config.ce_weight * adjusted + config.contrast_weight * contrast

        return batch.loss(per_sample)
