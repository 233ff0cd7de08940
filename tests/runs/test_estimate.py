"""Estimates of how long a run takes."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.method import Method
from ltbench.method.losses import cross_entropy
from ltbench.runs import remaining
from ltbench.runs.estimate import estimate
from ltbench.runs.options import RunOptions
from tests.coupled_method import Coupled

pytestmark = pytest.mark.usefixtures("small_network")
LARGE = {"imagenet-lt": (115_846, 50_000, 1000), "inaturalist2018": (437_513, 24_426, 8142)}


@pytest.mark.slow
def test_processes_take_their_shares_of_as_many_steps(tmp_path):
    found = estimate(
        RunConfig(method="ldam_drw", epochs=10), RunOptions(data_dir=tmp_path), rounds=2, processes=(1, 4, 6)
    )
    whole, quarter, sixth = found.processes
    assert (whole.processes, whole.batch, quarter.processes, quarter.batch) == (1, 64, 4, 16)
    assert sixth.batch == 11  # of 64, with four others; two have 10
    for share in found.processes:
        assert [(stage.name, stage.steps) for stage in share.stages] == [("train", 64), ("deferred", 16)]
        assert all(len(stage.seconds) == 2 for stage in share.stages)
        assert share.images_per_second == pytest.approx(80 * share.batch / share.seconds)
    assert found.gradient_bytes == 4 * found.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_data_set_need_not_be_there(name, cli):
    done = cli(
        "estimate", "--method", "ce,balpoe", "--dataset", name, "--backbone", "test_resnet", "--image-size", "32",
        "--batch-size", "16", "--rounds", "1", "--processes", "1,8",
    )  # fmt: skip
    images, tested, classes = LARGE[name]
    assert done.code == 0
    assert done.out.count(f"epochs of {images:,} images, batch size 16") == 2
    assert done.out.count(f"{classes:,} classes") == 2
    assert done.out.count(f"evaluation of {tested:,} test images") == 2
    assert "decoding and augmentation, where they do not keep pace" in done.out
    assert "MB of gradients after each step" in done.out


@pytest.mark.slow
def test_it_is_told_how_steps_would_be_taken(tmp_path):
    config = RunConfig(method="ce", epochs=1)
    (share,) = estimate(
        config, RunOptions(data_dir=tmp_path, accumulate=2, checkpoint_activations=True), rounds=1
    ).processes
    assert "activations recomputed" in share.execution


@pytest.mark.parametrize("processes", ["0", "64", "1,x"])
def test_numbers_of_processes_that_cannot_be(processes, cli):
    done = cli("estimate", "--processes", processes)
    assert done.code == 2
    assert "--processes" in done.err


MIXED = "the exchange of the pixels of batches that are mixed or changed as a whole"
GATHERED = "what the loss gathers from other processes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "processes", "settings", "named"),
    [
        ("ce", 2, (), set()),
        ("ce", 2, ("--set", "mixup=0.4"), {MIXED}),
        ("gcl", 2, (), {MIXED}),  # which adds noise to batches
        ("paco", 2, (), {GATHERED}),
        ("paco", 1, ("--set", "mixup=0.4"), set()),
    ],
)
def test_what_processes_tell_each_other_is_named(name, processes, settings, named, cli):
    done = cli("estimate", "--method", name, "--processes", processes, "--epochs", "2", "--rounds", "1", *settings)
    assert done.code == 0
    assert {words for words in (MIXED, GATHERED) if words in done.out} == named
    assert ("MB of gradients" in done.out) == (processes > 1)
    assert "the shortest step, without augmentation" in done.out


class Failing(Method):
    def forward(self, batch, progress):
        self.fail()
        logits = float("nan") * self.network(batch.images)
        return batch.loss(lambda labels: cross_entropy(logits, labels))

    def experts(self, images):
        self.fail()
        return super().experts(images)

    def fail(self):
        """Go on."""


class Large(Failing):
    def fail(self):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


class LargeWhenEvaluated(Large):
    def stages(self, recipe):
        return ()


class Wrong(Failing):
    def fail(self):
        raise ZeroDivisionError("of its own")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Large, "ce does not fit: CUDA out of memory. Tried to allocate 2.00 GiB.\n  where: --processes 2\n"),
        (Large, "to do: --accumulate, --checkpoint-activations, a smaller --batch-size or more --processes"),
        (LargeWhenEvaluated, "Tried to allocate 2.00 GiB.\n  where: evaluation\n  to do: a smaller --image-size"),
        (Failing, "ce fails: the loss is nan in epoch 1 of stage 'train'"),
        (Wrong, "ce fails: ZeroDivisionError: of its own\n  where: test_estimate.py, line "),
    ],
)
def test_steps_that_fail_are_spoken_of(cls, words, cli, monkeypatch):
    monkeypatch.setattr(registry, "method", lambda name: cls)
    done = cli("estimate", "--method", "ce", "--processes", "1,2", "--rounds", "1")
    assert done.code == 2
    assert words in done.err


def test_what_a_run_refuses_is_refused(tmp_path, monkeypatch):
    with pytest.raises(LtbenchError, match=r"paco couples the images of a batch\n  where: --accumulate"):
        estimate(RunConfig(method="paco"), RunOptions(data_dir=tmp_path, accumulate=2))
    monkeypatch.setattr(registry, "method", lambda name: Coupled)
    with pytest.raises(LtbenchError, match=r"takes in one process's\n  where: --processes"):
        estimate(RunConfig(method="ce"), RunOptions(data_dir=tmp_path), processes=[1, 2])


@pytest.mark.parametrize("command", ["estimate", "run"])
@pytest.mark.parametrize("parts", [0, -3])
def test_a_batch_has_one_part_or_more(command, parts, cli):
    done = cli(command, "--accumulate", parts)
    assert done.code == 2
    assert "--accumulate" in done.err
    assert "smaller numbers" not in done.err


def test_a_data_set_without_published_sizes_must_be_there(tmp_path):
    with pytest.raises(LtbenchError, match="cifar100"):
        estimate(RunConfig(dataset="cifar100-lt"), RunOptions(data_dir=tmp_path))


@pytest.fixture
def probing(tmp_path):
    """A run that trains a head."""
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=5).state_dict(), weights)
    return RunConfig(
        method="ce", epochs=1, backbone="test_efficientnet", weights=str(weights), train="head", feature_views=3,
    )  # fmt: skip


@pytest.mark.slow
def test_features_are_counted_with_their_views_and_timed_once_for_all(probing, tmp_path):
    config, options = probing, RunOptions(data_dir=tmp_path, device="cpu")
    found = estimate(config, options, rounds=1)
    train, test = found.sizes.images, found.sizes.test_images
    assert found.encoding is not None
    assert found.encoding.images == 3 * train + test
    assert found.seconds == pytest.approx(
        found.processes[0].seconds + found.evaluation_seconds + found.encoding.seconds
    )
    # BCL compares three views: the usual one and two of SimCLR's kind, which are computed beside it.
    assert estimate(config.replace(method="bcl"), options, rounds=1).encoding.images == 6 * train + test
    assert estimate(config.replace(feature_views=0), options, rounds=1).encoding.images == train + test
    assert estimate(config.replace(train="all", feature_views=None), options, rounds=1).encoding is None


@pytest.mark.slow
def test_a_list_of_runs_counts_features_once(probing, tmp_path, monkeypatch):
    """Of 135 runs on CIFAR-100-LT, each of which counted them, 14.7 hours were expected; they took a tenth of it."""
    hour, options = 3600.0, RunOptions(data_dir=tmp_path, out=tmp_path / "runs", device="cpu")

    def slow(*words, **more):
        found = estimate(*words, **more)
        return replace(found, encoding=replace(found.encoding, seconds_per_image=hour))

    monkeypatch.setattr(remaining, "estimate", slow)
    other_seed, contrast = probing.replace(seed=1), probing.replace(method="bcl")
    as_they_are, others = probing.replace(feature_views=0), probing.replace(data_seed=1)
    runs = [probing, other_seed, contrast, as_they_are, others]
    sizes = estimate(probing, options, rounds=1).sizes
    train, test = sizes.images, sizes.test_images
    hours = [round(one.seconds / hour) for one in remaining.run_times(runs, options, [])]
    assert hours == [3 * train + test, 0, 3 * train, train + test, 3 * train + test]
