"""Estimates of how long a run takes."""

import pytest

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.estimate import estimate
from ltbench.method import Method

LARGE = {"imagenet-lt": (115_846, 50_000, 1000), "inaturalist2018": (437_513, 24_426, 8142)}


@pytest.mark.parametrize("name", registry.method_names())
def test_every_method_has_one(name, tmp_path):
    backbone = "test_vit" if name == "lift" else "test_resnet"
    config = RunConfig(method=name, dataset="imagenet-lt", backbone=backbone, image_size=32, batch_size=16, epochs=5)
    found = estimate(config, tmp_path, rounds=1)
    (share,) = found.shares
    names = [stage.name for stage in share.stages]
    assert len(set(names)) == len(names)
    assert all(stage.steps % 7241 == 0 and min(stage.seconds) > 0 for stage in share.stages)  # 7241 batches
    assert found.evaluation_seconds > 0
    assert len(found.starts_from) == len(registry.method(name).uses(found.config))
    if share.stages:
        assert share.seconds == pytest.approx(sum(stage.steps * stage.seconds[0] for stage in share.stages))
    else:
        assert share.seconds == share.images_per_second == 0


def test_processes_take_their_shares_of_as_many_steps(tmp_path):
    found = estimate(RunConfig(method="ldam_drw", epochs=10), tmp_path, rounds=2, processes=(1, 4))
    whole, quarter = found.shares
    assert (whole.processes, whole.batch, quarter.processes, quarter.batch) == (1, 64, 4, 16)
    for share in found.shares:
        assert [(stage.name, stage.steps) for stage in share.stages] == [("train", 64), ("deferred", 16)]
        assert all(len(stage.seconds) == 2 for stage in share.stages)
        assert share.images_per_second == pytest.approx(80 * share.batch / share.seconds)
    assert found.gradient_bytes == 4 * found.parameters


@pytest.mark.parametrize("name", LARGE)
def test_a_large_data_set_need_not_be_there(name, cli):
    done = cli(
        "estimate", "--method", "ce,balpoe", "--dataset", name, "--backbone", "test_resnet", "--image-size", "32",
        "--batch-size", "16", "--rounds", "1", "--processes", "1,8",
    )  # fmt: skip
    images, tested, classes = LARGE[name]
    assert done.code == 0
    assert done.out.count(f"epochs of {images:,} images, batches of 16") == 2
    assert done.out.count(f"{classes:,} classes") == 2
    assert done.out.count(f"evaluation of {tested:,} test images") == 2
    assert "decoding, where it does not keep pace" in done.out
    assert "MB of gradients after each step" in done.out


def test_it_is_told_how_steps_would_be_taken(tmp_path):
    config = RunConfig(method="ce", epochs=1)
    (share,) = estimate(config, tmp_path, rounds=1, accumulate=2, checkpoint_activations=True).shares
    assert "activations recomputed" in share.how


@pytest.mark.parametrize("processes", ["0", "64", "1,x"])
def test_numbers_of_processes_that_cannot_be(processes, cli):
    done = cli("estimate", "--processes", processes)
    assert done.code == 2
    assert "--processes" in done.err


class Coupled(Method):
    """Couples the images of a batch and gathers none."""

    coupled = True


def test_what_a_run_refuses_is_refused(tmp_path, monkeypatch):
    with pytest.raises(LtbenchError, match=r"paco couples the images of a batch\n  where: --accumulate"):
        estimate(RunConfig(method="paco"), tmp_path, accumulate=2)
    monkeypatch.setattr(registry, "method", lambda name: Coupled)
    with pytest.raises(LtbenchError, match=r"takes in one process's\n  where: --processes"):
        estimate(RunConfig(method="ce"), tmp_path, processes=[1, 2])


@pytest.mark.parametrize("command", ["estimate", "run"])
def test_a_batch_has_one_part_or_more(command, cli):
    done = cli(command, "--accumulate", "0")
    assert done.code == 2
    assert "--accumulate" in done.err
    assert "0 is not in the range" in done.err


def test_a_data_set_without_published_sizes_must_be_there(tmp_path):
    with pytest.raises(LtbenchError, match="cifar100"):
        estimate(RunConfig(dataset="cifar100-lt"), tmp_path)
