"""A method under test, with the tiny data and network that it is tested on."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltbench import registry, rng
from ltbench.config import Augment, Recipe, RunConfig
from ltbench.data.images import LabelledImages
from ltbench.data.loading.epoch import Epoch
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.method import Batch, ClassPrior, Method, Progress, Stage, at_rest
from ltbench.models.backbone import Backbone
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.options import TrainOptions
from ltbench.training.schedule import plan
from ltbench.training.trainer import fit

COUNTS = (16, 9, 5, 3)
"""33 images: with batches of 16 the last image is alone and must join the batch before."""
RECIPE = Recipe(epochs=6, batch_size=16, lr=0.02, augment=Augment(padding=0.125, flip=True))

State = dict[str, Tensor]
"""Copies of a method's parameters and buffers, by name."""


@dataclass(frozen=True)
class TrainingRecord:
    """A training with seed 0, making the method included."""

    initial: State
    trained: State
    steps: int
    torch_generator_untouched: bool
    numpy_generator_untouched: bool


class Subject:
    """A method under test, with data and a network small enough for seconds.

    Args:
        cls: the method.
        device: to run on.
        head: kind of classifier that the run has; None: the recipe's.
    """

    def __init__(self, cls: type[Method], device: torch.device | None = None, head: str | None = None) -> None:
        self.cls = cls
        self.device = device or torch.device("cpu")
        self.train = self._images(COUNTS, "train")
        self.test = self._images((4,) * len(COUNTS), "test")
        self.unlabelled = self._images((4,) * len(COUNTS), "test", labelled=False)
        self.build = Backbone("cifar_resnet8", classes=len(COUNTS), channels=3, image_size=8, head=head or RECIPE.head)

    def _images(self, counts: tuple[int, ...], part: str, *, labelled: bool = True) -> InMemoryLoader:
        labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
        generator = rng.numpy_generator(0, "conformance", part)
        noise = generator.integers(0, 128, (len(labels), 3, 8, 8))
        images = (noise + 32 * labels.reshape(-1, 1, 1, 1)).astype(np.uint8)
        data = LabelledImages(images, labels)
        return InMemoryLoader(data, (0.5,) * 3, (0.25,) * 3, self.device, labelled=labelled)

    def make(self, seed: int = 0, **hyperparameters: Any) -> Method:
        """The untrained method; runs that it starts from are untrained too."""
        config = self.cls.Config.model_validate(hyperparameters)
        with rng.global_stream(seed, "init"):
            method = self.cls(self.build, ClassPrior(torch.tensor(COUNTS)), config).to(self.device)
        run = RunConfig(hyperparameters=config.model_dump(mode="json"), seed=seed)
        # A run hands its classifier's kind on to those that it starts from.
        used = {
            name: Subject(registry.method(one.method), self.device, self.cls.head)
            for name, one in self.cls.uses(run).items()
        }
        if used:
            method.start_from({name: subject.make(seed) for name, subject in used.items()})
        return method

    def fit(self, method: Method, checkpoint: Path, seed: int = 0, *, every: float = 1e9, **options: Any) -> Method:
        """Train a method through all stages.

        Args:
            method: of this class.
            checkpoint: file to save to and to resume from.
            seed: of all draws.
            every: seconds between two saves.
            options: fields of ``TrainOptions``.
        """
        unlabelled = self.unlabelled if self.cls.transductive else None
        how = TrainOptions(checkpoint=Checkpoint(checkpoint, every=every), **options)
        fit(method, self.train, RECIPE, seed=seed, options=how, unlabelled=unlabelled)
        return method

    def trained_state(self, seed: int = 0) -> State:
        """The state of the method after training, which is trained now."""
        with tempfile.TemporaryDirectory() as folder:
            return state(self.fit(self.make(seed), Path(folder) / "checkpoint.pt", seed))

    @cached_property
    def training(self) -> TrainingRecord:
        """A training with seed 0, for all checks that need one."""
        steps, before = 0, (torch.get_rng_state(), numpy_generator_state())

        def count(_: object) -> None:
            nonlocal steps
            steps += 1

        method = self.make()
        initial = state(method)
        with tempfile.TemporaryDirectory() as folder:
            self.fit(method, Path(folder) / "checkpoint.pt", listener=count)
        return TrainingRecord(
            initial=initial,
            trained=state(method),
            steps=steps,
            torch_generator_untouched=torch.equal(before[0], torch.get_rng_state()),
            numpy_generator_untouched=before[1] == numpy_generator_state(),
        )

    def trained_method(self) -> Method:
        """A method with the weights of ``training``, in evaluation mode; as for a stored run, nothing else is kept."""
        method = self.make()
        method.load_state_dict(self.training.trained)
        return method.eval()

    def stages(self, method: Method) -> list[Stage]:
        """The stages of a method; for one that trains nothing, one as its network would be trained."""
        return [planned.stage for planned in plan(method.stages(RECIPE), RECIPE)] or [Stage()]

    def stage_images(self, stage: Stage) -> InMemoryLoader:
        """The images that a stage trains on."""
        return self.unlabelled if stage.source == "unlabelled-test" else self.train

    def begin(self, method: Method, stage: Stage) -> None:
        """Begin a stage as training does: with draws of its own, then in training mode."""
        with rng.global_stream(0, "begin", stage.name):
            method.begin(stage, self.stage_images(stage))
        method.train()

    def batch(self, method: Method, stage: Stage) -> tuple[Batch, Progress]:
        """A prepared batch of a stage and the progress to go with it."""
        data = self.stage_images(stage)
        batches = Epoch(
            data,
            method.samplers(data.labels.cpu(), stage),
            views=stage.views or method.views,
            how=RECIPE.views,
            batch_size=RECIPE.batch_size,
            seed=0,
            place=(stage.name, 0),
        )
        progress = at_rest(stage)
        return method.prepare(batches.batch(0), progress), progress


Check = Callable[[Subject], None]
"""Raises an ``AssertionError``, or whatever the method raises, where a method does not conform."""


def state(method: Method) -> State:
    """Copies of a method's parameters and buffers."""
    return {name: value.detach().clone() for name, value in method.state_dict().items()}


def assert_equal(first: State, second: State, message: str) -> None:
    """Assert that two states are equal bit by bit."""
    assert first.keys() == second.keys(), f"{message}: other entries"
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    assert not differing, f"{message}: {', '.join(differing[:3])}"


def numpy_generator_state() -> tuple[bytes, int]:
    """The state of numpy's global generator: a draw moves the position, and every 624 draws the key."""
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return state["state"]["key"].tobytes(), state["state"]["pos"]
