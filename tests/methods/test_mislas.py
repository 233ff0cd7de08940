"""MiSLAS against the published smoothing, and what its two stages do."""

import numpy as np
import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.conformance import RECIPE, Subject
from ltbench.method import Stage, at_rest
from ltbench.method.losses import cross_entropy
from ltbench.runs.resolve import resolve
from ltbench.training.optimiser import lr_scale
from tests.fixed_logits import same, same_loss


def test_the_loss_and_gradient_are_the_published_ones(golden_losses, method_with_logits, batch_of):
    want = golden_losses("label_aware_smoothing_concave")
    smoothing = {"smooth_head": float(want["smooth_head"]), "smooth_tail": float(want["smooth_tail"])}
    method = method_with_logits("mislas", want["logits"][None], want["class_counts"], **smoothing)
    loss = method(batch_of(want["targets"]), at_rest(Stage())).mean
    loss.backward()
    same_loss(loss, want["loss"])
    same(method.network.logits.grad[0], want["grad"])
    np.testing.assert_allclose(method.smoothing.numpy(), want["smoothing"], rtol=1e-5)


def test_without_smoothing_it_is_cross_entropy_of_the_scaled_logits(method_with_logits, batch_of):
    logits, labels = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1])
    method = method_with_logits("mislas", logits, torch.tensor([9, 3, 1]), smooth_head=0, smooth_tail=0)
    method.scales.data = torch.tensor([0.5, 1.0, 2.0])
    want = cross_entropy(logits[0] * torch.tensor([0.5, 1.0, 2.0]), labels).mean()
    torch.testing.assert_close(method(batch_of(labels), at_rest(Stage())).mean, want)


def test_mixup_is_of_the_first_stage_only():
    (start,) = registry.method("mislas").uses(resolve(RunConfig(method="mislas")).config).values()
    assert (start.method, start.hyperparameters) == ("ce", {"mixup": 1.0})
    subject = Subject(registry.method("mislas"))
    method = subject.make()
    batch, _ = subject.batch(method, method.stages(RECIPE)[0])
    assert batch.mixed_labels is None


@pytest.mark.parametrize("shift_norms", [True, False])
def test_the_backbone_rests_but_for_its_statistics(tmp_path, shift_norms):
    subject = Subject(registry.method("mislas"))
    method = subject.make(epochs=2, shift_norms=shift_norms)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    subject.fit(method, tmp_path / "checkpoint.pt")
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert {"scales", "network.heads.0.weight"} <= moved
    statistics = {name for name in moved if "running" in name or "num_batches" in name}
    assert moved == statistics | {"scales", "network.heads.0.weight"}
    assert bool(statistics) == shift_norms


def test_the_classifier_learns_more_slowly_than_the_scales():
    (stage,) = Subject(registry.method("mislas")).make(lr_factor=0.05).stages(RECIPE)
    assert (lr_scale(stage, "network.heads.0.weight"), lr_scale(stage, "scales")) == (0.05, 1.0)
