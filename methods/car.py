"""CAR: cross entropy, and beside it the spectral norm of the confusion matrix, which bounds the worst class's error."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ltbench.method import Batch, Method, MethodConfig, Range, hyperparameter
from ltbench.method.losses import cross_entropy, is_target

ITERATIONS = 32
"""Number of steps of the power method that finds the largest singular value."""


class CAR(Method):
    """Press down the largest singular value of a soft confusion matrix whose rare classes count more.

    Zhu et al. (CVPR 2026), "confusion-aware spectral regulariser": the error of the worst class is bounded by the
    spectral norm of C diag(w), with C_ij how often class j is taken for i, 0 on the diagonal, and weights
    w_j = (pi_j + r)^(-1/2). What an image of class j adds to C_ij is the softmax of i among all classes times
    sigmoid(z_i - z_j) (equation 7), averaged over the batch's images of j; a moving average steadies it, of which this
    step's part alone has a gradient. As in the published code no gradient flows through the sigmoid, weights have mean
    one, a class without images in the batch adds zeros, and the average begins with the first batch, whose norm has no
    gradient.

    The defaults are those of the command in the authors' read-me, with ViT-S; a summary of the paper states a factor
    near 0.5 and a smoothing of 0.2. Its best figures add ConCutMix, which is not here.

    Departures: the largest singular value is found by the power method, which starts from equal entries and cannot miss
    it, since no entry of C is negative; the code decomposes the whole matrix, which takes long for many classes. Of
    mixed images both labels count, each by its weight.
    """

    class Config(MethodConfig):
        factor: float = hyperparameter(
            0.3, search=Range(0.1, 1.0, log=True), ge=0, description="weight of the spectral norm beside cross entropy"
        )
        decay: float = hyperparameter(
            0.5, search=Range(0.0, 0.95), ge=0, lt=1, description="decay of the confusion matrix's moving average"
        )
        smoothing: float = hyperparameter(
            0.5,
            search=Range(0.05, 1.0, log=True),
            ge=0,
            description="smoothing r, added to a class's frequency pi_j in its weight (pi_j + r)^(-1/2)",
        )
        temperature: float = hyperparameter(1.0, gt=0, description="temperature of the softmax over classes")

    family = "loss"
    revision = 1
    couples_batch = True
    gathers_across_processes = True
    class_weights: Tensor
    confusion: Tensor
    new_confusion: Tensor
    started: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        classes = len(prior.counts)
        weights = (prior.probabilities + config.smoothing).rsqrt()
        self.register_buffer("class_weights", weights / weights.mean())
        self.register_buffer("confusion", torch.zeros(classes, classes))
        self.register_buffer("new_confusion", torch.zeros(classes, classes), persistent=False)
        self.register_buffer("started", torch.tensor(False))

    def forward(self, batch, progress):
        """CE(z, y) + factor ||C diag(w)||."""
        logits = self.network(batch.images)
        with torch.autocast(logits.device.type, enabled=False):
            norm = spectral_norm(self._average(logits.float(), batch, progress.gather) * self.class_weights)
        return batch.loss(lambda labels: cross_entropy(logits, labels) + self.config.factor * norm)

    def after_step(self, progress):
        """The moving average follows."""
        self.confusion.copy_(self.new_confusion)
        self.started.fill_(True)

    def _average(self, logits: Tensor, batch: Batch, gather: Callable[[Tensor], Tensor]) -> Tensor:
        """The moving average of the soft confusion matrix, (C, C), with this step's images, those of all processes."""
        labels, shares = [batch.labels], [torch.ones_like(logits[:, 0])]
        if batch.mixed_labels is not None and batch.weight is not None:
            labels.append(batch.mixed_labels)
            shares = [batch.weight * shares[0], (1 - batch.weight) * shares[0]]
        targets, weights = (torch.stack([gather(one) for one in own]) for own in (labels, shares))
        now = soft_confusion(gather(logits), targets, weights, self.config.temperature)
        average = torch.where(self.started, torch.lerp(now, self.confusion, self.config.decay), now.detach())
        self.new_confusion.copy_(average.detach())
        return average


def soft_confusion(logits: Tensor, targets: Tensor, shares: Tensor, temperature: float = 1.0) -> Tensor:
    """How much each class is taken for each other, (C, C), the classes that are right by column.

    Args:
        logits: (B, C).
        targets: (K, B) class indices, K labels an image.
        shares: (K, B) how much each label counts.
        temperature: of the softmax.
    """
    classes = logits.shape[1]
    rival = (logits / temperature).softmax(1)
    sums, counts = logits.new_zeros(classes, classes), logits.new_zeros(classes)
    for labels, share in zip(targets, shares, strict=True):
        lead = logits - logits.gather(1, labels.unsqueeze(1))
        confused = (rival * torch.sigmoid(lead.detach())).masked_fill(is_target(logits, labels), 0)
        member = (is_target(logits, labels) * share.unsqueeze(1)).to(logits.dtype)
        sums, counts = sums + confused.T @ member, counts + member.sum(0)
    return sums / torch.where(counts > 0, counts, 1)


def spectral_norm(matrix: Tensor) -> Tensor:
    """The largest singular value of a square matrix without negative entries, by the power method."""
    with torch.no_grad():
        right = matrix.new_ones(len(matrix))
        for _ in range(ITERATIONS):
            left = F.normalize(matrix @ right, dim=0)
            right = F.normalize(matrix.T @ left, dim=0)
    return left @ matrix @ right
