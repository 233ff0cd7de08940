"""Sharpness-aware steps: the authors' numbers, a plain loop's, and the same training however steps are carried out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ltbench import registry, rng
from ltbench.config import Recipe, RunConfig, run_id
from ltbench.conformance import Subject
from ltbench.conformance.tiny_task import COUNTS, state
from ltbench.errors import LtbenchError
from ltbench.method import Batch, ClassPrior, Loss, Method, Stage, at_rest
from ltbench.method.losses import cross_entropy
from ltbench.models.experts import ExpertNetwork
from ltbench.models.heads import HEADS
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve
from ltbench.runs.run import run
from ltbench.training import sharpness
from ltbench.training import trainer as training
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.gradient import Gradient, SummedGradient
from ltbench.training.micro_batches import select
from ltbench.training.options import TrainOptions
from ltbench.training.schedule import plan
from ltbench.training.sharpness import ClassSharesGradient, SharpnessAwareGradient, class_shares
from ltbench.training.step import Step
from ltbench.training.trainer import fit

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "sharpness.npz")
PARAMETERS = ("features_weight", "features_bias", "weight", "bias")
VARIANTS = {
    "sam": {"sam": 0.1},
    "imbsam": {"sam": 0.1, "sam_variant": "imbsam", "sam_tail": 6},
    "focal-sam": {"sam": 0.1, "sam_variant": "focal-sam", "sam_gamma": 2.0, "sam_share": 0.7},
    "cc-sam": {"sam": 0.1, "sam_variant": "cc-sam"},
}


def golden(case):
    return {key.partition("/")[2]: GOLDEN[key] for key in GOLDEN.files if key.startswith(f"{case}/")}


class Perceptron(nn.Module):
    """The network of the golden numbers, but for its classifier."""

    def __init__(self):
        super().__init__()
        self.features = nn.Linear(6, 5)

    def forward(self, x):
        return torch.tanh(self.features(x))


class Weighted(Method):
    """Cross entropy, the tail's times a factor."""

    factor: float = 1.0

    def forward(self, batch, progress):
        logits = self.network(batch.images)
        weights = torch.where(self.prior.counts < (self.config.sam_tail or 0), self.factor, 1.0)
        return batch.loss(lambda labels: weights[labels] * cross_entropy(logits, labels))


def of_golden(case, **settings):
    """The method of a golden case with its initial weights, in float64."""
    counts = torch.from_numpy(case["class_counts"])

    def build(**options):
        return ExpertNetwork(nn.Identity(), [Perceptron()], [HEADS["linear"](5, len(counts))])

    config = Weighted.Config.model_validate({"sam": float(case["rho"]), **settings})
    method = Weighted(build, ClassPrior(counts), config).double()
    with torch.no_grad():
        for name, weight in own_weights(method).items():
            weight.copy_(torch.from_numpy(case[f"initial_{name}"]))
    return method


def own_weights(method):
    features, head = method.network.branches[0].features, method.network.heads[0]
    return dict(zip(PARAMETERS, (features.weight, features.bias, head.weight, head.bias), strict=True))


def golden_batches(case):
    for images, targets in zip(case["images"], case["targets"], strict=True):
        yield Batch((torch.from_numpy(images),), torch.arange(len(targets)), torch.from_numpy(targets))


def train_on_golden(case, method):
    """The mean losses of the golden steps, which are taken."""
    how = {name: float(case[name]) for name in ("lr", "momentum", "weight_decay")}
    optimiser = torch.optim.SGD(method.parameters(), **how)
    losses = []
    for batch in golden_batches(case):
        sums = torch.zeros(2, dtype=torch.float64)
        Step(method, optimiser, sums)(batch, at_rest(Stage()))
        losses.append(float(sums[0] / sums[1]))
    return losses


def assert_weights(method, case):
    for name, weight in own_weights(method).items():
        np.testing.assert_allclose(weight.detach().numpy(), case[name], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("number", range(3))
def test_sam_has_the_published_codes_numbers(number):
    case = golden(f"sam_{number}")
    method = of_golden(case)
    np.testing.assert_allclose(train_on_golden(case, method), case["losses"], rtol=1e-12)
    assert_weights(method, case)


@pytest.mark.parametrize("number", range(3))
def test_imbsam_has_the_authors_numbers(number):
    case = golden(f"imbsam_{number}")
    method = of_golden(case, sam_variant="imbsam", sam_tail=int(case["eta"]))
    method.factor = float(case["tail_weight"])
    train_on_golden(case, method)
    assert_weights(method, case)


@pytest.mark.parametrize("number", range(3))
def test_focal_sam_has_the_authors_numbers(number):
    case = golden(f"focal_sam_{number}")
    values = {"sam_gamma": float(case["gamma"]), "sam_share": float(case["share"])}
    method = of_golden(case, sam_variant="focal-sam", **values)
    train_on_golden(case, method)
    assert_weights(method, case)


@pytest.mark.parametrize("number", range(3))
def test_cc_sam_has_the_authors_numbers(number):
    # In their code features get their gradient through a classifier that is unperturbed: equal where rho is theirs.
    case = golden(f"cc_sam_{number}")
    method = of_golden(case, sam_variant="cc-sam", sam_share=float(case["share"]))
    Step(method, torch.optim.SGD(method.parameters(), 0.0), torch.zeros(2, dtype=torch.float64))(
        next(golden_batches(case)), at_rest(Stage())
    )
    theirs = {name: case[f"grad_{name}"] for name in PARAMETERS}
    for name, weight in own_weights(method).items():
        if name in ("weight", "bias") or number == 0:
            tolerance = 1e-12 if name in ("weight", "bias") else 1e-5
            np.testing.assert_allclose(weight.grad.numpy(), theirs[name], rtol=0, atol=tolerance, err_msg=name)


def test_a_step_of_sam_by_hand():
    # L(w) = w^2 / 2 of one weight w = 3: g = 3, |g| = 3, e = 0.5; the gradient at 3.5 is 3.5, and 3 - 0.1 * 3.5 = 2.65.
    class Parabola(Method):
        def make_network(self, build):
            network = ExpertNetwork(nn.Identity(), [nn.Identity()], [HEADS["linear"](1, 2)])
            network.requires_grad_(False)
            return network

        def __init__(self, build, prior, config):
            super().__init__(build, prior, config)
            self.w = nn.Parameter(torch.tensor(3.0))

        def forward(self, batch, progress):
            return batch.loss(lambda labels: (self.w**2 / 2).expand(len(labels)))

    method = Parabola(None, ClassPrior(torch.tensor([2, 1])), Parabola.Config(sam=0.5))
    batch = Batch((torch.zeros(2, 1),), torch.arange(2), torch.tensor([0, 1]))
    Step(method, torch.optim.SGD([method.w], 0.1), torch.zeros(2))(batch, at_rest(Stage()))
    assert method.w.item() == pytest.approx(2.65, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "counts", "shares"),
    [
        ({"sam_variant": "imbsam"}, [100, 50, 20, 19], [0, 0, 0, 1]),
        ({"sam_variant": "imbsam", "sam_tail": 50}, [100, 50, 20, 2], [0, 0, 1, 1]),
        ({"sam_variant": "focal-sam", "sam_gamma": 2, "sam_share": 0.5}, [100, 60, 40], [0.125, 0.245, 0.32]),
        ({"sam_variant": "focal-sam", "sam_gamma": 0, "sam_share": 1}, [100, 60, 40], [1, 1, 1]),
        ({"sam_variant": "cc-sam"}, [100, 60, 40], [0.5, 0.5, 0.5]),
    ],
)
def test_the_share_of_each_class(settings, counts, shares):
    config = Method.Config.model_validate({"sam": 0.1, **settings})
    np.testing.assert_allclose(class_shares(config, torch.tensor(counts)), shares, rtol=1e-12)


class Normed(nn.Module):
    """Images to features, with batch norm."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)

    def forward(self, x):
        return F.silu(self.norm(self.convolution(x))).mean((2, 3))


class Dropping(Normed):
    """The same with dropout."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(super().forward(x))


def network_of(branch, experts):
    heads = [HEADS["linear"](8, len(COUNTS)) for _ in range(experts)]
    return ExpertNetwork(nn.Identity(), [branch() for _ in range(experts)], heads)


def normed(experts=1, **options):
    return network_of(Normed, experts)


def dropping(experts=1, **options):
    return network_of(Dropping, experts)


def made(name, build=dropping, **settings):
    cls = registry.method(name) if isinstance(name, str) else name
    with rng.global_stream(0, "init"):
        return cls(build, ClassPrior(torch.tensor(COUNTS)), cls.Config.model_validate(settings)).double()


@pytest.fixture
def doubled(monkeypatch):
    """Everything in float64, which ltbench asks for float32 in a few places; images, too."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


RECIPE = Recipe(epochs=2, batch_size=16, lr=0.05, warmup=0.0, milestones=(0.5,))


def plain_loop(method, recorded, variant, settings):
    """SGD with the gradients of the equations, written out with autograd; no batch is mixed, no class weighted."""
    weights = [weight for weight in method.parameters() if weight.requires_grad]
    shares = {
        "sam": torch.ones(4),
        "imbsam": torch.tensor([0, 0, 1, 1]),
        "focal-sam": 0.7 * (1 - torch.tensor(COUNTS).double() / 33) ** 2,
    }[variant]
    momentum = [torch.zeros_like(weight) for weight in weights]
    for number, (batch, key, lr) in enumerate(recorded):
        start = {name: value.clone() for name, value in method.named_buffers()}

        def per_sample(batch=batch, key=key, start=start):
            for name, value in method.named_buffers():
                value.copy_(start[name])
            torch.manual_seed(key)
            return F.cross_entropy(method.network(batch.images), batch.labels, reduction="none")

        share = shares.double()[batch.labels]
        rest = torch.autograd.grad(((1 - share) * per_sample()).mean(), weights)
        sharp = torch.autograd.grad((share * per_sample()).mean(), weights)
        first = {name: value.clone() for name, value in method.named_buffers()}
        norm = torch.cat([one.flatten() for one in sharp]).norm()
        with torch.no_grad():
            for weight, one in zip(weights, sharp, strict=True):
                weight += settings["sam"] * one / norm
        there = torch.autograd.grad((share * per_sample()).mean(), weights)
        with torch.no_grad():
            for k, weight in enumerate(weights):
                weight -= settings["sam"] * sharp[k] / norm
                gradient = rest[k] + there[k] + RECIPE.weight_decay * weight
                momentum[k] = gradient if number == 0 else RECIPE.momentum * momentum[k] + gradient
                weight -= lr * (gradient + RECIPE.momentum * momentum[k])
        for name, value in method.named_buffers():
            value.copy_(first[name])


class Recording(registry.method("ce")):
    """Cross entropy that keeps its batches."""

    def prepare(self, batch, progress):
        kept = vars(self).setdefault("kept", [])
        kept.append((batch, progress))
        return batch


@pytest.mark.parametrize("variant", ["sam", "imbsam", "focal-sam"])
def test_training_is_a_plain_loop(variant, doubled):
    settings = VARIANTS[variant]
    method = made(Recording, **settings)
    fit(method, Subject(Recording).train, RECIPE, seed=5)
    (planned,) = plan(method.stages(RECIPE), RECIPE)
    steps = [
        (batch, rng.key(5, "step", 0, progress.epoch, progress.step), planned.lrs[progress.epoch])
        for batch, progress in method.kept
    ]
    assert len(steps) == 4
    expected = made(Recording)
    plain_loop(expected, steps, variant, settings)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(method.state_dict()[name], value, rtol=0, atol=1e-12, msg=name)


def gradients(method, batch, *, how=None, summed=False, **options):
    """The gradients of one sharpness-aware step and its loss; weights and buffers are left alone."""
    optimiser = torch.optim.SGD(method.parameters(), 0.1)
    inner = (SummedGradient if summed else Gradient)(method, optimiser, TrainOptions(**options))
    before = state(method)
    torch.manual_seed(3)
    total, weight = (how or sharpness.sharpness_aware)(inner)(batch, at_rest(method.stages(RECIPE)[0]), 16)
    for name, value in method.named_parameters():
        assert torch.equal(value, before[name]), name
    method.load_state_dict(before)
    return {name: one.grad.clone() for name, one in method.named_parameters() if one.grad is not None}, total / weight


WITHOUT_TRAINING = {"logit_adjustment_posthoc", "sade_tta", "tau_norm"}
"""They change predictions only, or adapt to images without labels."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*registry.method_names()} - WITHOUT_TRAINING))
def test_every_methods_loss_can_be_divided_by_class(name):
    # With all shares one, the variants are SAM. A term of no class would be left out: RIDE's is off here.
    subject = Subject(registry.method(name))
    method = subject.make(sam=0.1, **({"diversity": 0} if name == "ride" else {})).train()
    stage = subject.stages(method)[0]
    method.begin(stage, subject.stage_images(stage))
    batch, _ = subject.batch(method, stage)
    shares = torch.ones(len(COUNTS))
    whole, loss = gradients(method, batch)
    by_class, same = gradients(method, batch, how=lambda inner: ClassSharesGradient(inner, 0.1, shares))
    assert same == loss
    assert whole.keys() == by_class.keys()
    for parameter, gradient in whole.items():
        torch.testing.assert_close(by_class[parameter], gradient, rtol=1e-3, atol=1e-5, msg=parameter)


def test_mixed_images_count_for_both_of_their_classes():
    values = torch.tensor([[1.0, 2, 4], [8, 16, 32]])
    batch = Batch(
        (torch.zeros(2, 1),),
        torch.arange(2),
        labels=torch.tensor([0, 2]),
        mixed_labels=torch.tensor([1, 1]),
        weight=torch.tensor(0.75),
        sharpness=torch.tensor([0.0, 1.0, 0.5]),
    )
    loss = batch.loss(lambda labels: values[torch.arange(2), labels], torch.tensor([1.0, 3.0, 10.0]))
    assert loss.total == 0.75 * (1 + 320) + 0.25 * (6 + 48)
    assert loss.weight == 0.75 * 11 + 0.25 * 6
    assert loss.sharp == 0.75 * (0 + 160) + 0.25 * (6 + 48)
    assert select(batch, slice(1)).sharpness is batch.sharpness
    assert replace(batch, sharpness=None).loss(lambda labels: values[torch.arange(2), labels]).sharp is None


def test_terms_and_factors_of_a_loss():
    loss = Loss(torch.tensor(3.0), 2.0, torch.tensor(1.0)).plus(torch.tensor(4.0)).times(10)
    assert (loss.total, loss.weight, loss.sharp) == (70, 2, 10)
    assert Loss(torch.tensor(3.0), 2.0).plus(1.0).times(2).sharp is None


def test_a_loss_without_classes_is_refused_by_the_variants_alone():
    class Whole(registry.method("ce")):
        """Gives a sum and not one value a sample."""

        def forward(self, batch, progress):
            return Loss.of(cross_entropy(self.network(batch.images), batch.labels))

    subject = Subject(Whole)
    method = subject.make(sam=0.1).train()
    gradients(method, subject.batch(method, Stage())[0])
    method = subject.make(sam=0.1, sam_variant="focal-sam").train()
    with pytest.raises(LtbenchError, match="the loss of Whole is not made of one value a sample") as error:
        gradients(method, subject.batch(method, Stage())[0])
    assert "batch.loss" in str(error.value)


@pytest.mark.parametrize("variant", VARIANTS)
def test_buffers_are_those_of_the_first_pass(variant):
    subject = Subject(registry.method("ce"))
    batch, progress = subject.batch(subject.make(), Stage())
    found = []
    for settings in ({}, VARIANTS[variant]):
        method = subject.make(**settings).train()
        Step(method, torch.optim.SGD(method.parameters(), 0.1), torch.zeros(2))(batch, progress)
        found.append({name: value.clone() for name, value in method.named_buffers()})
    assert any("num_batches_tracked" in name for name in found[0])
    assert all(torch.equal(found[1][name], value) for name, value in found[0].items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_passes_draw_the_same_masks_and_start_with_the_same_buffers(variant):
    method, seen = made("ce", **VARIANTS[variant]).train(), []
    branch = method.network.branches[0]
    branch.drop.register_forward_hook(lambda module, given, found: seen.append((found == 0).nonzero().tolist()))
    branch.norm.register_forward_pre_hook(lambda module, given: seen.append(module.running_mean.tolist()))
    images, labels = torch.rand(16, 3, 8, 8, dtype=torch.float64), torch.arange(16) % 4
    gradients(method, Batch((images,), torch.arange(16), labels))
    assert len(seen) == 2 * {"sam": 2, "imbsam": 3, "focal-sam": 3, "cc-sam": 9}[variant]
    assert all(one == seen[0] for one in seen[::2])
    assert all(one == seen[1] for one in seen[1::2])


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["ce", "balpoe", "ldam_drw"])
@pytest.mark.parametrize("accumulate", [2, 5])
def test_micro_batches_agree_with_the_whole_batch(variant, name, accumulate, doubled):
    subject, settings = Subject(registry.method(name)), VARIANTS[variant]
    method = subject.make(**settings).double().eval()  # batch norm looks at one image
    batch = subject.batch(method, Stage())[0]
    whole, loss = gradients(method, batch)
    parts, same = gradients(method, batch, summed=True, accumulate=accumulate)
    assert float(same) == pytest.approx(float(loss), abs=1e-12)
    for parameter, gradient in whole.items():
        torch.testing.assert_close(parts[parameter], gradient, rtol=0, atol=1e-10, msg=parameter)


def trained(tmp_path, name, epochs=RECIPE.epochs, build=None, **settings):
    recipe = RECIPE.model_copy(update={"epochs": epochs})
    options = {key: settings.pop(key) for key in ("precision", "compiled", "checkpoint_activations") if key in settings}
    subject = Subject(registry.method(name) if isinstance(name, str) else name)
    subject.build = build or subject.build
    method = subject.make(**settings)
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pt"
    options = TrainOptions(checkpoint=Checkpoint(path, every=1e9), **options)
    history = fit(method, subject.train, recipe, seed=0, options=options)
    return state(method), history


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_radius_0_is_plain_training(tmp_path):
    plain, _ = trained(tmp_path, "ce")
    assert same(plain, trained(tmp_path, "ce", sam=0)[0])
    assert not same(plain, trained(tmp_path, "ce", sam=0.1)[0])
    subject = Subject(registry.method("ce"))
    method = subject.make().train()
    batch = subject.batch(method, Stage())[0]
    usual = gradients(method, batch)[0]
    for how in (
        lambda inner: SharpnessAwareGradient(inner, 0.0),
        lambda inner: ClassSharesGradient(inner, 0.0, torch.ones(4)),
    ):
        assert same(usual, gradients(method, batch, how=how)[0])


def test_radius_0_is_the_run_without_sam():
    plain, off = (resolve(RunConfig(method="ce", hyperparameters=one)).config for one in ({}, {"sam": 0}))
    assert plain.hyperparameters == off.hyperparameters == {"mixup": 0.0}
    assert run_id(plain, "1", "data") == run_id(off, "1", "data")


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_activation_checkpointing_changes_nothing(variant, tmp_path):
    plain, _ = trained(tmp_path, "ce", **VARIANTS[variant])
    saving, history = trained(tmp_path, "ce", checkpoint_activations=True, **VARIANTS[variant])
    assert history.execution == "eager; activations recomputed"
    assert same(plain, saving)


def record_as_cuda_does(monkeypatch, method):
    """Record steps on the CPU: nothing happens while one is recorded, and generators cannot be turned back then."""
    recording = []

    def flagged(work):
        recording.append(True)
        try:
            work()
        finally:
            recording.pop()

    def record(work):
        before = {name: value.clone() for name, value in method.state_dict().items()}
        generator = torch.get_rng_state()
        optimiser = steps[-1].recorded.optimiser
        momentum = {weight: optimiser.state[weight]["momentum_buffer"].clone() for weight in optimiser.state}
        sums = steps[-1].sums_before()
        try:
            flagged(work)
        finally:
            method.load_state_dict(before)
            torch.set_rng_state(generator)
            for weight, value in momentum.items():
                optimiser.state[weight]["momentum_buffer"].copy_(value)
            sums()
        return lambda: flagged(work)

    class Recorded(Step):
        def __init__(self, *args, **options):
            super().__init__(*args, **{**options, "recorder": record})
            self.sums = args[2]
            steps.append(self)

        def sums_before(self):
            before = self.sums.clone()
            return lambda: self.sums.copy_(before)

    steps = []
    monkeypatch.setattr(sharpness, "_is_recorded", lambda device: bool(recording))
    monkeypatch.setattr(training, "Step", Recorded)


LONGER = RECIPE.model_copy(update={"epochs": 8})
"""Sixteen steps, half of which have one shape."""


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["sam", "imbsam", "focal-sam"])
def test_recorded_steps_change_nothing(variant, monkeypatch):
    subject = Subject(registry.method("balpoe"))
    plain, recorded = (subject.make(**VARIANTS[variant]) for _ in range(2))
    fit(plain, subject.train, LONGER, seed=0)
    record_as_cuda_does(monkeypatch, recorded)
    history = fit(recorded, subject.train, LONGER, seed=0)
    assert history.execution == "CUDA graph"
    assert same(state(plain), state(recorded))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "build", "reason"),
    [
        ("sam", dropping, "every pass of a sharpness-aware step needs the same random draws"),
        ("focal-sam", dropping, "every pass of a sharpness-aware step needs the same random draws"),
        ("cc-sam", None, "the passes of a step depend on the classes of its batch"),
    ],
)
def test_steps_that_cannot_be_recorded_run_plainly_and_say_so(variant, build, reason, monkeypatch, doubled):
    subject = Subject(registry.method("ce"))
    plain, recorded = (made("ce", build or subject.build, **VARIANTS[variant]) for _ in range(2))
    fit(plain, subject.train, LONGER, seed=0)
    record_as_cuda_does(monkeypatch, recorded)
    history = fit(recorded, subject.train, LONGER, seed=0)
    assert history.execution == f"eager; not recorded as a CUDA graph: {reason}"
    assert same(state(plain), state(recorded))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["sam", "focal-sam", "cc-sam"])
def test_compiled_steps_train_as_plain_ones_do(variant, tmp_path, monkeypatch):
    plain, _ = trained(tmp_path, "ce", build=normed, **VARIANTS[variant])
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: real(model, backend="aot_eager", **options))
    torch.compiler.reset()
    compiled, history = trained(tmp_path, "ce", build=normed, compiled=True, **VARIANTS[variant])
    assert history.execution == "compiled"
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_what_cannot_be_compiled_leaves_no_trace(tmp_path, monkeypatch):
    def no_compiler(graph, inputs):
        raise RuntimeError("no C++ compiler")

    plain, _ = trained(tmp_path, "ce", build=normed, **VARIANTS["focal-sam"])
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: real(model, backend=no_compiler, **options))
    torch.compiler.reset()
    fallen, history = trained(tmp_path, "ce", build=normed, compiled=True, **VARIANTS["focal-sam"])
    assert history.execution.startswith("eager; not compiled: ")
    assert same(plain, fallen)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_is_for_the_networks_arithmetic_only(variant, tmp_path):
    # After one epoch: rounding grows with every step, on some processors faster than on others.
    usual, _ = trained(tmp_path, "ce", epochs=1, **VARIANTS[variant])
    rounded, _ = trained(tmp_path, "ce", epochs=1, precision="bf16", **VARIANTS[variant])
    assert {value.dtype for value in rounded.values() if value.is_floating_point()} == {torch.float32}
    assert not same(usual, rounded)
    for name, value in usual.items():
        if value.is_floating_point():
            torch.testing.assert_close(rounded[name], value, rtol=0.1, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_interrupted_training_resumes_exactly(variant, tmp_path):
    subject, settings = Subject(registry.method("ldam_drw")), VARIANTS[variant]
    whole = state(subject.fit(subject.make(**settings), tmp_path / "whole.pt"))
    left = iter(range(5))

    def kill(update):
        if next(left, None) is None:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        subject.fit(subject.make(**settings), tmp_path / "half.pt", listener=kill, every=0.0)
    assert same(whole, state(subject.fit(subject.make(**settings), tmp_path / "half.pt")))


def test_adaptation_to_unlabelled_images_is_no_matter_of_sharpness(tmp_path):
    subject = Subject(registry.method("sade_tta"))
    plain, sharp = (subject.make(**settings) for settings in ({}, VARIANTS["focal-sam"]))
    found = [subject.fit(method, tmp_path / f"{k}.pt") for k, method in enumerate((plain, sharp))]
    assert torch.equal(found[0].aggregation, found[1].aggregation)


@pytest.mark.parametrize(("name", "settings"), [("crt", {}), ("lws", {}), ("sade_tta", {}), ("tau_norm", {})])
def test_the_run_that_a_method_starts_from_is_sharpness_aware_too(name, settings):
    config = resolve(RunConfig(method=name, hyperparameters={**settings, **VARIANTS["imbsam"]})).config
    for base in registry.method(name).uses(config).values():
        assert {key: base.hyperparameters[key] for key in VARIANTS["imbsam"]} == VARIANTS["imbsam"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sam": -0.1}, "sam: Input should be greater than or equal to 0"),
        ({"sam": "wide"}, "sam: Input should be a valid number"),
        ({"sam_variant": "imbsam"}, "sam_variant has no effect without a radius, e.g. sam=0.05"),
        ({"sam_tail": 10}, "sam_tail is a setting of sam_variant=imbsam and has no effect on sam"),
        ({"sam": 0.1, "sam_gamma": 2}, "sam_gamma is a setting of sam_variant=focal-sam and has no effect on sam"),
        ({"sam": 0.1, "sam_variant": "imbsam", "sam_share": 0.5}, "sam_share is a setting of sam_variant=focal-sam or"),
        ({"sam": 0.1, "sam_variant": "asam"}, "sam_variant: Input should be 'sam', 'imbsam', 'focal-sam' or 'cc-sam'"),
        ({"sam": 0.1, "sam_variant": ["imbsam"]}, "sam_variant: Input should be 'sam'"),
        ({"sam": 0.1, "sam_variant": "imbsam", "sam_tail": 0}, "sam_tail: Input should be greater than or equal to 1"),
        ({"sam": 0.1, "sam_variant": "focal-sam", "sam_gamma": -1}, "sam_gamma: Input should be greater"),
        ({"sam": 0.1, "sam_variant": "cc-sam", "sam_share": 1.5}, "sam_share: Input should be less than or equal to 1"),
        ({"sam_rho": 0.1}, "sam_rho"),
    ],
)
def test_settings_without_effect_or_out_of_range_are_refused(settings, message):
    with pytest.raises(LtbenchError) as error:
        resolve(RunConfig(method="ce", hyperparameters=settings))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"sam": 0.05}, {"sam": 0.05}),
        ({"sam": 0.05, "sam_variant": "sam"}, {"sam": 0.05}),
        ({"sam": 0, "sam_variant": "imbsam"}, {}),
        ({"sam": 0.05, "sam_variant": "imbsam"}, {"sam": 0.05, "sam_variant": "imbsam", "sam_tail": 20}),
        (
            {"sam": 0.05, "sam_variant": "focal-sam", "sam_gamma": 1},
            {"sam": 0.05, "sam_variant": "focal-sam", "sam_gamma": 1.0, "sam_share": 0.8},
        ),
        ({"sam": 0.05, "sam_variant": "cc-sam"}, {"sam": 0.05, "sam_variant": "cc-sam", "sam_share": 0.5}),
    ],
)
def test_a_run_stores_every_setting_that_has_an_effect(given, stored):
    config = resolve(RunConfig(method="ce", hyperparameters=given)).config
    assert config.hyperparameters == {"mixup": 0.0, **stored}
    assert resolve(config).config == config


@pytest.mark.slow
def test_a_tail_that_no_class_belongs_to_is_refused_before_training(tmp_path):
    settings = {"sam": 0.1, "sam_variant": "imbsam", "sam_tail": 1}
    with pytest.raises(LtbenchError, match="no class has fewer than 1 training images; the smallest has") as error:
        run(RunConfig(method="ce", epochs=1, hyperparameters=settings), RunOptions(out=tmp_path))
    assert "sam_tail" in str(error.value)
    assert not [*tmp_path.rglob("*.json")]
