"""What the authors' own code computes, as numbers, for every case of ``more_losses.npz`` and ``recent_losses.npz``."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ltbench import registry
from ltbench.config import Recipe
from ltbench.method import Batch, ClassPrior, Method, Progress, Stage, at_rest
from ltbench.method.losses import logit_adjusted_cross_entropy
from ltbench.method.paper import paper_of
from ltbench.models.experts import ExpertNetwork
from ltbench.models.heads import CosineLinear
from ltbench.training.schedule import plan
from ltbench_methods.dbm import class_margins, with_margins
from ltbench_methods.gcl import SCALE
from ltbench_methods.gml import ClassQueue
from ltbench_methods.lade import density_regulariser
from ltbench_methods.lift import AdaptedBlock, Adapter
from ltbench_methods.mdcs import WARMUP
from ltbench_methods.paco import Queue
from ltbench_methods.proco import concentration, expected_logits
from tests.conftest import GOLDEN
from tests.fixed_logits import FirstColumns, GivenFeatures, rows, same, same_loss, tangential

ARCHIVES = [np.load(GOLDEN / f"{name}.npz") for name in ("more_losses", "recent_losses")]
Case = dict[str, Any]
CHECKS: dict[str, Callable[..., None]] = {}
"""What is done with the cases whose names begin so."""


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for archive in ARCHIVES:
        for name in archive.files:
            case, _, entry = name.partition("/")
            value = torch.from_numpy(np.asarray(archive[name]))
            found.setdefault(case, {})[entry] = value if value.ndim else value.item()
    return found


CASES = cases()


def check(*prefixes: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(function: Callable[..., None]) -> Callable[..., None]:
        CHECKS.update(dict.fromkeys(prefixes, function))
        return function

    return add


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_of_the_authors_code(name, method_with_logits, batch_of):
    prefix = max((prefix for prefix in CHECKS if name.startswith(prefix)), key=len)
    CHECKS[prefix](CASES[name], name=name, make=method_with_logits, batch_of=batch_of)


def test_no_check_is_idle():
    assert all(any(name.startswith(prefix) for name in CASES) for prefix in CHECKS)


def same_loss_and_gradient(method: Method, batch: Batch, case: Case, stage: Stage | None = None) -> None:
    """Of a method on ``FixedLogits``."""
    loss = method(batch, at_rest(stage or Stage())).mean
    same_loss(loss, case["loss"])
    loss.backward()
    gradient = method.network.logits.grad
    same(gradient if case["grad"].ndim == 3 else gradient[0], case["grad"])


def on_features(name: str, case: Case, **settings: Any) -> tuple[Method, nn.Linear, Batch]:
    """A method on a network whose features are its pixels, the weights of its head, and a batch of these features."""
    classes, dimension = case["weight"].shape
    head = nn.Linear(dimension, classes, bias="bias" in case)
    head.weight.data = case["weight"].clone()
    if "bias" in case:
        head.bias.data = case["bias"].clone()
    network = ExpertNetwork(nn.Identity(), [nn.Flatten()], [head])
    cls = registry.method(name)
    counts = case.get("class_counts", torch.ones(classes, dtype=torch.long))
    method = cls(lambda **kwargs: network, ClassPrior(counts), cls.Config(**settings))
    labels = case.get("targets", torch.zeros(len(case["features"]), dtype=torch.long))
    images = case["features"].view(len(labels), 1, 1, dimension)
    return method, head, Batch((images,), torch.arange(len(labels)), labels)


def rates(method: str, table: str, stage: int) -> tuple[float, ...]:
    """The learning rates of a stage under the authors' recipe."""
    cls = registry.method(method)
    recipe = paper_of(cls).recipe[table]
    network = ExpertNetwork(nn.Identity(), [nn.Flatten()], [nn.Linear(2, 2)])
    made = cls(lambda **kwargs: network, ClassPrior(torch.tensor([2, 1])), cls.Config())
    return plan(made.stages(recipe), recipe)[stage].lrs


@check("lade_0")
def lade(case, make, batch_of, **_):
    method = make("lade", case["logits"][None], case["class_counts"], alpha=case["alpha"], square=case["square"])
    same_loss_and_gradient(method, batch_of(case["targets"]), case)
    prior = ClassPrior(case["class_counts"]).log
    same_loss(density_regulariser(case["logits"], case["targets"], prior, case["square"]), case["regulariser"])


@check("lade_rates_after_warmup")
def lade_rates(case, **_):
    np.testing.assert_allclose(rates("lade", "cifar", 0)[5:], case["rates"], rtol=1e-6)


@check("gcl_0", "gcl_mixup")
def gcl(case, name, make, batch_of, **_):
    counts = case["class_counts"]
    method = make("gcl", SCALE * case["cosines"][None], counts, noise=case.get("noise_mul", 0.5))
    stages = {stage.name: stage for stage in method.stages(Recipe())}
    stage = stages["classifier" if name.endswith("stage2") else "train"]
    method.begin(stage, None)
    stated = {"margin": method.margin, "scale": method.scale, "gamma": method.focus}
    assert {key: value.item() for key, value in stated.items() if key in case} == {
        key: pytest.approx(case[key]) for key in stated if key in case
    }
    batch = batch_of(case["targets"])
    batch = replace(batch, views=(*batch.views, case["noise"].abs().clamp(max=1)))
    if "permutation" in case:
        views = (*batch.views, case["noise_of_second"].abs().clamp(max=1))
        mixed = {"mixed_labels": batch.labels[case["permutation"]], "weight": torch.tensor(case["weight"])}
        batch = replace(batch, views=views, **mixed)
    same_loss_and_gradient(method, batch, {**case, "grad": case["grad_cosines"] / SCALE}, stage)


@check("gcl_first_stage_rates", "gcl_second_stage_rates")
def gcl_rates(case, name, **_):
    stage = 1 if "second" in name else 0
    np.testing.assert_allclose(rates("gcl", "cifar", stage), case["rates"], rtol=1e-6, atol=1e-12)


@check("mdcs")
def mdcs(case, make, batch_of, **_):
    method = make("mdcs", case["logits_weak_strong"], case["class_counts"])
    progress = at_rest(Stage())
    progress.stage_fraction = torch.tensor(WARMUP * case["epoch"] / case["warmup_epochs"])
    loss = method(batch_of(case["targets"], views=2), progress).mean
    same_loss(loss, case["loss"])
    loss.backward()
    same(method.network.logits.grad, case["grad"])


@check("gpaco")
def gpaco(case, **_):
    anchors, length = len(case["logits"]), case["queue"]
    features, queue = case["features"][:anchors], case["features"][anchors:]
    size, dimension = anchors // 2, features.shape[1]
    network = GivenFeatures(features, case["logits"])
    cls = registry.method("gpaco")
    settings = {"alpha": case["alpha"], "temperature": case["temperature"], "queue": length}
    method = cls(lambda **kwargs: network, ClassPrior(case["class_counts"]), cls.Config(**settings))
    method.projection = FirstColumns(dimension)
    labels, method.queue = case["labels"][:size], Queue(length, dimension)
    assert torch.equal(labels, case["labels"][size:anchors])
    method.queue.keys.copy_(queue)
    method.queue.labels.copy_(case["labels"][anchors:])
    views = (rows(0, size), rows(size, anchors))
    loss = method(Batch(views, torch.arange(size), labels), at_rest(Stage())).mean
    same_loss(loss, case["loss"])
    loss.backward()
    same(network.given.grad, tangential(case["grad_features"][:anchors], features))
    same(network.logits.grad, case["grad_logits"])
    method.after_step(at_rest(Stage()))
    same(method.queue.keys, torch.cat([features[size:], queue])[:length])


@check("vs_0")
def vector_scaling(case, make, batch_of, **_):
    method = make("vs", case["logits"][None], case["class_counts"], gamma=case["gamma"], tau=case["tau"])
    same_loss_and_gradient(method, batch_of(case["targets"]), case)


@check("vs_rates")
def vector_scaling_rates(case, **_):
    np.testing.assert_allclose(rates("vs", "cifar", 0), case["rates"], rtol=1e-6)


@check("class_balanced")
def class_balanced(case, make, batch_of, **_):
    method = make("class_balanced", case["logits"][None], case["class_counts"], beta=case["beta"])
    same(method.class_weights, case["weights"])
    same_loss_and_gradient(method, batch_of(case["targets"]), case)


@check("focal")
def focal(case, make, batch_of, **_):
    method = make("focal", case["logits"][None], torch.ones(case["logits"].shape[1]), gamma=case["gamma"])
    same_loss_and_gradient(method, batch_of(case["targets"]), case)


@check("mislas_0")
def mislas(case, **_):
    smoothing = {"smooth_head": case["smooth_head"], "smooth_tail": case["smooth_tail"]}
    method, head, batch = on_features("mislas", case, **smoothing)
    method.scales.data = case["scales"].clone()
    same(method.smoothing, case["smoothing"])
    loss = method(batch, at_rest(Stage())).mean
    same_loss(loss, case["loss"])
    loss.backward()
    same(head.weight.grad, case["grad_weight"])
    same(head.bias.grad, case["grad_bias"])
    same(method.scales.grad, case["grad_scales"])


@check("mislas_rates")
def mislas_rates(case, **_):
    whole = np.array(rates("mislas", "cifar", 0))
    np.testing.assert_allclose(whole, case["scales"], rtol=1e-6)
    factor = registry.method("mislas").Config().lr_factor
    np.testing.assert_allclose(factor * whole, case["classifier"], rtol=1e-6)


@check("las_factors")
def smoothing_factors(case, name, make, **_):
    own = CASES["mislas_0"]
    settings = {"smooth_head": own["smooth_head"], "smooth_tail": own["smooth_tail"]}
    shape = name.removeprefix("las_factors_")
    logits = torch.zeros(1, 1, len(case["class_counts"]))
    method = make("label_aware_smoothing", logits, case["class_counts"], shape=shape, **settings)
    same(method.smoothing, case["smoothing"])


@check("lws_0")
def lws(case, **_):
    method, _, batch = on_features("lws", case)
    method.scales.data = case["scales"].clone()
    same(method.predict(batch.images), case["logits"])
    loss = method(batch, at_rest(Stage())).mean
    same_loss(loss, case["loss"])
    loss.backward()
    same(method.scales.grad, case["grad_scales"])


@check("crt_0", "crt_1")
def crt(case, **_):
    method, head, batch = on_features("crt", case)
    loss = method(batch, at_rest(Stage())).mean
    same_loss(loss, case["loss"])
    loss.backward()
    same(head.weight.grad, case["grad_weight"])
    same(head.bias.grad, case["grad_bias"])


@check("crt_rates", "lws_rates")
def classifier_rates(case, name, **_):
    np.testing.assert_allclose(rates(name.removesuffix("_rates"), "imagenet-lt", 0), case["rates"], rtol=1e-6)


@check("tau_norm")
def tau_norm(case, **_):
    method, _, batch = on_features("tau_norm", case, tau=case["tau"])
    same(method.predict(batch.images), case["logits"])


@check("remix")
def remixed(case, make, batch_of, **_):
    method = make("remix", case["logits"][None], case["class_counts"], remix=case["kappa"])
    drawn = SimpleNamespace(beta=lambda *alpha: case["weight"], permutation=lambda images: case["permutation"].numpy())
    plain = replace(batch_of(case["targets"]), views=(case["images"],))
    batch = method.prepare(plain, drawing(drawn))
    same(batch.images, case["mixed"])
    same(batch.weight, case["shares"])
    same_loss_and_gradient(method, batch, case)


@check("cutmix")
def box_of_another_image(case, make, batch_of, **_):
    method = make("cutmix", case["logits"][None], torch.ones(case["logits"].shape[1]), cutmix=case["alpha"])
    # The other images are those of the batch in another order.
    order = [int((case["images"] == image).flatten(1).all(1).nonzero()[0]) for image in case["other"]]
    drawn = drawing_the_box(case)
    drawn.permutation = lambda images: np.array(order)
    batch = method.prepare(replace(batch_of(case["targets"]), views=(case["images"],)), drawing(drawn))
    same_box(method, batch, case)


@check("cmo")
def box_of_a_tail_image(case, make, batch_of, **_):
    # Where all counts are equal, balanced softmax is cross entropy, whose loss the case has.
    method = make("cmo", case["logits"][None], torch.ones(case["logits"].shape[1]))
    assert case["alpha"] == 1
    tail = replace(batch_of(case["other_targets"]), views=(case["other"],))
    drawn = drawing_the_box(case)
    drawn.uniform = lambda: 0.0
    plain = replace(batch_of(case["targets"]), views=(case["images"],), streams={"tail": tail})
    same_box(method, method.prepare(plain, drawing(drawn)), case)


def same_box(method: Method, batch: Batch, case: Case) -> None:
    same(batch.images, case["pasted"])
    assert torch.equal(batch.mixed_labels, case["other_targets"])
    same_loss(batch.weight, case["share"])
    same_loss_and_gradient(method, batch, case)


def drawing(drawn: SimpleNamespace) -> Progress:
    """Halfway through training, with the draws given."""
    progress = replace(at_rest(Stage()), run_fraction=0.5)
    progress.generator = lambda stream: drawn
    return progress


def drawing_the_box(case: Case) -> SimpleNamespace:
    """A generator whose draws lead to the case's box: a side and a centre that the borders cut to it."""
    inside = (case["pasted"] != case["images"]).any(1).any(0)
    length = len(inside)
    spans = [(int(line.nonzero()[0]), int(line.nonzero()[-1]) + 1) for line in (inside.any(1), inside.any(0))]
    half, centres = next(
        (half, centres)
        for half in range(1, length // 2 + 1)
        for centres in itertools.product(range(length), repeat=2)
        if [(max(0, centre - half), min(length, centre + half)) for centre in centres] == spans
    )
    area, drawn = (2 * half / length + 1e-9) ** 2, iter(centres)
    return SimpleNamespace(beta=lambda *alpha: 1 - area, integers=lambda high: next(drawn))


class GivenViews(nn.Module):
    """Experts whose logits (M, B, C) belong to the view that is asked for, by its first pixel."""

    def __init__(self, views: torch.Tensor) -> None:
        super().__init__()
        self.views = views

    def experts(self, images: torch.Tensor) -> torch.Tensor:
        return self.views[int(images.flatten()[0])]


@check("sade_tta")
def aggregation_at_test_time(case, make, **_):
    steps, _, experts, size, classes = case["logits"].shape
    method = make("sade_tta", torch.zeros(experts, size, classes), torch.ones(classes))
    recipe = Recipe(lr=case["lr"])
    kept = {"lr": recipe.lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    optimiser = torch.optim.SGD([method.aggregation], nesterov=recipe.nesterov, **kept)
    views = tuple(torch.full((size, 1, 1, 1), float(view)) for view in range(2))
    batch = Batch(views, torch.arange(size), torch.full((size,), -1))
    progress = at_rest(Stage())
    for step in range(steps):
        method.network = GivenViews(case["logits"][step])
        optimiser.zero_grad()
        loss = method(batch, progress).mean
        loss.backward()
        if step == 0:
            same_loss(loss, case["first_loss"])
            same(method.aggregation.grad, case["first_grad"])
        optimiser.step()
        with torch.no_grad():
            method.after_step(progress)
        same(method.aggregation, case["weights"][step])


@check("proco")
def proco(case, **_):
    # The published recurrence for the Bessel function is inaccurate where the concentration is far above D, and the
    # published concentration leaves R^2 out of D - R^2.
    size, dimension = case["projections"].shape
    prior = ClassPrior(case["class_counts"])
    lengths = torch.linalg.vector_norm(case["means"].double(), dim=1)
    same((concentration(lengths, dimension) * dimension / (dimension - lengths**2)).float(), case["kappa"])
    logits = expected_logits(F.normalize(case["projections"], dim=1), case["means"], case["temperature"])
    centred = logits - logits.mean(1, keepdim=True)
    torch.testing.assert_close(centred, case["logits_centred"], rtol=1e-2, atol=1e-2)

    network = GivenFeatures(case["projections"], torch.zeros(size, len(prior.counts)))
    cls = registry.method("proco")
    method = cls(lambda **kwargs: network, prior, cls.Config(temperature=case["temperature"]))
    method.projection = FirstColumns(dimension)
    method._means = lambda *of: case["means"]
    views = (rows(0, size),) * 3
    loss = method(Batch(views, torch.arange(size), case["targets"]), at_rest(Stage())).mean
    tau = torch.tensor(1.0)
    classified = logit_adjusted_cross_entropy(network.logits.detach(), case["targets"], prior.log, tau).mean()
    assert (loss - classified).item() == pytest.approx(case["loss"], rel=1e-2)
    loss.backward()
    torch.testing.assert_close(network.given.grad, case["grad_projections"], rtol=1e-2, atol=1e-2)


ADAPTER = {"ln": "norm", "down_proj": "down", "up_proj": "up"}
"""The authors' names of an adapter's layers, and ours."""


def load_adapter(adapter: Adapter, case: Case, prefix: str = "") -> None:
    state = {
        f"{ours}.{part}": case[f"{prefix}{theirs}_{part}"]
        for theirs, ours in ADAPTER.items()
        for part in ("weight", "bias")
    }
    adapter.load_state_dict({**state, "scale": case[f"{prefix}scale"]})


@check("lift_adapter")
def adapter_alone(case, **_):
    width, dimension = case["down_proj_weight"].shape
    adapter = Adapter(dimension, width)
    load_adapter(adapter, case)
    x = case["x"].clone().requires_grad_()
    output = adapter(x)
    same(output, case["output"])
    output.backward(case["upstream"])
    gradients = {
        "x": x,
        "down": adapter.down.weight,
        "up": adapter.up.weight,
        "scale": adapter.scale,
        "norm": adapter.norm.weight,
    }
    for name, weight in gradients.items():
        same(weight.grad, case[f"grad_{name}"])


class ClassToken(nn.Module):
    """Features of a vision transformer: its class token, normalised."""

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.forward_head(self.model.forward_features(images), pre_logits=True)


@check("lift_network")
def whole_network(case, **_):
    state = {name.removeprefix("vit_"): value for name, value in case.items() if name.startswith("vit_")}
    classes, dimension = case["head"].shape
    patch = state["patch_embed_proj_weight"].shape[-1]
    blocks = sum(name.endswith("norm1_weight") for name in state)
    vit = VisionTransformer(
        img_size=case["images"].shape[-1], patch_size=patch, embed_dim=dimension, depth=blocks, num_heads=2,
        num_classes=0,
    )  # fmt: skip
    vit.load_state_dict({name: state[name.replace(".", "_")] for name in vit.state_dict()})
    network = ExpertNetwork(nn.Identity(), [ClassToken(vit)], [CosineLinear(dimension, classes)])
    cls = registry.method("lift")
    method = cls(lambda **kwargs: network, ClassPrior(case["class_counts"]), cls.Config()).eval()
    method.network.heads[0].weight.data = case["head"].clone()
    adapters = [module.adapter for module in method.network.modules() if isinstance(module, AdaptedBlock)]
    assert len(adapters) == blocks
    for number, adapter in enumerate(adapters):
        load_adapter(adapter, case, f"adapter{number}_")
    batch = Batch((case["images"],), torch.arange(len(case["targets"])), case["targets"])
    same(method.predict(batch.images), case["logits"])
    loss = method(batch, at_rest(Stage())).mean
    same_loss(loss, case["loss"])
    loss.backward()
    same(method.network.heads[0].weight.grad, case["grad_head"])
    for number, adapter in enumerate(adapters):
        weights = {"down": adapter.down.weight, "up": adapter.up.weight, "scale": adapter.scale}
        for name, weight in {**weights, "norm": adapter.norm.weight}.items():
            same(weight.grad, case[f"grad_{name}{number}"])


@check("weight_balancing")
def weight_balancing(case, make, batch_of, **_):
    method = make("weight_balancing", case["logits"][None], case["class_counts"], beta=case["beta"])
    same_loss_and_gradient(method, batch_of(case["targets"]), case, method.stages(Recipe())[1])


@check("max_norm")
def weights_within_the_radius(case, **_):
    features = torch.zeros(2, case["first"].shape[1])
    method, head, _ = on_features(
        "weight_balancing", {"features": features, "weight": case["first"]}, threshold=case["threshold"]
    )
    first, second = method.stages(Recipe())
    head.weight.data = case["weight"].clone()
    method.after_step(at_rest(first))
    assert torch.equal(head.weight, case["weight"])
    head.weight.data = case["first"].clone()
    method.begin(second, None)
    head.weight.data = case["weight"].clone()
    with torch.no_grad():
        method.after_step(at_rest(second))
    same(head.weight, case["projected"])


@check("los_0", "los_1", "los_2")
def label_over_smooth(case, make, batch_of, **_):
    counts = torch.ones(case["logits"].shape[1])
    method = make("los", case["logits"][None], counts, smoothing=case["smoothing"])
    same_loss_and_gradient(method, batch_of(case["targets"]), case)


@check("los_rates", "h2t_rates")
def second_stage_rates(case, name, **_):
    np.testing.assert_allclose(rates(name.removesuffix("_rates"), "cifar", 0), case["rates"], rtol=1e-6, atol=1e-12)


@check("dbm")
def difficulty_aware_margins(case, **_):
    margins = class_margins(case["class_counts"], case["margin"], case["tau"])
    same(margins, case["margins"])
    cosines = case["cosines"].clone().requires_grad_()
    logits = with_margins(cosines, case["targets"], margins, case["scale"])
    prior = case["adjustment"] * ClassPrior(case["class_counts"]).log
    loss = F.cross_entropy(logits + prior, case["targets"])
    same_loss(loss, case["loss"])
    loss.backward()
    same(cosines.grad, case["grad_cosines"])


@check("dbm_1_bs", "dbm_1_ce")
def difficulty_aware_margins_of_the_method(case, make, batch_of, **kwargs):
    """The scale of the method is 30; those of the other cases are none that it has."""
    difficulty_aware_margins(case, **kwargs)
    settings = {name: case[name] for name in ("margin", "tau", "adjustment")}
    method = make("dbm", case["scale"] * case["cosines"][None], case["class_counts"], **settings)
    grad = case["grad_cosines"] / case["scale"]
    same_loss_and_gradient(method, batch_of(case["targets"]), {**case, "grad": grad})


@check("h2t_0", "h2t_1", "h2t_2")
def head_to_tail(case, **_):
    method, head, batch = on_features("h2t", case, share=case["share"])
    size, channels = case["features"].shape
    taken = torch.zeros(channels, dtype=torch.bool)
    taken[case["taken"]] = True
    others = case["others"].view(size, 1, 1, channels)
    loss = method(replace(batch, views=(batch.images, others, taken.expand(size, -1))), at_rest(Stage())).mean
    same_loss(loss, case["loss"])
    loss.backward()
    same(head.weight.grad, case["grad_weight"])
    same(head.bias.grad, case["grad_bias"])
    assert len(case["taken"]) == int(case["share"] * channels)


class FeaturesOfViews(nn.Module):
    """A network whose features (B, D) belong to the view that is asked for, by its first pixel."""

    def __init__(self, views: list[torch.Tensor], heads: list[nn.Module]) -> None:
        super().__init__()
        self.views, self.heads = views, nn.ModuleList(heads)
        self.num_features = views[0].shape[1]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.views[int(images.flatten()[0])][None]


class Columns(nn.Module):
    """Some columns of its input."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.which = slice(first, last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.which]


class Lookup(nn.Module):
    """What belongs to an input, of those that are known."""

    def __init__(self, known: list[torch.Tensor], answers: list[torch.Tensor]) -> None:
        super().__init__()
        self.known, self.answers = known, answers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return next(answer for one, answer in zip(self.known, self.answers, strict=True) if torch.equal(one, x))


@check("glmc_0", "glmc_1", "glmc_2")
def mixture_consistency(case, **_):
    parts = ("logits", "balanced", "projection", "prediction")
    given = {f"{name}_{view}": case[f"{name}_{view}"].clone().requires_grad_() for view in (1, 2) for name in parts}
    views = [torch.cat([given[f"{name}_{view}"] for name in parts[:3]], 1) for view in (1, 2)]
    classes, width = case["logits_1"].shape[1], case["projection_1"].shape[1]
    network = FeaturesOfViews(views, [Columns(classes, 2 * classes)])
    cls = registry.method("glmc")
    settings = {name: case[name] for name in ("consistency", "label_exponent")}
    method = cls(lambda **kwargs: network, ClassPrior(case["class_counts"]), cls.Config(**settings))
    same(method.class_weights, case["class_weights"])
    method.conventional, method.projection = Columns(0, classes), Columns(2 * classes, 2 * classes + width)
    method.prediction = Lookup(
        [case["projection_1"], case["projection_2"]], [given["prediction_1"], given["prediction_2"]]
    )
    labels = case["targets"]
    images = tuple(torch.full((len(labels), 1, 1, 1), float(view)) for view in range(2))
    weight = torch.tensor(case["weight"])
    batch = Batch(images, torch.arange(len(labels)), labels, case["other_targets"], weight)
    progress = at_rest(Stage())
    progress.stage_fraction = torch.tensor(case["fraction"])
    loss = method(batch, progress).mean
    same_loss(loss, case["loss"])
    loss.backward()
    for name, tensor in given.items():
        if not name.startswith("projection"):
            same(tensor.grad, case[f"grad_{name}"])


@check("glmc_mixes")
def global_and_local_mixes(case, make, batch_of, **_):
    method = make_glmc(case)
    first, second, other_first, other_second = case["images"]
    labels = torch.zeros(len(first))
    other = replace(batch_of(labels), views=(other_first, other_second))
    plain = replace(batch_of(labels), views=(first, second), streams={"other": other})
    for centre in itertools.product(range(second.shape[-1]), repeat=2):
        where = iter(centre)
        drawn = SimpleNamespace(beta=lambda *alpha: case["weight"], integers=lambda high, where=where: next(where))
        batch = method.prepare(plain, drawing(drawn))
        same(batch.views[0], case["blended"])
        assert batch.weight.item() == pytest.approx(case["weight"])
        if torch.equal(batch.views[1], case["pasted"]):
            return
    pytest.fail("no centre of the box leads to the published image")


def make_glmc(case: Case) -> Method:
    network = GivenFeatures(torch.zeros(2, 4), torch.zeros(2, 3))
    cls = registry.method("glmc")
    return cls(lambda **kwargs: network, ClassPrior(torch.tensor([3, 2, 1])), cls.Config())


@check("car")
def confusion_norm(case, make, batch_of, **_):
    settings = {name: case[name] for name in ("factor", "decay", "smoothing", "temperature")}
    method = make("car", case["logits"][None], case["class_counts"], **settings)
    same(method.class_weights, case["class_weights"])
    method.confusion.copy_(case["confusion"])
    method.started.fill_(case["started"])
    same_loss_and_gradient(method, batch_of(case["targets"]), case)
    method.after_step(at_rest(Stage()))
    same(method.confusion, case["new_confusion"])
    assert method.started


@check("gml_queue")
def queue_by_class(case, **_):
    dimension = case["start"].shape[1]
    queue = ClassQueue(case["length"], case["smallest"], dimension, ClassPrior(case["class_counts"]))
    assert torch.equal(queue.labels, case["queue_labels"])
    queue.features.copy_(case["start"])
    for step in zip(case["features"], case["labels"], case["images"], strict=True):
        kept, owners = queue.offer(*step)
        queue.advance()
    same(kept, case["queue"])
    assert torch.equal(owners, case["queue_images"])
    assert torch.equal(queue.features, kept)


@check("gml_loss")
def mixture_likelihood(case, **_):
    cls, prior = registry.method("gml"), ClassPrior(case["class_counts"])
    queries, keys, logits = (case[name].clone().requires_grad_() for name in ("queries", "keys", "logits"))
    settings = {name: case[name] for name in ("contrast_weight", "distill_weight", "temperature")}
    size, classes = logits.shape
    # Features hold the logits and the projected query of an image, those of the teacher its logits.
    given = torch.cat([torch.cat([logits, torch.zeros_like(queries)], 1), torch.cat([logits, queries], 1)])
    both = [torch.zeros(2 * size, 1)]
    network = ExpertNetwork(nn.Identity(), [Lookup(both, [given])], [Columns(0, classes)])
    network.heads[0].weight = torch.zeros(classes, given.shape[1])
    method = cls(lambda **kwargs: network, prior, cls.Config(queue=len(keys), smallest=1, **settings))
    taught = torch.cat([case["teacher_logits"]] * 2)
    method.teacher = ExpertNetwork(nn.Identity(), [Lookup(both, [taught])], [nn.Identity()])
    method.projection, method.key_projection = Columns(classes, given.shape[1]), nn.Identity()
    del method.queue
    method.queue = SimpleNamespace(offer=lambda *of: (keys, case["key_images"]), labels=case["key_labels"])
    views = tuple(torch.zeros(size, 1) for _ in range(3))
    loss = method(Batch(views, case["images"], case["targets"]), at_rest(Stage())).mean
    same_loss(loss, case["loss"])
    loss.backward()
    same(logits.grad, case["grad_logits"])
    same(queries.grad, tangential(case["grad_queries"], case["queries"]))
    same(keys.grad, tangential(case["grad_keys"], case["keys"]))
    same(method.log_temperature.grad, torch.tensor(case["grad_log_temperature"]))


@check("bbn")
def bilateral_branches(case, **_):
    classes, dimension = case["weight"].shape[0], case["features"].shape[1]
    heads = [nn.Linear(dimension, classes) for _ in range(2)]
    for head, weight in zip(heads, case["weight"].split(dimension, 1), strict=True):
        head.weight.data, head.bias.data = weight.clone(), case["bias"] / 2
    given = [torch.full((len(case["targets"]), 1), float(branch)) for branch in range(2)]
    features = [case["features"], case["rare_features"]]
    network = ExpertNetwork(nn.Identity(), [Lookup(given, features) for _ in range(2)], heads)
    cls = registry.method("bbn")
    method = cls(lambda *args, **kwargs: network, ClassPrior(torch.ones(classes)), cls.Config())
    batch, rare = (
        Batch((images,), torch.arange(len(images)), case[name])
        for images, name in zip(given, ("targets", "rare_targets"), strict=True)
    )
    progress = at_rest(Stage())
    progress.stage_fraction = torch.tensor(case["fraction"])
    loss = method(replace(batch, streams={"rare": rare}), progress).mean
    same_loss(loss, case["loss"])
    loss.backward()
    same(torch.cat([head.weight.grad for head in heads], 1), case["grad_weight"])
    same(sum(head.bias.grad for head in heads) / 2, case["grad_bias"])
    network.branches = nn.ModuleList(Lookup(given[:1], [own]) for own in features)
    same(method.predict(given[0]), case["prediction"])
