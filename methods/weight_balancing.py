"""Weight balancing: weight decay tuned for the features, MaxNorm and weight decay for the classifier."""

import torch
from torch import Tensor

from ltbench.method import Method, MethodConfig, Range, Stage, StageSchedule, hyperparameter
from ltbench.method.losses import cross_entropy, effective_number_weights, is_target


class WeightBalancing(Method):
    """Cross entropy with tuned weight decay; then train the classifier with class weights, strong decay and MaxNorm.

    Alshammari et al. (CVPR 2022), section 3.3. Naive training gives common classes longer weights, and two regularisers
    balance them: weight decay (equation 3), and MaxNorm (equations 4 and 5), which after every step shortens each
    class's weights to a radius: the shortest norm that the first stage has left, plus ``threshold`` of the way to the
    longest one. The second stage freezes the backbone, whose batch norms go on updating their running statistics, goes
    on from the classifier of the first, and samples images uniformly. Norms need a linear head, so the head is linear
    whatever the recipe says.

    The authors tune the weight decay of the first stage for every data set: here it is the recipe's, which is theirs
    with ``--recipe paper``, unless it is set or searched. The loss of the second stage is that of their code: binary
    cross entropy of the softmax's probabilities, averaged over images and classes, each image weighted by the effective
    number of its class (Cui et al., CVPR 2019). With it and the rate 0.01, which the second stage has whatever the
    recipe's, they tuned the decay of 0.1; both are for SGD, and want to be searched under another optimiser. At ten
    times the rate, decay takes the rarest classes of digits-lt away.

    Departures: their code shortens weights after every epoch, where the paper does so after every step; it trains a
    ResNet-34 of 64 to 512 channels on CIFAR where the paper says ResNet-32; and it keeps the best epoch on the test
    set. A probability within rounding of one has no gradient here. Mixing belongs to the first stage.
    """

    class Config(MethodConfig):
        weight_decay: float | None = hyperparameter(
            None,
            search=Range(1e-4, 1e-2, log=True),
            ge=0,
            description="weight decay of the first stage; by default the recipe's",
        )
        classifier_decay: float = hyperparameter(
            0.1, search=Range(0.001, 1.0, log=True), ge=0, description="weight decay of the second stage"
        )
        lr: float = hyperparameter(
            0.01, search=Range(0.001, 0.1, log=True), gt=0, description="initial learning rate of the second stage"
        )
        threshold: float = hyperparameter(
            0.1,
            search=Range(0.0, 1.0),
            ge=0,
            description="radius of MaxNorm: 0 is the shortest norm of the first stage's classifier, 1 the longest",
        )
        beta: float = hyperparameter(
            0.9999, ge=0, lt=1, description="beta of the effective number, by which the second stage weighs classes"
        )
        epochs: int = hyperparameter(10, ge=1, description="epochs of the second stage, in addition to the recipe's")

    family = "two stages"
    head = "linear"
    revision = 1
    class_weights: Tensor
    radius: Tensor

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.register_buffer("class_weights", effective_number_weights(prior.counts, config.beta))
        self.register_buffer("radius", torch.tensor(0.0))

    def stages(self, recipe):
        second = Stage(
            "classifier",
            self.config.epochs,
            ("network.heads",),
            frozen_norms="train",
            schedule=StageSchedule(self.config.lr),
            weight_decay=self.config.classifier_decay,
            optimiser="new",
        )
        return [Stage(weight_decay=self.config.weight_decay), second]

    @torch.no_grad()
    def begin(self, stage, data):
        """Set the radius."""
        if stage.name == "classifier":
            norms = torch.linalg.vector_norm(self._classifier, dim=1)
            self.radius.copy_(torch.lerp(norms.min(), norms.max(), self.config.threshold))

    def prepare(self, batch, progress):
        """Mix images in the first stage."""
        return batch if progress.stage.name == "classifier" else super().prepare(batch, progress)

    def forward(self, batch, progress):
        """CE(z, y); in the second stage the class-balanced loss."""
        logits = self.network(batch.images)
        if progress.stage.name == "classifier":
            return batch.loss(lambda labels: self.class_weights[labels] * binary_cross_entropy(logits, labels))
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def after_step(self, progress):
        """theta_k <- min(1, radius / |theta_k|) theta_k, in the second stage."""
        if progress.stage.name == "classifier":
            self._classifier.copy_(max_norm(self._classifier, self.radius))

    @property
    def _classifier(self) -> Tensor:
        weight = self.network.heads[0].weight
        assert isinstance(weight, Tensor)
        return weight


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over classes of -log p_c for the target and -log(1 - p_c) for the others, p the softmax.

    Args:
        logits: (B, C).
        targets: (B,) class indices.

    Returns:
        (B,) in nats.
    """
    log_p = logits.float().log_softmax(1)
    others = torch.log1p(-log_p.exp().clamp(max=1 - torch.finfo(log_p.dtype).eps))
    return -torch.where(is_target(logits, targets), log_p, others).mean(1)


def max_norm(weights: Tensor, radius: Tensor) -> Tensor:
    """Shorten each row of (C, D) weights to a length."""
    norms = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    shortened: Tensor = weights * (radius / norms.clamp(min=1e-12)).clamp(max=1)
    return shortened
