"""Several machines, each with folders of its own: they do one run, or none."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run_or_recall

pytestmark = pytest.mark.slow


@pytest.fixture
def machines(together, tmp_path):
    """Carry out runs one after another on two machines; what each gives: results, or the words of an error.

    The second one may be given other runs, and other surroundings.
    """

    def call(configs, others=None, place=".", data_dirs=(tmp_path, tmp_path), **second):
        def work(group):
            own = tmp_path / place / f"machine {group.rank}"
            os.environ["LTBENCH_CACHE"] = str(own / "cache")
            options = RunOptions(out=own / "runs", device="cpu", group=group, data_dir=data_dirs[group.rank])
            if not group.is_main:
                options = replace(options, **second)
            try:
                return [run_or_recall(config, options) for config in (configs if group.is_main else others or configs)]
            except LtbenchError as error:
                return str(error)

        return together(2, work)

    return call


def config(**more):
    return RunConfig(
        **{"method": "ce", "backbone": "cifar_resnet8", "epochs": 2, "batch_size": 64, "batch_norm_images": 64, **more}
    )


def test_a_sweep_goes_on_where_only_the_first_machine_has_results(machines, tmp_path):
    machines([config()])
    first, second = machines([config(), config(seed=1)])
    assert [recalled for _, recalled in first] == [recalled for _, recalled in second] == [True, False]
    assert [result.run_id for result, _ in first] == [result.run_id for result, _ in second]
    assert not list((tmp_path / "machine 1" / "runs").rglob("*.json"))
    (anew, _), *_ = machines([config(seed=1)], place="elsewhere")[0]
    assert first[1][0].curve == anew.curve


@pytest.fixture
def folders(tmp_path):
    """Two folders of images that were alike, before a class was renamed in the second one."""
    random = np.random.default_rng(0)
    for kind in ("cat", "dog", "emu"):
        for number in range(12):
            image = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            for machine in ("first", "second"):
                place = tmp_path / machine / kind
                place.mkdir(parents=True, exist_ok=True)
                image.save(place / f"{number}.png")
    (tmp_path / "second" / "cat").rename(tmp_path / "second" / "zebra")
    return tmp_path / "first", tmp_path / "second"


def test_machines_with_other_images_are_refused(machines, folders):
    said = machines([config(dataset="folder-lt", image_size=32)], data_dirs=folders)
    assert len(set(said)) == 1
    assert said[0].startswith("process 1 of this run has another data than the first one")


def test_what_differs_within_a_recipe_is_named(machines):
    for said in machines([config(epochs=1)], [config(epochs=2)]):
        assert "another recipe.epochs than the first one" in said
        assert "2 there, 1 in the first one" in said


@pytest.mark.parametrize(("option", "value"), [("accumulate", 2), ("checkpoint_activations", True), ("rerun", True)])
def test_machines_with_other_options_are_refused(machines, option, value):
    for said in machines([config(batch_norm_images=32)], **{option: value}):
        assert f"another --{option.replace('_', '-')} than" in said
        assert f"{value} there" in said


def test_a_number_of_images_for_batch_norm_takes_a_network_that_has_it(machines, folders):
    without = config(dataset="folder-lt", image_size=32, backbone="test_vit")
    for said in machines([without], data_dirs=(folders[0], folders[0])):
        assert "has no batch norm" in said


def test_a_process_without_enough_memory_says_what_needs_less(machines, monkeypatch):
    def fit(*given, options, **more):
        if options.group.is_main:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nand so on")
        options.group.any(True)  # as in every step

    monkeypatch.setattr("ltbench.runs.train.fit", fit)
    first, second = machines([config()])
    assert first.startswith("out of memory")
    assert "Tried to allocate 9 GiB" in first
    assert "--checkpoint-activations" in first
    assert second.startswith("another process of this run has ended")
