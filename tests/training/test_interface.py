"""What rivals need of the interface, each shown by a tiny method against a value worked out apart from it."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ltbench.config import Augment, Recipe
from ltbench.data.images import LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.errors import LtbenchError, TrainingFailedError
from ltbench.method import ClassPrior, Loss, Method, MethodConfig, Shuffled, Stage, Weighted
from ltbench.method.losses import cross_entropy
from ltbench.models.backbone import Backbone
from ltbench.models.linear_probe import LinearProbe
from ltbench.training.optimiser import StageSetup
from ltbench.training.trainer import fit

COUNTS = (150, 50, 20, 3)  # 223 images: a batch of 128 and a last one of 95


def images(counts=COUNTS) -> InMemoryLoader:
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 8, 8)).astype(np.uint8)
    return InMemoryLoader(LabelledImages(pixels, labels), (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))


def train(cls, *, epochs=2, counts=COUNTS, **recipe):
    torch.manual_seed(0)
    build = Backbone("cifar_resnet8", classes=len(counts), channels=3, image_size=8, head="linear")
    method = cls(build, ClassPrior(torch.tensor(counts)), MethodConfig())
    settings = {"epochs": epochs, "batch_size": 128, "lr": 0.05, "warmup": 0.0, "milestones": (), **recipe}
    fit(method, images(counts), Recipe(**settings), seed=0)
    return method


class Plain(Method):
    """Cross entropy."""

    def forward(self, batch, progress):
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))


class TailStream(Plain):
    """A second sampler that draws each class equally often, as CMO's foreground."""

    def samplers(self, labels, stage):
        weights = 1 / self.prior.counts[labels].double()
        return {"main": Shuffled(len(labels)), "tail": Weighted(weights)}

    def prepare(self, batch, progress):
        self.seen = [*getattr(self, "seen", []), (batch.labels, batch.streams["tail"].labels)]
        return batch


@pytest.mark.slow
def test_a_second_sampler_has_its_own_class_frequencies():
    method = train(TailStream, epochs=40)
    main, tail = (torch.cat(labels) for labels in zip(*method.seen, strict=True))
    assert torch.bincount(main).tolist() == [40 * count for count in COUNTS]
    assert len(tail) == len(main) == 40 * 223
    frequency = torch.bincount(tail).double() / len(tail)
    sigma = (0.25 * 0.75 / len(tail)) ** 0.5
    assert (frequency - 0.25).abs().max() < 5 * sigma, frequency


class TwoStages(Plain):
    """Trains everything, then a new head on frozen features, as cRT."""

    norms = "eval"

    def stages(self, recipe):
        return (
            Stage("features"),
            Stage("head", epochs=2, trains=("network.heads",), frozen_norms=self.norms, optimiser="new"),
        )

    def begin(self, stage, data):
        if stage.name == "head":
            self.before = copy.deepcopy(self.network.state_dict())
            nn.init.zeros_(self.network.heads[0].weight)


class TwoStagesUpdatingNorms(TwoStages):
    """The same, but frozen batch norms go on following the images."""

    norms = "train"


@pytest.mark.parametrize("cls", [TwoStages, TwoStagesUpdatingNorms])
def test_frozen_weights_stay_and_norms_do_as_the_stage_says(cls):
    method = train(cls, epochs=4)
    after = method.network.state_dict()
    changed = {name for name in after if not torch.equal(after[name], method.before[name])}
    norms = {name for name in after if "running_" in name or "num_batches" in name}
    heads = {name for name in after if name.startswith("heads")}
    assert changed == (heads | norms if cls.norms == "train" else heads)


@pytest.mark.parametrize("cls", [TwoStages, TwoStagesUpdatingNorms])
def test_norms_without_parameters_do_as_the_stage_says(cls):
    """Linear probing has one: nothing of it trains, and its place tells which stage it belongs to."""
    method = cls(LinearProbe(4, classes=3, head="linear"), ClassPrior(torch.tensor([5, 3, 2])), cls.Config())
    teacher = nn.BatchNorm1d(4, affine=False).eval()
    method.teacher = teacher
    setup, norm = StageSetup(method, Recipe(), torch.device("cpu"), recorded=False), method.network.trunk[1]
    for stage, trains in zip(method.stages(Recipe()), (True, cls.norms == "train"), strict=True):
        setup.freeze(stage)
        assert norm.training == trains
        assert not teacher.training


class Ramp(Method):
    """One number with gradient 1, so that SGD's momentum can be followed by hand."""

    carry = "carried"

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.network.requires_grad_(False)
        self.number = nn.Parameter(torch.zeros(()))

    def stages(self, recipe):
        return (Stage("one"), Stage("two", epochs=1, optimiser=self.carry, lr_scale={"num": 10.0}))

    def forward(self, batch, progress):
        return Loss(self.number * len(batch.labels), float(len(batch.labels)))


class RampAnew(Ramp):
    """The same with fresh momentum in the second stage."""

    carry = "new"


@pytest.mark.parametrize(
    ("cls", "last_step"),
    # Momentum .5, lr .1, one step an epoch: steps 1 and 2 move by .1 * 1 and .1 * 1.5; the third, at ten times
    # the rate, by 1 * (1 + .5 * 1.5) = 1.75 with momentum carried and by 1 without.
    [(Ramp, 1.75), (RampAnew, 1.0)],
)
def test_momentum_is_carried_or_new(cls, last_step):
    options = {"momentum": 0.5, "nesterov": False, "weight_decay": 0.0, "lr": 0.1}
    method = train(cls, epochs=3, counts=(20, 10), **options)
    assert method.number.item() == pytest.approx(-(0.1 + 0.15 + last_step))


class ThreeViews(Plain):
    """One view as it is and two augmented in different ways, as contrastive methods need."""

    views = ("plain", "train", "train")

    def prepare(self, batch, progress):
        self.last = batch
        return batch


class Decaying(Plain):
    """A loss without gradient in two stages, so that weight decay alone moves the weights; the second has its own."""

    def stages(self, recipe):
        return (Stage("one", epochs=1), Stage("two", epochs=1, optimiser="new", weight_decay=0.5))

    def forward(self, batch, progress):
        return Loss(0.0 * self.network(batch.images).sum(), float(len(batch.labels)))


def test_a_stage_may_have_a_weight_decay_of_its_own():
    # One step an epoch, rate 0.05 without momentum: w (1 - 0.05 * 0.1) (1 - 0.05 * 0.5).
    torch.manual_seed(0)
    build = Backbone("cifar_resnet8", classes=2, channels=3, image_size=8, head="linear")
    method = Decaying(build, ClassPrior(torch.tensor([9, 3])), MethodConfig())
    before = method.network.heads[0].weight.detach().clone()
    recipe = Recipe(epochs=2, batch_size=12, lr=0.05, warmup=0.0, milestones=(), momentum=0.0, nesterov=False,
                    weight_decay=0.1)  # fmt: skip
    fit(method, images((9, 3)), recipe, seed=0)
    torch.testing.assert_close(method.network.heads[0].weight.detach(), before * 0.995 * 0.975)


def test_three_views_of_the_same_images():
    batch = train(ThreeViews, epochs=1, augment=Augment(padding=0.25, flip=True)).last
    data = images()
    torch.testing.assert_close(batch.views[0], data.normalised(data.images[batch.indices]))
    assert torch.equal(batch.labels, data.labels[batch.indices])
    assert not torch.equal(batch.views[1], batch.views[2])
    assert not torch.equal(batch.views[0], batch.views[1])


class OtherViews(Plain):
    """A second stage that looks at two views, as test-time adaptation does."""

    def stages(self, recipe):
        return (Stage("one"), Stage("two", epochs=1, views=("plain", "train")))

    def prepare(self, batch, progress):
        self.seen = {**getattr(self, "seen", {}), progress.stage.name: len(batch.views)}
        return batch


def test_a_stage_may_have_views_of_its_own():
    assert train(OtherViews).seen == {"one": 1, "two": 2}


class UnknownView(Plain):
    """Asks for a view that there is not."""

    views = ("trian",)


def test_an_unknown_view_is_refused():
    with pytest.raises(LtbenchError, match="unknown view 'trian'"):
        train(UnknownView)


class Momentum(Plain):
    """A slowly following copy of the network and a queue of the last 200 labels, as MoCo and PaCo."""

    decay = 0.9
    size = 200

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.key = copy.deepcopy(self.network).requires_grad_(False)
        self.register_buffer("queue", torch.full((self.size,), -1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.weights = [self.network.heads[0].weight.detach().clone()]
        self.order = []

    def prepare(self, batch, progress):
        places = (self.pointer + torch.arange(len(batch.labels))) % self.size
        self.queue[places] = batch.indices
        self.pointer.copy_((self.pointer + len(batch.labels)) % self.size)
        self.order += batch.indices.tolist()
        return batch

    def after_step(self, progress):
        for slow, fast in zip(self.key.parameters(), self.network.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.decay)
        self.weights.append(self.network.heads[0].weight.detach().clone())


def test_a_momentum_encoder_is_the_average_and_its_queue_wraps():
    method = train(Momentum, epochs=3)
    steps = 6  # of 128, 95, 128, 95, 128, 95 images
    assert len(method.weights) == steps + 1
    expected = 0.9**steps * method.weights[0]
    for step in range(1, steps + 1):
        expected = expected + 0.1 * 0.9 ** (steps - step) * method.weights[step]
    torch.testing.assert_close(method.key.heads[0].weight, expected)
    total = 3 * 223  # 669 = 3 * 200 + 69: the newest 69 stand at the front, behind them the 131 before
    assert method.pointer.item() == total % 200 == 69
    assert method.queue.tolist() == method.order[-69:] + method.order[-200:-69]


class Distilled(Plain):
    """A frozen teacher inside of the method."""

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.teacher = copy.deepcopy(self.network).requires_grad_(False).eval()

    def forward(self, batch, progress):
        target = self.teacher(batch.images).softmax(1)
        return Loss.of(F.kl_div(self.network(batch.images).log_softmax(1), target, reduction="none").sum(1))


def test_a_teacher_put_in_eval_mode_stays_as_it_is():
    method = train(Distilled)
    torch.manual_seed(0)
    build = Backbone("cifar_resnet8", classes=len(COUNTS), channels=3, image_size=8, head="linear")
    untouched = Distilled(build, ClassPrior(torch.tensor(COUNTS)), MethodConfig()).teacher.state_dict()
    for name, value in method.teacher.state_dict().items():
        assert torch.equal(value, untouched[name]), name


def test_predict_cannot_be_overridden_without_effect():
    with pytest.raises(TypeError, match="override experts or combine"):

        class Sly(Plain):
            def predict(self, images):
                return -self.network(images)


class NoLoss(Plain):
    """Forgets to wrap its loss."""

    def forward(self, batch, progress):
        return cross_entropy(self.network(batch.images), batch.labels).mean()


class OneNumber(Plain):
    """Gives batch.loss the mean instead of one value a sample."""

    def forward(self, batch, progress):
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels).mean())


class TrainsNothing(Plain):
    """Misspells what it trains."""

    def stages(self, recipe):
        return (Stage(trains=("netwrok",)),)


@pytest.mark.parametrize(
    ("cls", "error", "message"),
    [
        (NoLoss, TrainingFailedError, "forward must return a Loss, as batch.loss does, not a Tensor"),
        (OneNumber, TypeError, r"one value a sample, \(B,\), and got shape \(\)"),
        (TrainsNothing, TrainingFailedError, "stage 'train' trains nothing: no parameter is named"),
    ],
)
def test_slips_in_a_method_are_explained(cls, error, message):
    with pytest.raises(error, match=message):
        train(cls)
