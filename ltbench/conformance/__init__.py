"""The conformance suite: what every method must do, checked on a tiny network in seconds.

``ltbench check my_method.py`` runs it over a user's file, and ltbench's own tests over every registered method.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltbench import registry, rng
from ltbench.config import Augment, Recipe, RunConfig, canonical_json
from ltbench.data.images import LabelledImages
from ltbench.data.loading.epoch import Epoch
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.errors import LtbenchWarning
from ltbench.method import Batch, Choice, ClassPrior, Method, Progress, Stage, at_rest
from ltbench.models.experts import Backbone
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.schedule import plan
from ltbench.training.step import part
from ltbench.training.trainer import fit

COUNTS = (16, 9, 5, 3)
"""33 images: with batches of 16 the last image is alone and must join the batch before."""
RECIPE = Recipe(epochs=8, batch_size=16, lr=0.02, augment=Augment(padding=0.125, flip=True))


@dataclass(frozen=True)
class Outcome:
    """What became of one check."""

    name: str
    passed: bool
    message: str = ""


class Stopped(Exception):  # noqa: N818  (not an error: it stands for a process that was killed)
    """Raised to stop training at a chosen step."""


class Subject:
    """A method under test, with data and a network small enough for seconds.

    Args:
        cls: the method.
        device: to run on.
    """

    def __init__(self, cls: type[Method], device: torch.device | None = None) -> None:
        self.cls = cls
        self.device = device or torch.device("cpu")
        self.train = self._images(COUNTS, "train")
        self.test = self._images((4,) * len(COUNTS), "test")
        self.unlabelled = self._images((4,) * len(COUNTS), "test", labelled=False)
        self.build = Backbone("cifar_resnet20", classes=len(COUNTS), channels=3, image_size=8, head=RECIPE.head)

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
        used = {name: Subject(registry.method(one.method), self.device) for name, one in self.cls.uses(run).items()}
        if used:
            method.start_from({name: subject.make(seed) for name, subject in used.items()})
        return method

    def fit(self, method: Method, checkpoint: Path, seed: int = 0, **options: Any) -> Method:
        """Train it through all stages."""
        unlabelled = self.unlabelled if self.cls.transductive else None
        saves = Checkpoint(checkpoint, every=options.pop("every", 1e9))
        fit(method, self.train, RECIPE, seed=seed, checkpoint=saves, unlabelled=unlabelled, **options)
        return method

    def trained(self, seed: int = 0, **hyperparameters: Any) -> Method:
        """A trained method."""
        with tempfile.TemporaryDirectory() as folder:
            return self.fit(self.make(seed, **hyperparameters), Path(folder) / "checkpoint.pt", seed)

    def stages(self, method: Method) -> list[Stage]:
        """Its stages; for a method that trains nothing, one as its network would be trained."""
        return [planned.stage for planned in plan(method.stages(RECIPE), RECIPE)] or [Stage()]

    def batch(self, method: Method, stage: Stage) -> tuple[Batch, Progress]:
        """A prepared batch of a stage and the progress to go with it."""
        data = self.unlabelled if stage.source == "unlabelled-test" else self.train
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
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Add a check to the suite."""
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


def run(cls: type[Method]) -> Iterator[Outcome]:
    """Carry out the suite over a method, on the CPU and on a GPU if there is one."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for name, function in CHECKS.items():
            title = name if device == "cpu" else f"{name} ({device})"
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", LtbenchWarning)
                    function(Subject(cls, torch.device(device)))
                yield Outcome(title, passed=True)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a method may call sys.exit
                yield Outcome(title, passed=False, message=_explained(error, cls))


def _explained(error: BaseException, cls: type[Method]) -> str:
    message = f"{type(error).__name__}: {error}" if not isinstance(error, AssertionError) else str(error)
    place = registry.error_location(error, cls)
    return f"{message} ({place})" if place else message


@check
def it_is_documented(subject: Subject) -> None:
    """A class without a docstring of its own inherits none."""
    assert subject.cls.__doc__, "the class needs a docstring: the idea, the paper and the equation"


@check
def its_hyper_parameters_survive_storing(subject: Subject) -> None:
    """Results hold hyper-parameters as JSON."""
    config = subject.cls.Config()
    again = subject.cls.Config.model_validate(config.model_dump(mode="json"))
    same = canonical_json(again.model_dump(mode="json")) == canonical_json(config.model_dump(mode="json"))
    assert same, "Config changes when it is written as JSON and read again"


@check
def its_search_space_is_valid(subject: Subject) -> None:
    """Both ends of every range and every choice are accepted by Config."""
    for name, option in subject.cls.Config.search_space().items():
        for value in option.options if isinstance(option, Choice) else (option.low, option.high):
            subject.cls.Config.model_validate({name: value})


@check
def its_loss_is_finite(subject: Subject) -> None:
    """In every stage."""
    method = subject.make()
    for stage in subject.stages(method):
        loss = method(*subject.batch(method, stage))
        assert loss.total.ndim == 0, f"Loss.total must be a scalar, got shape {tuple(loss.total.shape)}"
        assert bool(torch.as_tensor(loss.weight) > 0), "Loss.weight must be positive"
        assert bool(loss.mean.isfinite()), f"the loss of stage '{stage.name}' is {loss.mean.item()}"


@check
def the_parts_of_a_batch_add_up(subject: Subject) -> None:
    """Sums and weights of unequal parts are those of the whole, unless the loss couples samples and says so.

    Accumulated gradients and several processes rest on that. Batch norm couples samples by itself and is put aside.
    """
    if subject.cls.couples_batch:
        return
    method = subject.make()
    for stage in subject.stages(method):
        method.begin(stage, subject.unlabelled if stage.source == "unlabelled-test" else subject.train)
        method.eval()
        batch, progress = subject.batch(method, stage)
        whole = method(batch, progress)
        parts = [method(part(batch, which), progress) for which in (slice(0, 5), slice(5, None))]
        for name in ("total", "weight"):
            added = sum(torch.as_tensor(getattr(one, name)) for one in parts)
            message = (
                f"Loss.{name} of stage '{stage.name}' is not the sum over parts of a batch; say couples_batch = True"
            )
            assert torch.allclose(torch.as_tensor(added), torch.as_tensor(getattr(whole, name)), rtol=1e-5), message


@check
def gradients_reach_every_parameter_that_trains(subject: Subject) -> None:
    """In each stage, those that the stage trains."""
    method = subject.make()
    for stage in subject.stages(method):
        method.zero_grad(set_to_none=True)
        method(*subject.batch(method, stage)).mean.backward()
        for name, weight in method.named_parameters():
            if weight.requires_grad and name.startswith(stage.trains):
                assert weight.grad is not None, f"no gradient reaches {name} in stage '{stage.name}'"


@check
def training_changes_what_trains_and_nothing_else(subject: Subject) -> None:
    """Parameters of some stage move; parameters frozen in ``__init__`` move only by ``after_step``."""
    method = subject.make()
    stages = method.stages(RECIPE)
    before = {name: weight.detach().clone() for name, weight in method.named_parameters()}
    prefixes = tuple(prefix for stage in stages for prefix in stage.trains)
    trains = {name for name, weight in method.named_parameters() if weight.requires_grad and name.startswith(prefixes)}
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(method, Path(folder) / "checkpoint.pt")
    moved = {name for name, weight in method.named_parameters() if not torch.equal(weight, before[name])}
    assert trains <= moved, f"training does not change {', '.join(sorted(trains - moved))}"
    if type(method).after_step is Method.after_step and type(method).begin is Method.begin:
        assert moved <= trains, f"training changes frozen parameters: {', '.join(sorted(moved - trains))}"


@check
def equal_seeds_give_equal_weights(subject: Subject) -> None:
    """Bit by bit on the CPU; other seeds give others."""
    first, second = _state(subject.trained(0)), _state(subject.trained(0))
    if subject.device.type == "cpu":
        _assert_equal(first, second, "two trainings with the same seed differ")
    other = _state(subject.trained(1))
    assert any(not torch.equal(first[name], other[name]) for name in first), "the seed changes nothing"


@check
def a_stopped_training_goes_on_as_if_nothing_had_happened(subject: Subject) -> None:
    """All state is in parameters and buffers: nothing is lost when another process goes on."""
    whole = _state(subject.trained())
    shares: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(subject.make(), Path(folder) / "all.pt", watch=lambda share, *_: shares.append(share))
        for stop in sorted({len(shares) // 5, len(shares) // 2, len(shares) - 1} - {0, -1}):
            path = Path(folder) / f"{stop}.pt"
            left = iter(range(stop))

            def watch(*_: object, left: Iterator[int] = left) -> None:
                if next(left, None) is None:
                    raise Stopped

            with suppress(Stopped):
                subject.fit(subject.make(), path, watch=watch, every=0.0)
            again = _state(subject.fit(subject.make(), path, every=0.0))
            if subject.device.type == "cpu":
                _assert_equal(whole, again, f"resumed at step {stop}, training ends differently")


@check
def predictions_have_the_right_shape(subject: Subject) -> None:
    """(B, C), finite, also for one image, and untouched by the images beside."""
    method = subject.trained().eval()
    images = next(subject.test.eval_batches()).images
    with torch.no_grad():
        logits, experts = method.predict(images), method.experts(images)
        alone = method.predict(images[:1])
    classes = len(COUNTS)
    assert logits.shape == (len(images), classes), f"predict gives {tuple(logits.shape)}, not (B, C)"
    assert experts.ndim == 3, f"experts gives {tuple(experts.shape)}, not (M, B, C)"
    assert experts.shape[1:] == logits.shape, f"experts gives {tuple(experts.shape)}, not (M, B, C)"
    assert bool(logits.isfinite().all()), "predict gives numbers that are not finite"
    assert torch.allclose(alone, logits[:1], atol=1e-3), "a prediction depends on the images beside it"


@check
def predicting_changes_nothing(subject: Subject) -> None:
    """Evaluation leaves parameters and buffers alone."""
    method = subject.trained().eval()
    before = _state(method)
    with torch.no_grad():
        method.predict(next(subject.test.eval_batches()).images)
    _assert_equal(before, _state(method), "predict changes the method's state")


@check
def global_generators_are_left_alone(subject: Subject) -> None:
    """Neither torch's nor numpy's is advanced or seeded by making and training."""
    torch_state, numpy_state = torch.get_rng_state(), _numpy_state()
    subject.trained()
    assert torch.equal(torch_state, torch.get_rng_state()), "torch's global generator was used"
    assert numpy_state == _numpy_state(), "numpy's global generator was used"


@check
def it_trains_with_and_without_mixup(subject: Subject) -> None:
    """Mixup is a setting of every method."""
    for alpha in (0.0, 0.5):
        method = subject.make(mixup=alpha)
        for stage in subject.stages(method):
            loss = method(*subject.batch(method, stage)).mean
            assert bool(loss.isfinite()), f"the loss with mixup={alpha} is {loss.item()}"


@check
def its_stages_say_what_they_look_at(subject: Subject) -> None:
    """A method that adapts to test images says that it is transductive."""
    stages = subject.make().stages(RECIPE)
    adapts = any(stage.source == "unlabelled-test" for stage in stages)
    assert adapts == subject.cls.transductive, "transductive must be True exactly if a stage sees test images"


@check
def its_step_compiles_whole(subject: Subject) -> None:
    """And is the same work in every step, so that it can be recorded; or ``compiles = False`` says that it is not."""
    if not subject.cls.compiles:
        return
    method = subject.make()
    for stage in subject.stages(method):
        batch, progress = subject.batch(method, stage)
        torch.compiler.reset()
        compiled = torch.compile(method, fullgraph=True, backend="eager", dynamic=False)
        torch.testing.assert_close(compiled(batch, progress).mean, method(batch, progress).mean)
        with torch.no_grad():
            method.after_step(progress)
        later = replace(
            progress, epoch=progress.epoch + 1, step=progress.step + 1, stage_fraction=progress.stage_fraction + 0.5
        )
        try:
            with torch._dynamo.config.patch(error_on_recompile=True):
                compiled(batch, later)
        except torch._dynamo.exc.RecompileError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise AssertionError(
                f"forward depends on more than tensors, and changes from step to step: {reason}"
            ) from None


def _numpy_state() -> tuple[bytes, int]:
    """A draw moves the position, and every 624 draws the key."""
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return state["state"]["key"].tobytes(), state["state"]["pos"]


def _state(method: Method) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in method.state_dict().items()}


def _assert_equal(first: dict[str, Tensor], second: dict[str, Tensor], message: str) -> None:
    assert first.keys() == second.keys(), f"{message}: other entries"
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    assert not differing, f"{message}: {', '.join(differing[:3])}"
