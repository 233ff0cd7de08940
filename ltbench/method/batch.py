"""A batch of images and its loss."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Loss:
    """A loss as a sum and the weight to divide it by, so that unequal parts of a batch add up rightly."""

    total: Tensor
    weight: Tensor | float

    @classmethod
    def of(cls, per_sample: Tensor) -> "Loss":
        """The plain mean of one value a sample, (B,)."""
        if per_sample.ndim != 1:
            raise TypeError(f"a loss needs one value a sample, (B,), and got shape {tuple(per_sample.shape)}")
        return cls(per_sample.sum(), float(per_sample.shape[0]))

    @property
    def mean(self) -> Tensor:
        """What is minimised."""
        return self.total / self.weight


@dataclass
class Batch:
    """The images of one step, normalised and on the device."""

    views: tuple[Tensor, ...]
    """One (B, channels, height, width) tensor for each view of the method or the stage."""
    indices: Tensor
    """(B,) which training images these are."""
    labels: Tensor
    """(B,) int64; -1 where the stage sees unlabelled images."""
    mixed_labels: Tensor | None = None
    """(B,) labels of the images mixed in, if any."""
    weight: Tensor | None = None
    """Share of ``labels`` beside ``mixed_labels``: scalar or (B,)."""
    streams: dict[str, "Batch"] = field(default_factory=dict)
    """Batches of the method's further samplers, as many images each."""

    @property
    def images(self) -> Tensor:
        """The first view."""
        return self.views[0]

    def loss(self, per_sample: Callable[[Tensor], Tensor], class_weights: Tensor | None = None) -> Loss:
        """Apply a loss, sharing it between the two labels of mixed images.

        Args:
            per_sample: from labels (B,) to values (B,).
            class_weights: (C,) what a sample of each class counts; the mean is then divided by their sum.
        """
        values, weights = self._weighted(per_sample, self.labels, class_weights)
        if self.mixed_labels is not None and self.weight is not None:
            others, other_weights = self._weighted(per_sample, self.mixed_labels, class_weights)
            values = self.weight * values + (1 - self.weight) * others
            if weights is not None and other_weights is not None:
                weights = self.weight * weights + (1 - self.weight) * other_weights
        loss = Loss.of(values)
        return loss if weights is None else Loss(loss.total, weights.sum())

    @staticmethod
    def _weighted(
        per_sample: Callable[[Tensor], Tensor], labels: Tensor, class_weights: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        values = per_sample(labels)
        if class_weights is None:
            return values, None
        weights = class_weights[labels]
        return weights * values, weights
