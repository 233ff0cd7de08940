"""Networks divided over the processes: the same training as in one process, and whole networks before and after it."""

from copy import deepcopy

import numpy as np
import pytest
import timm
import torch

from ltbench import registry, rng
from ltbench.config import Augment, Recipe
from ltbench.data.images import LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.errors import LtbenchError
from ltbench.method import ClassPrior, Method
from ltbench.method.losses import cross_entropy
from ltbench.models.backbone import Backbone
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.distributed import sharding
from ltbench.training.distributed.batch_norm import sync_batch_norm
from ltbench.training.distributed.process_group import ALONE, Group
from ltbench.training.distributed.sharding import check_shardable, local_shard
from ltbench.training.options import TrainOptions
from ltbench.training.trainer import fit

pytestmark = pytest.mark.slow

COUNTS = (20, 11, 6, 3)
"""40 images: in batches of 17 the last one has 6, which leaves a fourth process without any."""
RECIPE = Recipe(epochs=2, batch_size=17, lr=0.02, augment=Augment(padding=0.125, flip=True))
"""Six steps."""
LONGER = RECIPE.model_copy(update={"epochs": 5})
SHORTEST = RECIPE.model_copy(update={"epochs": 1})


class Transformer(Backbone):
    """A vision transformer with two blocks, an expert's and a shared one, and no batch norm."""

    def __init__(self):
        super().__init__("vit_tiny_patch16_224", classes=len(COUNTS), channels=3, image_size=8, head="cosine")

    def _create(self, width):
        return timm.create_model(self.name, num_classes=0, img_size=8, patch_size=4, embed_dim=12, depth=2, num_heads=2)


CONVOLUTIONS = Backbone("cifar_resnet8", classes=len(COUNTS), channels=3, image_size=8, head="cosine")


def images():
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 8, 8)).astype(np.uint8)
    return InMemoryLoader(LabelledImages(pixels, labels), (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))


@pytest.fixture(autouse=True, scope="module")
def doubled():
    """Everything in float64, which ltbench asks for float32 in a few places; images, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


def trained(
    name,
    path,
    group=ALONE,
    *,
    build=None,
    recipe=RECIPE,
    every=1e9,
    stop=None,
    synchronised=False,
    settings=None,
    **ways,
):
    """The trained weights, the losses, how steps were taken, and the share of the network that a process kept.

    After ``stop`` steps training is broken off.
    """
    cls = registry.method(name) if isinstance(name, str) else name
    config = cls.Config.model_validate({**({"experts": 2} if name == "balpoe" else {}), **(settings or {})})
    with rng.global_stream(0, "init"):
        method = cls(build or Transformer(), ClassPrior(torch.tensor(COUNTS)), config).double()
    method.to(memory_format=torch.channels_last)
    if synchronised:
        sync_batch_norm(method, group)
    network = method.network
    weights, parts = list(network.parameters()), (network.trunk, *network.branches)
    strides = [weight.stride() for weight in weights]
    sizes, steps = [sum(weight.numel() for part in parts for weight in part.parameters())], []

    def watch(update):
        sizes.append(
            sum(local_shard(one).numel() for part in (network.trunk, *network.branches) for one in part.parameters())
        )
        steps.append(None)
        if len(steps) == stop:
            raise StopIteration

    saves = Checkpoint(path, every, group=group)
    try:
        options = TrainOptions(checkpoint=saves, group=group, listener=watch, **ways)
        history = fit(method, images(), recipe, seed=0, options=options)
    except StopIteration:
        return None
    assert all(one is other for one, other in zip(network.parameters(), weights, strict=True))
    assert [weight.stride() for weight in weights] == strides
    state = {name: value.numpy().copy() for name, value in method.state_dict().items()}
    return state, [point.loss for point in history.curve], history.execution, max(sizes[1:]) / sizes[0]


def assert_agree(one, other, tolerance=1e-8):
    assert one[0].keys() == other[0].keys()
    for name, value in one[0].items():
        np.testing.assert_allclose(other[0][name], value, rtol=0, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(other[1], one[1], rtol=0, atol=tolerance)


IN_PARTS = {"accumulate": 2, "checkpoint_activations": True}
SHORT = {"recipe": SHORTEST}
CASES = {
    "ce": ("ce", {}, {}),
    "balpoe": ("balpoe", {}, {}),
    "sam": ("ce", {**SHORT, "settings": {"sam": 0.1}}, {}),
    "imbsam": ("ce", {**SHORT, "settings": {"sam": 0.1, "sam_variant": "imbsam", "sam_tail": 7}}, {}),
    "focal-sam": ("ce", {**SHORT, "settings": {"sam": 0.1, "sam_variant": "focal-sam"}}, {}),
    "cc-sam": ("ce", {**SHORT, "settings": {"sam": 0.1, "sam_variant": "cc-sam"}}, {}),
    "balpoe in parts": ("balpoe", {}, IN_PARTS),
    "lift with frozen parts": ("lift", {}, IN_PARTS),
    "crt with frozen parts": ("crt", {}, IN_PARTS),
    "synchronised batch norm": (
        "balpoe", {**SHORT, "build": CONVOLUTIONS, "synchronised": True}, {"checkpoint_activations": True},
    ),
}  # fmt: skip
"""Each: the method, how it is trained, and how several processes carry that out beside dividing the network."""


@pytest.fixture(scope="module")
def alone(doubled, tmp_path_factory):
    """Every case trained in one process."""
    folder = tmp_path_factory.mktemp("alone")
    return {case: trained(name, folder / case, **how) for case, (name, how, _) in CASES.items()}


@pytest.fixture(scope="module")
def halves(doubled, together, tmp_path_factory):
    """Every case as each of two processes trained it: one start for all."""
    folder = tmp_path_factory.mktemp("halves")

    def work(group):
        return {
            case: trained(name, folder / case, group, shard=True, **how, **ways)
            for case, (name, how, ways) in CASES.items()
        }

    return together(2, work)


@pytest.mark.parametrize("case", CASES)
def test_divided_networks_agree_in_float64(case, alone, halves):
    assert len(halves) == 2
    recomputed = "; activations recomputed" if "checkpoint_activations" in CASES[case][2] else ""
    for found in halves:
        assert_agree(alone[case], found[case])
        assert found[case][2] == f"eager{recomputed}; parameters divided"
        assert found[case][3] < 0.53, "every process keeps its share; some lengths are no multiples"


def test_networks_divided_by_four_agree_in_float64(alone, together, tmp_path):
    for other in together(4, lambda group: trained("balpoe", tmp_path / "c", group, shard=True)):
        assert_agree(alone["balpoe"], other)
        assert other[2] == "eager; parameters divided"
        assert other[3] < 0.28


def test_a_run_goes_on_with_other_processes_divided_or_whole(together, tmp_path):
    # Two stages, the second of which takes over the momentum of the first; it begins after 12 of 15 steps.
    path = tmp_path / "checkpoint.pt"
    expected = trained("ldam_drw", tmp_path / "alone", recipe=LONGER)
    together(2, lambda group: trained("ldam_drw", path, group, recipe=LONGER, every=0.0, stop=14, shard=True))
    assert torch.load(path, weights_only=True)["position"] == (1, 0, 1)
    for later, shard in ((3, True), (1, False)):
        own = tmp_path / f"{later}.pt"
        own.write_bytes(path.read_bytes())

        def resumed(group, own=own, shard=shard):
            return trained("ldam_drw", own, group, recipe=LONGER, shard=shard)

        for found in together(later, resumed) if later > 1 else [resumed(ALONE)]:
            assert_agree(expected, found)


@pytest.mark.filterwarnings("ignore:batch norm sees")
def test_a_process_without_images_leaves_no_trace_in_batch_norm(together, tmp_path):
    def work(group):
        return [
            trained("ce", tmp_path / f"{shard}", group, build=CONVOLUTIONS, recipe=SHORTEST, shard=shard)
            for shard in (False, True)
        ]

    for whole, sharded in together(4, work):
        assert_agree(whole, sharded)


class Teacher(Method):
    """Cross entropy, and a second network that follows the first."""

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.teacher = deepcopy(self.network).requires_grad_(False)

    def forward(self, batch, progress):
        logits = self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def after_step(self, progress):
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.network.parameters()), 0.1)


def test_a_method_that_computes_with_divided_parameters_is_told_so(together, tmp_path):
    def work(group):
        with pytest.raises(
            LtbenchError, match=r"Teacher computes with parameters of its network(.|\n)*without --shard"
        ):
            trained(Teacher, tmp_path / "c", group, shard=True)

    together(2, work)


def test_where_a_network_cannot_be_divided(cli, monkeypatch):
    refused = cli("run", "--method", "ce", "--device", "cpu", "--shard")
    assert refused.code == 2
    assert "where: --shard" in refused.err
    assert "torchrun --nproc-per-node 2" in refused.err
    check_shardable(Group(0, 2))
    monkeypatch.delattr(sharding.fsdp.FSDPModule, "set_force_sum_reduction_for_comms")
    with pytest.raises(LtbenchError, match="newer torch"):
        check_shardable(Group(0, 2))
