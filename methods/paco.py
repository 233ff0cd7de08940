"""PaCo: parametric contrastive learning, with a momentum encoder and a queue."""

import math
from collections.abc import Callable
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltbench.method import Batch, Method, MethodConfig, Range, hyperparameter
from ltbench.models.heads import projector
from ltbench.training.distributed.batch_norm import sync_group_size


def paco_loss(
    features: Tensor,
    labels: Tensor,
    logits: Tensor,
    log_prior: Tensor,
    *,
    alpha: float,
    temperature: float,
    beta: float = 1.0,
    gamma: float = 1.0,
    first: int = 0,
) -> Tensor:
    """Cross entropy over class centres and images at once, with several positives of different weight.

    An anchor's positives are the centre of its class, with weight beta, and all other images of its class, with
    weight alpha. Log probabilities are taken over all centres and all images but the anchor; images count gamma.

    Args:
        features: (A + R, D) of unit length; A that follow one another are the anchors.
        labels: (A + R,) class indices; -1 is no class.
        logits: (A, C) of the anchors, without the prior.
        log_prior: (C,).
        alpha: weight of an image of the anchor's class.
        temperature: of the similarities.
        beta: weight of the class centre.
        gamma: weight of the images in the normaliser, > 0.
        first: where the anchors begin.

    Returns:
        (A,) in nats.
    """
    anchors, classes = slice(first, first + len(logits)), logits.shape[1]
    with torch.autocast(features.device.type, enabled=False):
        dtype = torch.promote_types(features.dtype, torch.float32)
        features = features.to(dtype)
        centres = logits.to(dtype) + log_prior
        images = features[anchors] @ features.T / temperature
    places = torch.arange(len(features), device=features.device)
    itself = places[anchors, None] == places
    counted = (images + math.log(gamma)).masked_fill(itself, -torch.inf)
    normaliser = torch.cat([centres, counted], 1).logsumexp(1, keepdim=True)
    same = (labels[anchors, None] == labels) & ~itself
    weights = torch.cat([beta * F.one_hot(labels[anchors], classes), alpha * same], 1).to(dtype)
    values = torch.cat([centres, images], 1) - normaliser
    return -(weights * values).sum(1) / weights.sum(1)


class Queue(nn.Module):
    """Keys of the last steps and their classes; it starts with random directions of no class.

    What a step offers joins when the step is done, since its loss still needs the queue as it was.

    Args:
        length: how many keys.
        dimension: of a key.
    """

    keys: Tensor
    labels: Tensor
    next_keys: Tensor
    next_labels: Tensor

    def __init__(self, length: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(length, dimension), dim=1))
        self.register_buffer("labels", torch.full((length,), -1))
        self.register_buffer("next_keys", self.keys.clone(), persistent=False)
        self.register_buffer("next_labels", self.labels.clone(), persistent=False)

    def offer(self, keys: Tensor, labels: Tensor) -> None:
        """Keys of a batch's images, (B, dimension), and their classes, (B,); of those of all processes."""
        self.next_keys.copy_(torch.cat([keys, self.keys])[: len(self.keys)])
        self.next_labels.copy_(torch.cat([labels, self.labels])[: len(self.labels)])

    def advance(self) -> None:
        """The newest keys join, the oldest leave."""
        self.keys.copy_(self.next_keys)
        self.labels.copy_(self.next_labels)


def larger_label(batch: Batch) -> Tensor:
    """(B,) the labels; of two mixed ones, that with the larger share."""
    if batch.mixed_labels is None or batch.weight is None:
        return batch.labels
    return torch.where(batch.weight >= 0.5, batch.labels, batch.mixed_labels)


class PaCo(Method):
    """Supervised contrast with momentum keys, in which learnable class centres - the classifier - are positives too.

    Cui et al. (ICCV 2021). Prediction is by the classifier's logits as they are. The authors train on several GPUs and
    owe their batch norm's small batches to that: here a batch is split into parts of at least ``virtual_batch`` images,
    and the parts of the keys are taken across those of the queries, which stands for the shuffling between GPUs. The
    queue starts with random vectors of length one and no class, where theirs are short (normalised along the queue) and
    have random labels. Mixed images wait in the queue under the label with the larger share. Several processes each
    split their own share, and their keys are not taken across processes; synchronised batch norm joins the processes'
    parts to ``virtual_batch`` images.
    """

    class Config(MethodConfig):
        searches_mixup = False

        alpha: float = hyperparameter(
            0.01,
            search=Range(0.005, 0.1, log=True),
            ge=0,
            description="weight of an image of the same class in the contrast; the class centre has 1",
        )
        temperature: float = hyperparameter(
            0.05, search=Range(0.05, 0.3, log=True), gt=0, description="temperature of the similarities between images"
        )
        queue: int = hyperparameter(1024, ge=1, description="length of the queue of keys")
        momentum: float = hyperparameter(0.999, ge=0, lt=1, description="decay of the key network's moving average")
        virtual_batch: int = hyperparameter(
            32, ge=2, description="least number of images that share batch-norm statistics"
        )

    family = "contrastive"
    revision = 1
    views = ("train", "contrast")
    couples_batch = True
    gathers_across_processes = True

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        features = self.network.num_features
        dimension = 32 if features <= 64 else 128
        self.projection = projector(features, features, dimension)
        self.key_network = deepcopy(self.network).requires_grad_(False)
        self.key_projection = deepcopy(self.projection).requires_grad_(False)
        self.queue = Queue(config.queue, dimension)

    def forward(self, batch, progress):
        """The loss of the queries against class centres, queries, keys and queue."""
        parts = self._parts(batch, progress)
        encoded = [self._query(part) for part in torch.tensor_split(batch.images, parts)]
        queries, logits = torch.cat([query for query, _ in encoded]), torch.cat([own for _, own in encoded])
        with torch.no_grad():
            keys = progress.gather(_across(self._key, batch.views[1], parts))
            self.queue.offer(keys, progress.gather(larger_label(batch)))
        features = torch.cat([progress.gather(queries), keys, self.queue.keys])

        def per_sample(labels):
            labels = progress.gather(labels)
            return paco_loss(
                features,
                torch.cat([labels, labels, self.queue.labels]),
                logits,
                self.log_prior,
                alpha=self.config.alpha,
                temperature=self.config.temperature,
                first=progress.first,
            )

        return batch.loss(per_sample)

    def after_step(self, progress):
        """The keys join the queue, and the key network follows."""
        self.queue.advance()
        for keys, queries in ((self.key_network, self.network), (self.key_projection, self.projection)):
            torch._foreach_lerp_(list(keys.parameters()), list(queries.parameters()), 1 - self.config.momentum)

    def _parts(self, batch, progress):
        """How many parts each process's images are split into; as many in all, since norms may be synchronised."""
        images, processes = len(progress.gather(batch.labels)), len(progress.gather(batch.labels[:1]))
        own = images // processes  # at least
        together = images * min(sync_group_size(self), processes) // processes
        return max(1, min(together // self.config.virtual_batch, own))

    def _query(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(images)
        return F.normalize(self.projection(features[0]).float(), dim=1), self.network.classify(features)[0]

    def _key(self, images: Tensor) -> Tensor:
        return F.normalize(self.key_projection(self.key_network.features(images)[0]).float(), dim=1)


def _across(encode: Callable[[Tensor], Tensor], images: Tensor, parts: int) -> Tensor:
    """Encode every ``parts``-th image together, and give all in their old order."""
    order = torch.cat([torch.arange(len(images), device=images.device)[part::parts] for part in range(parts)])
    return torch.cat([encode(images[part::parts]) for part in range(parts)])[order.argsort()]
