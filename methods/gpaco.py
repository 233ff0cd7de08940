"""GPaCo: generalised parametric contrastive learning, without a momentum encoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltbench.method import Method, MethodConfig, Range, hyperparameter
from ltbench_methods.paco import Queue, larger_label, paco_loss


class GPaCo(Method):
    """PaCo with one network for both views: both are anchors, both are classified, and gradients reach both.

    Cui et al. (TPAMI 2023). The loss is PaCo's, over twice as many anchors; the queue holds the second view's past
    features. The projection is three linear layers without batch norm, and each view passes the network by itself, both
    as in the authors' code. Departures are PaCo's: the queue starts with random vectors of length one and no class,
    where theirs are short (normalised along the queue) and have random labels; processes compare with each other's
    images, where theirs compare with their own and the queue; and mixed images wait in it under the label with the
    larger share. For CIFAR-100-LT the authors' repository has no script: the temperature 0.05 is PaCo's, the rate 0.1
    of ``--recipe paper`` has no source there, and the script for the balanced CIFAR-100 with ResNet-50 has 0.07 and
    0.05.
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
        queue: int = hyperparameter(1024, ge=1, description="length of the queue of past features")

    family = "contrastive"
    revision = 1
    views = ("train", "contrast")
    couples_batch = True
    gathers_across_processes = True

    def __init__(self, build, prior, config):
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

    def forward(self, batch, progress):
        """The mean over both views of the loss against class centres, both views and queue."""
        encoded = [self._encode(view) for view in batch.views]
        compared, logits = torch.cat([own for own, _ in encoded]), torch.cat([own for _, own in encoded])
        features = torch.cat(
            [progress.gather(compared), self.queue.keys]
        )  # one process's views together, then the next's
        self.queue.offer(progress.gather(encoded[1][0].detach()), progress.gather(larger_label(batch)))

        def per_sample(labels):
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

    def after_step(self, progress):
        """The second view's features join the queue."""
        self.queue.advance()

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(images)
        return F.normalize(self.projection(features[0]).float(), dim=1), self.network.classify(features)[0]
