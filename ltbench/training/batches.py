"""The batches of an epoch as a method's step gets them: drawn, prepared, and of this process alone."""

from functools import partial
from typing import Any

from ltbench.config import Recipe
from ltbench.data.loading.base import Loader
from ltbench.data.loading.epoch import Epoch
from ltbench.errors import TrainingFailedError
from ltbench.method import Batch, Method, Progress, Stage
from ltbench.training.distributed.process_group import Group
from ltbench.training.micro_batches import select


class TrainingBatches:
    """Makes the batches of every epoch.

    Each process makes its own images of a batch, or the whole batch where the method mixes or changes images: then it
    selects its own afterwards.

    Args:
        method: draws and prepares batches.
        train: the training images.
        unlabelled: test images without labels, for stages that adapt to them; None: there are none.
        recipe: batch size and augmentation.
        seed: of all draws.
        group: the processes that share every batch.
    """

    def __init__(
        self, method: Method, train: Loader, unlabelled: Loader | None, recipe: Recipe, seed: int, group: Group
    ) -> None:
        self.method, self.train, self.unlabelled, self.recipe, self.seed = method, train, unlabelled, recipe, seed
        self.local_slice = partial(group.local_slice, least=2)  # batch norm cannot normalise a single image
        self.whole = group.size > 1 and changes_batches(method)
        self.gather: dict[str, Any] = {"gather": group.gather} if self.whole else {}

    def source(self, stage: Stage) -> Loader:
        """The images of a stage.

        Raises:
            TrainingFailedError: if the run has none of this kind.
        """
        data = {"train": self.train, "unlabelled-test": self.unlabelled}[stage.source]
        if data is None:
            raise TrainingFailedError(f"stage '{stage.name}' needs {stage.source} images, which this run lacks")
        return data

    def epoch(self, stage: Stage, number: tuple[int, int]) -> Epoch:
        """The batches of an epoch, before preparation.

        Args:
            stage: of the epoch.
            number: the index of the stage, and that of the epoch in the stage.
        """
        data = self.source(stage)
        return Epoch(
            data,
            self.method.samplers(data.labels.cpu(), stage),
            views=stage.views or self.method.views,
            how=self.recipe.views,
            batch_size=self.recipe.batch_size,
            seed=self.seed,
            place=number,
            local_slice=self.local_slice,
            **self.gather,
        )

    def prepare(self, batch: Batch, progress: Progress, size: int) -> Batch:
        """A batch for the step: mixed or changed as the method wants it, and then this process's images.

        Args:
            batch: of ``epoch``.
            progress: where training is.
            size: images of the batch in all processes together.
        """
        batch = self.method.prepare(batch, progress)
        return select(batch, self.local_slice(size)) if self.whole else batch


def changes_batches(method: Method) -> bool:
    """Whether a method mixes images or changes batches otherwise, for which it must see them whole."""
    mixing = method.config.mixup or method.config.cutmix or method.config.cmo
    return bool(mixing) or type(method).prepare is not Method.prepare
