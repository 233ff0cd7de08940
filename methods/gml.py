"""GML: a logit-adjusted classifier, and beside it contrast with a teacher's features, averaged within each class."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltbench.method import ClassPrior, Method, MethodConfig, Range, base_run, hyperparameter
from ltbench.method.losses import logit_adjusted_cross_entropy
from ltbench.models.heads import projector
from ltbench.training.distributed.batch_norm import exclude_from_sync
from ltbench_methods.paco import larger_label

DISTILL_TEMPERATURE = 4.0


class ClassQueue(nn.Module):
    """The last features of each class, in a ring of its own; it starts with random directions.

    A class's ring has ``smallest`` places and a share of the others by its frequency. What a step offers is seen at
    once, and kept when the step is done.

    Args:
        length: places in all.
        smallest: of a class.
        dimension: of a feature.
        prior: class frequencies.

    Raises:
        ValueError: if there are fewer places than the smallest rings need.
    """

    features: Tensor
    images: Tensor
    filled: Tensor
    labels: Tensor
    sizes: Tensor
    first: Tensor
    next_features: Tensor
    next_images: Tensor
    next_filled: Tensor

    def __init__(self, length: int, smallest: int, dimension: int, prior: ClassPrior) -> None:
        super().__init__()
        classes = len(prior.counts)
        if length < classes * smallest:
            raise ValueError(f"a queue of {length} has no {smallest} places for each of {classes} classes")
        shares = prior.counts.double().cumsum(0) / prior.counts.sum()
        ends = (torch.arange(1, classes + 1) * smallest + (length - classes * smallest) * shares).ceil().long()
        sizes = ends.diff(prepend=ends.new_zeros(1))
        self.register_buffer("features", F.normalize(torch.randn(length, dimension), dim=1))
        self.register_buffer("images", torch.arange(-length, 0))  # of no image
        self.register_buffer("filled", torch.zeros(classes, dtype=torch.long))
        self.register_buffer("labels", torch.arange(classes).repeat_interleave(sizes), persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("first", ends - sizes, persistent=False)
        for name in ("features", "images", "filled"):
            self.register_buffer(f"next_{name}", getattr(self, name).clone(), persistent=False)

    def offer(self, features: Tensor, labels: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features (K, D) of the queue and their images (K,) with those of a batch, of all processes, in it.

        Args:
            features: (B, D).
            labels: (B,); of a class that has more images than places the first ones count.
            images: (B,) their indices.
        """
        member = F.one_hot(labels, len(self.sizes))
        rank = (member.cumsum(0) - 1).gather(1, labels.unsqueeze(1)).squeeze(1)
        fits = rank < self.sizes[labels]
        place = self.first[labels] + (self.filled[labels] + rank) % self.sizes[labels]
        place = torch.where(fits, place, len(self.features))  # a place more, for what does not fit
        kept = torch.cat([self.features, self.features[:1]]).index_copy(0, place, features.to(self.features.dtype))[:-1]
        owners = torch.cat([self.images, self.images[:1]]).index_copy(0, place, images)[:-1]
        self.next_features.copy_(kept)
        self.next_images.copy_(owners)
        self.next_filled.copy_((self.filled + (member * fits.unsqueeze(1)).sum(0)) % self.sizes)
        return kept, owners

    def advance(self) -> None:
        """The offered features join."""
        self.features.copy_(self.next_features)
        self.images.copy_(self.next_images)
        self.filled.copy_(self.next_filled)


class GML(Method):
    """Tell an image's class by its mean similarity, under the exponential, to a teacher's features of each class.

    Suh and Seo (ICML 2023), "Gaussian mixture likelihood": to maximise the information between features and labels,
    contrast becomes a classifier. The logit of class c is log mean_k exp(q . k / T) over the class's features in a
    queue, to which log pi is added, as in balanced softmax. q is a projection of the image's features; the keys are
    those of a teacher, a finished run of balanced softmax, with a trained projection of their own. Beside it stand
    balanced softmax on a cosine head and distillation of the teacher's prediction (T^2 KL at T = 4; the authors'
    ImageNet code has none). T is learned, by a second copy of the contrast in which features have no gradient and an
    image is not compared with itself.

    Departures: the teacher has the run's backbone and recipe, where the authors take a larger one (ResNet-56 for
    ResNet-32, ResNeXt-101 for ResNeXt-50); log T decays like any weight; an image that has no other of its class in the
    queue is compared with itself; the scale of the cosine heads is 30, as in their code. Mixed images wait in the
    queue under the label with the larger share. Contrast views are the recipe's; the authors' for CIFAR are those of
    the classifier.
    """

    class Config(MethodConfig):
        searches_mixup = False

        contrast_weight: float = hyperparameter(
            1.0,
            search=Range(0.1, 2.0, log=True),
            ge=0,
            description="weight of the contrastive loss, and of its copy that trains the temperature",
        )
        distill_weight: float = hyperparameter(
            1.0,
            search=Range(0.1, 2.0, log=True),
            ge=0,
            description="weight of the distillation of the teacher's prediction",
        )
        temperature: float = hyperparameter(
            0.1, search=Range(0.05, 0.3, log=True), gt=0, description="initial temperature of the similarities"
        )
        queue: int = hyperparameter(4096, ge=1, description="length of the queue of the teacher's features")
        smallest: int = hyperparameter(2, ge=1, description="least number of places in the queue for each class")

    family = "contrastive"
    head = "cosine"
    revision = 1
    logit_prior = 0.0  # the classifier learns with the prior added, so that none is left
    views = ("train", "contrast", "contrast")
    couples_batch = True
    gathers_across_processes = True

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        features = self.network.num_features
        dimension = 32 if features <= 64 else 128
        self.teacher = build(head=self.head).requires_grad_(False).eval()
        self.projection = projector(features, features, dimension)
        self.key_projection = projector(features, features, dimension)
        exclude_from_sync(self.key_projection)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        self.queue = ClassQueue(config.queue, config.smallest, features, prior)

    @classmethod
    def uses(cls, run):
        """The teacher."""
        return {"teacher": base_run(run, "balanced_softmax")}

    def start_from(self, runs):
        self.teacher.load_state_dict(runs["teacher"].network.state_dict())

    def forward(self, batch, progress):
        """Balanced softmax, the contrast twice, and distillation."""
        size, config = len(batch.labels), self.config
        classified, query, key = batch.views
        features = self.network.features(torch.cat([classified, query]))
        logits = self.network.classify(features[:, :size])[0].float()
        queries = F.normalize(self.projection(features[0, size:]).float(), dim=1)
        with torch.no_grad():
            taught = self.teacher.features(torch.cat([classified, key]))
            target = self.teacher.classify(taught[:, :size])[0].float()
            kept, owners = self.queue.offer(
                *(progress.gather(own) for own in (taught[0, size:], larger_label(batch), batch.indices))
            )
        keys = F.normalize(self.key_projection(kept).float(), dim=1)
        contrast, learning_temperature = self._contrast(queries, keys, batch.indices, owners)
        distilled = distillation(logits, target, DISTILL_TEMPERATURE)
        tau = self.log_prior.new_ones(())

        def per_sample(labels):
            own, first, second = (
                logit_adjusted_cross_entropy(one, labels, self.log_prior, tau)
                for one in (logits, contrast, learning_temperature)
            )
            return own + config.contrast_weight * (first + second) + config.distill_weight * distilled

        return batch.loss(per_sample)

    def after_step(self, progress):
        """The teacher's features join the queue."""
        self.queue.advance()

    def _contrast(self, queries: Tensor, keys: Tensor, images: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (B, C) from which the features learn, and those from which the temperature does."""
        classes, temperature = len(self.log_prior), self.log_temperature.exp()
        with torch.autocast(queries.device.type, enabled=False):
            similar = queries @ keys.T
            everyone = torch.ones_like(similar)
            others = (images.unsqueeze(1) != owners).to(similar.dtype)
            features = class_log_means(similar / temperature.detach(), everyone, self.queue.labels, classes)
            return features, class_log_means(similar.detach() / temperature, others, self.queue.labels, classes)


def class_log_means(similar: Tensor, counted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The log of the mean of exp(s) over the keys of each class.

    Args:
        similar: (B, K).
        counted: (B, K), 1 for keys that count and 0 for others; if none of a class counts, all of them do.
        labels: (K,) classes of the keys.
        classes: C.

    Returns:
        (B, C).
    """
    member = F.one_hot(labels, classes).to(similar.dtype)
    lacking = (counted @ member == 0).to(similar.dtype) @ member.T
    weights = torch.maximum(counted, lacking)
    largest = similar.detach().amax(1, keepdim=True)
    means = ((similar - largest).exp() * weights) @ member / (weights @ member)
    return means.clamp(min=torch.finfo(means.dtype).tiny).log() + largest


def distillation(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T^2 KL(target || logits), both softened.

    Args:
        logits: (B, C).
        target: (B, C).
        temperature: T.

    Returns:
        (B,) in nats.
    """
    log_p, log_q = ((own / temperature).log_softmax(1) for own in (target, logits))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1)
