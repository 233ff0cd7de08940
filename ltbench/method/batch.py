"""A batch of images and its loss."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor


@dataclass
class Loss:
    """A loss as a sum and the weight to divide it by, so that unequal micro-batches add up to the batch."""

    total: Tensor
    weight: Tensor | float
    sharp: Tensor | None = None
    """The part of the total that sharpness-aware minimization takes at perturbed weights; see ``Batch.sharpness``."""

    @classmethod
    def of(cls, per_sample: Tensor) -> "Loss":
        """The mean of one value a sample, (B,)."""
        if per_sample.ndim != 1:
            raise TypeError(f"a loss needs one value a sample, (B,), and got shape {tuple(per_sample.shape)}")
        return cls(per_sample.sum(), float(per_sample.shape[0]))

    @property
    def mean(self) -> Tensor:
        """The value to minimise."""
        return self.total / self.weight

    def plus(self, extra: Tensor | float) -> "Loss":
        """The loss and a term that belongs to no class, itself a sum over the batch."""
        return replace(self, total=self.total + extra)

    def times(self, factor: Tensor | float) -> "Loss":
        """The loss, times a factor."""
        return replace(self, total=factor * self.total, sharp=None if self.sharp is None else factor * self.sharp)


@dataclass
class Batch:
    """The images of one step, normalised and on the device."""

    views: tuple[Tensor, ...]
    """One (B, channels, height, width) tensor for each view of the method or the stage."""
    indices: Tensor
    """(B,) indices of these training images."""
    labels: Tensor
    """(B,) int64 class indices; -1 for unlabelled images."""
    mixed_labels: Tensor | None = None
    """(B,) labels of the images mixed in, if any."""
    weight: Tensor | None = None
    """Weight of ``labels``; ``mixed_labels`` have one minus it: scalar or (B,)."""
    streams: dict[str, "Batch"] = field(default_factory=dict)
    """Batches of the method's further samplers, of the same size."""
    sharpness: Tensor | None = None
    """(C,) share of each class's loss that ``loss`` adds up as ``Loss.sharp``, too; None: it is not asked for."""

    @property
    def images(self) -> Tensor:
        """The first view."""
        return self.views[0]

    def loss(self, per_sample: Callable[[Tensor], Tensor], class_weights: Tensor | None = None) -> Loss:
        """Apply a loss; of mixed images, weighted between their two labels.

        Args:
            per_sample: gives the loss of each sample (B,) for labels (B,).
            class_weights: (C,) weights of the classes; the sum is then divided by the weights of the samples.
        """
        values, weights, sharp = self._weighted(per_sample, self.labels, class_weights)
        if self.mixed_labels is not None and self.weight is not None:
            others, other_weights, other_sharp = self._weighted(per_sample, self.mixed_labels, class_weights)
            values = self.weight * values + (1 - self.weight) * others
            if weights is not None and other_weights is not None:
                weights = self.weight * weights + (1 - self.weight) * other_weights
            if sharp is not None and other_sharp is not None:
                sharp = self.weight * sharp + (1 - self.weight) * other_sharp
        loss = Loss.of(values)
        weight = loss.weight if weights is None else weights.sum()
        return Loss(loss.total, weight, None if sharp is None else sharp.sum())

    def _weighted(
        self, per_sample: Callable[[Tensor], Tensor], labels: Tensor, class_weights: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Loss and class weight of each sample, and the part of the loss that is sharpness-aware."""
        values, weights = per_sample(labels), None
        if class_weights is not None:
            weights = class_weights[labels]
            values = weights * values
        return values, weights, None if self.sharpness is None else self.sharpness[labels] * values
