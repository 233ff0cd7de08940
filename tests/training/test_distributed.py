"""Several processes and accumulated gradients: the same training as in one process and one piece."""

import functools
import hashlib
import os
import re
import signal
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from ltbench import registry, rng
from ltbench.config import Augment, Recipe
from ltbench.data.images import ImageFiles, LabelledImages
from ltbench.data.loading import from_files
from ltbench.data.loading.from_files import FileLoader
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.method import ClassPrior
from ltbench.models.backbone import Backbone
from ltbench.progress import silent
from ltbench.results.records import BatchSplit
from ltbench.training import trainer as training
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.distributed import batch_norm
from ltbench.training.distributed.process_group import ALONE, Group, check_divisible
from ltbench.training.options import TrainOptions
from ltbench.training.trainer import fit
from tests.coupled_method import Coupled
from tests.tiny_network import tiny

COUNTS = (20, 11, 6, 3)
"""40 images: in batches of 17 the last one has 6, which leaves a fourth process without any."""
RECIPE = Recipe(epochs=3, batch_size=17, lr=0.02, augment=Augment(padding=0.125, flip=True))
SHORT = RECIPE.model_copy(update={"epochs": 2})
SHORTEST = RECIPE.model_copy(update={"epochs": 1})


@pytest.fixture(scope="module")
def doubled():
    """Everything in float64, which ltbench asks for float32 in a few places; images, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


def images():
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 8, 8)).astype(np.uint8)
    return InMemoryLoader(LabelledImages(pixels, labels), (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))


def make(cls, build=tiny, **settings):
    with rng.global_stream(0, "init"):
        return cls(build, ClassPrior(torch.tensor(COUNTS)), cls.Config.model_validate(settings)).double()


def trained(
    cls,
    path,
    group=ALONE,
    accumulate=1,
    build=tiny,
    prepare=lambda method: None,
    recipe=RECIPE,
    data=images,
    every=1e9,
    listener=silent,
    **settings,
):
    """The trained weights, the losses and the history; with the usual recipe training takes nine steps or more."""
    method = make(cls, build, **settings)
    prepare(method)
    saves = Checkpoint(path, every, group=group)
    options = TrainOptions(checkpoint=saves, group=group, accumulate=accumulate, listener=listener)
    history = fit(method, data(), recipe, seed=0, options=options)
    state = {name: value.numpy().copy() for name, value in method.state_dict().items()}
    return state, [point.loss for point in history.curve], history


def division(processes, accumulate, images):
    return BatchSplit(processes=processes, accumulate=accumulate, batch_norm_images=images)


def assert_agree(one, other, tolerance=1e-8):
    assert one[0].keys() == other[0].keys()
    for name, value in one[0].items():
        np.testing.assert_allclose(other[0][name], value, rtol=0, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(other[1], one[1], rtol=0, atol=tolerance)


METHODS = {
    "ce": {},
    "balpoe": {"mixup": 0.4},
    "ncl": {},
    "cmo": {"cmo": 1.0},  # pastes from a second stream
    "gcl": {"epochs": 2},  # draws in prepare, a second stage with a sampler of its own
}


@pytest.fixture(scope="module")
def alone(doubled, tmp_path_factory):
    """Each method trained in one process and one piece."""
    folder = tmp_path_factory.mktemp("alone")
    return {name: trained(registry.method(name), folder / name, **own) for name, own in METHODS.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "accumulate"), [(1, 2), (1, 4), (2, 1), (2, 4), (4, 1)])
def test_processes_and_accumulation_agree_in_float64(processes, accumulate, alone, together, tmp_path):
    def work(group):
        path = tmp_path / "checkpoint.pt"
        return {name: _anew(registry.method(name), path, group, accumulate, **own) for name, own in METHODS.items()}

    for found in together(processes, work) if processes > 1 else [work(ALONE)]:
        for name, other in found.items():
            assert_agree(alone[name], other)
            assert other[2].divisions == [division(processes, accumulate, None)]
            assert other[2].images == alone[name][2].images


SHARP = {
    "sam": {"sam": 0.1},
    "imbsam": {"sam": 0.1, "sam_variant": "imbsam", "sam_tail": 7},
    "focal-sam": {"sam": 0.1, "sam_variant": "focal-sam"},
    "cc-sam": {"sam": 0.1, "sam_variant": "cc-sam"},
}


SHARPENED = {
    f"{name}-{variant}": (name, {"mixup": mixup, **own})
    for name, mixup in (("ldam_drw", 0.0), ("balpoe", 0.4))
    for variant, own in SHARP.items()
}


@pytest.fixture(scope="module")
def sharpened(doubled, together, tmp_path_factory):
    """Every case of ``SHARPENED`` as each process trained it, by processes and parts: one start for all cases."""
    path = tmp_path_factory.mktemp("sharpened") / "checkpoint.pt"

    def work(group, accumulate):
        return {
            case: _anew(registry.method(name), path, group, accumulate, recipe=SHORTEST, **own)
            for case, (name, own) in SHARPENED.items()
        }

    ways = {(1, 1): [work(ALONE, 1)], (1, 4): [work(ALONE, 4)]}
    for processes, accumulate in ((2, 3), (4, 1)):  # of four, one has none of the six images of the last batch
        ways[processes, accumulate] = together(processes, functools.partial(work, accumulate=accumulate))
    return ways


@pytest.mark.slow
@pytest.mark.parametrize("case", SHARPENED)
def test_sharpness_aware_training_is_the_same_in_several_processes(case, sharpened):
    for (processes, _), found in sharpened.items():
        assert len(found) == processes
        for other in found:
            assert_agree(sharpened[1, 1][0][case], other[case])


def _anew(cls, path, group, accumulate, **settings):
    Checkpoint(path, group=group).delete()
    return trained(cls, path, group, accumulate, **settings)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Parts of a photograph as JPEG files, with the classes of ``images``."""
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    names = np.array([f"{i:02}.jpg" for i in range(len(labels))])
    picture = load_sample_images().images[0]
    for name in names:
        top, left = generator.integers(0, 300, 2)
        Image.fromarray(picture[top : top + 50, left : left + 60]).save(folder / name)
    return ImageFiles(folder, names, labels)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "settings"), [(2, {}), (2, {"mixup": 0.4}), (4, {})])
def test_processes_decode_their_own_images_and_train_as_one(
    processes, settings, photographs, together, doubled, tmp_path
):
    cls, recipe = registry.method("balpoe"), SHORT.model_copy(update={"augment": Augment(crop=(0.3, 1.0), flip=True)})

    def work(group):
        read, real = [], from_files.read_rgb
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(from_files, "read_rgb", lambda file: (read.append(file), real(file))[1])
            data = FileLoader(photographs, 16, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"), workers=2)
            found = trained(cls, tmp_path / f"{group.size}", group, recipe=recipe, data=lambda: data, **settings)
        return *found, len(read)

    alone, several = work(ALONE), together(processes, work)
    assert alone[3] == 2 * sum(COUNTS)
    # batches of 17, 17 and 6, in each of two epochs
    shares = {2: [8 + 8 + 3, 9 + 9 + 3], 4: [4 + 4 + 2, 4 + 4 + 2, 4 + 4 + 2, 5 + 5 + 0]}[processes]
    assert [found[3] for found in several] == [2 * share for share in shares]
    for found in several:
        assert_agree(alone, found)


MIXED = {"mixup": 0.4}
COUPLED = {
    **{name: (name, {}) for name in ("lade", "mdcs", "ride", "proco", "bcl", "paco", "gpaco", "car", "gml")},
    **{f"{name} with mixup": (name, MIXED) for name in ("bcl", "paco", "gpaco", "car", "gml")},
    # a queue that is soon all keys, and a key network that follows
    "paco with a queue": ("paco", {"queue": 20, "momentum": 0.5}),
    **{
        f"{name} with {variant}": (name, SHARP[variant])  # gathers in every pass of a step
        for name in ("ride", "bcl", "proco")
        for variant in ("sam", "focal-sam")
    },
}


@pytest.fixture(scope="module")
def coupled(doubled, together, tmp_path_factory):
    """Every case of ``COUPLED`` as each process trained it, by the number of processes: one start for all cases."""
    path = tmp_path_factory.mktemp("coupled") / "checkpoint.pt"

    def work(group, cases):
        prepare = functools.partial(batch_norm.sync_batch_norm, group=group)
        epochs = {name: SHORT if name == "proco" else SHORTEST for name, _ in COUPLED.values()}  # its means are of two
        return {
            case: _anew(registry.method(name), path, group, 1, prepare=prepare, recipe=epochs[name], **own)
            for case, (name, own) in cases.items()
        }

    every = functools.partial(work, cases=COUPLED)
    plain = functools.partial(work, cases={case: way for case, way in COUPLED.items() if "with" not in case})
    # of four, one has none of the six images of the last batch
    return {1: [every(ALONE)], 2: together(2, plain), 4: together(4, every)}


@pytest.mark.slow
@pytest.mark.parametrize("case", COUPLED)
def test_losses_that_couple_images_gather_those_of_all_processes(case, coupled):
    cls = registry.method(COUPLED[case][0])
    assert cls.couples_batch and cls.gathers_across_processes
    for processes in (2, 4):
        assert len(coupled[processes]) == processes
        for other in coupled[processes]:
            if case in other:
                assert_agree(coupled[1][0][case], other[case], 1e-7)
    assert case in coupled[4][0]


@pytest.mark.slow
@pytest.mark.parametrize(("synchronised", "parts"), [(True, [4, 4, 2]), (False, [2, 2, 1])])
def test_paco_takes_as_many_parts_in_all_processes(synchronised, parts, together, doubled, tmp_path):
    # Batches of 17, 17 and 6, of which three processes have 4, 4 and 2, and the last one 5, 5 and none. Parts have two
    # images or more of a process, or, where norms are synchronised, of all: but then one at least of each process.
    cls, taken = registry.method("paco"), []
    told = nullcontext() if synchronised else pytest.warns(LtbenchWarning, match="batch norm sees 4 of the 17 images")

    def work(group):
        with pytest.MonkeyPatch.context() as patch, told:
            count = cls._parts
            patch.setattr(cls, "_parts", lambda *of: (taken.append(count(*of)), taken[-1])[1])
            found = trained(
                cls, tmp_path / "c.pt", group, virtual_batch=2,
                recipe=SHORTEST,
                prepare=lambda method: batch_norm.sync_batch_norm(method, group) if synchronised else None,
            )  # fmt: skip
        counts = [name for name in found[0] if name.endswith("num_batches_tracked")]  # a process's own passes
        return {name: value for name, value in found[0].items() if name not in counts}, *found[1:], taken

    first, *others = together(4, work)
    assert first[3] == parts
    assert all(np.isfinite(value).all() for value in first[0].values())
    for other in others:
        assert other[3] == parts
        assert_agree(first, other, 0)


@pytest.mark.slow
def test_paco_keeps_its_parts_large_where_a_process_has_no_images(together, doubled, tmp_path):
    # Of 40 images in batches of 37 the last one has three, all of them the first process's: in one part, not three.
    recipe = SHORT.model_copy(update={"batch_size": 37})

    def work(group):
        return trained(
            registry.method("paco"), tmp_path / "c.pt", group, build=resnet, recipe=recipe, virtual_batch=2,
            prepare=lambda method: batch_norm.sync_batch_norm(method, group),
        )  # fmt: skip

    first, second = together(2, work)
    assert np.isfinite(first[1]).all()
    assert_agree(first, second, 0)


def resnet(experts=1, **options):
    """A network with batch norm, of a branch's and of a trunk's."""
    build = Backbone("cifar_resnet8", classes=len(COUNTS), channels=3, image_size=8, head="cosine")
    return build(experts, **options)


@pytest.mark.slow
def test_synchronised_batch_norm_is_that_of_one_process(together, doubled, tmp_path):
    def work(group):
        path = tmp_path / f"{group.size}.pt"
        return trained(
            registry.method("balpoe"), path, group, build=resnet, recipe=SHORT,
            prepare=lambda method: batch_norm.sync_batch_norm(method, group),
        )  # fmt: skip

    expected = work(ALONE)
    for processes in (2, 4):  # of four, one has none of the six images of the last batch
        for found in together(processes, work):
            assert_agree(expected, found, 1e-6)
            assert found[2].divisions == [division(processes, 1, 17)]


@pytest.mark.slow
def test_neighbours_share_statistics_as_the_parts_of_one_process_do(together, doubled, tmp_path):
    # Of a batch of 19 two processes have the first 9 images, two the other 10; of the last batch's two one has both.
    recipe = SHORT.model_copy(update={"batch_size": 19})

    def work(group, accumulate=1):
        path = tmp_path / f"{group.size}.pt"
        with pytest.warns(LtbenchWarning, match="batch norm sees 9 of the 19 images"):
            return trained(
                registry.method("balpoe"), path, group, accumulate, build=resnet, recipe=recipe,
                prepare=lambda method: batch_norm.sync_batch_norm(method, group, 2 if group.size > 1 else 1),
            )  # fmt: skip

    expected = work(ALONE, accumulate=2)
    running = [name for name in expected[0] if "running" in name or "tracked" in name]  # twice a step in one process
    assert running
    first, *others = together(4, work)
    for found in others:
        assert_agree(first, found, 0)
    assert all(np.isfinite(first[0][name]).all() for name in running)
    for state in (expected[0], first[0]):
        for name in running:
            del state[name]
    assert_agree(expected, first, 1e-8)
    assert first[2].divisions == [division(4, 1, 9)]


@pytest.mark.slow
def test_process_local_statistics_are_equal_in_all_processes_after_every_epoch(together, doubled, tmp_path):
    run_epoch = training._Trainer._run_stage

    def work(group):
        hashes = []

        def spied(self, planned):
            watch = training.average_running_statistics

            def note(network, group):
                watch(network, group)
                state = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
                hashes.append(hashlib.sha256(state).hexdigest())

            training.average_running_statistics = note
            run_epoch(self, planned)
            training.average_running_statistics = watch

        training._Trainer._run_stage = spied
        with pytest.warns(LtbenchWarning, match="batch norm sees 5 of the 17 images"):
            found = trained(registry.method("ce"), tmp_path / "c.pt", group, build=resnet, recipe=SHORT)
        return hashes, found[2].divisions

    (first, divisions), *others = together(3, work)
    assert len(first) == len(set(first)) == 2
    assert all(hashes == first for hashes, _ in others)
    assert divisions == [division(3, 1, 5)]


@pytest.mark.slow
def test_statistics_do_not_depend_on_when_checkpoints_are_saved(together, doubled, tmp_path):
    """They are put together then; in the last step of an epoch, of 6 images, one of four processes has none."""

    def work(group):
        ways = {"every step": 0.0, "never": 1e9}
        with pytest.warns(LtbenchWarning, match="batch norm sees"):
            return [
                trained(registry.method("ce"), tmp_path / f"{way}.pt", group, build=resnet, recipe=SHORT, every=every)
                for way, every in ways.items()
            ]

    for often, never in together(4, work):
        assert_agree(often, never, tolerance=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_a_process_without_images_takes_part(mixup, together, doubled, tmp_path):
    # Batches of 3 over 4 processes: three of them never have an image.
    cls, recipe = registry.method("ce"), RECIPE.model_copy(update={"batch_size": 3, "epochs": 1})
    whole = trained(cls, tmp_path / "whole", recipe=recipe, mixup=mixup)
    for found in together(4, lambda group: trained(cls, tmp_path / "shared", group, recipe=recipe, mixup=mixup)):
        assert_agree(whole, found)


@pytest.mark.slow
@pytest.mark.parametrize("later", [1, 2, 3])
def test_a_run_whose_process_is_killed_goes_on_with_any_number_of_processes(later, alone, together, tmp_path):
    cls, settings, path = registry.method("gcl"), METHODS["gcl"], tmp_path / "checkpoint.pt"

    def killed(group):
        steps = iter(range(11))  # in the second stage

        def kill(update):
            if next(steps, None) is None and group.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(LtbenchError, match="resumes from the last checkpoint"):
            trained(cls, path, group, every=0.0, listener=kill, **settings)
        return "told"

    assert together(2, killed) == ["told", None]
    assert torch.load(path, weights_only=True)["position"][0] == 1

    def resumed(group):
        return trained(cls, path, group, **settings)

    for found in together(later, resumed) if later > 1 else [resumed(ALONE)]:
        assert_agree(alone["gcl"], found)
        ways = [division(2, 1, None), division(later, 1, None)]
        assert found[2].divisions == (ways if later != 2 else ways[:1])
        assert found[2].images == alone["gcl"][2].images


@pytest.mark.parametrize(
    ("name", "group", "accumulate", "words"),
    [
        ("paco", ALONE, 2, "couples the images of a batch\n  where: --accumulate"),
        ("lade", ALONE, 2, "couples"),
        ("coupled", Group(0, 2), 1, "takes in one process's"),
        ("ce", ALONE, 0, "1 x 0 parts\n  where: --accumulate\n  to do: give a number from 1"),
        ("ce", ALONE, -3, "1 x -3 parts"),
        ("ce", ALONE, 9, "--batch-size"),
        ("ce", Group(0, 9), 1, "--nproc-per-node"),
    ],
)
def test_what_would_change_results_is_refused(name, group, accumulate, words):
    cls = Coupled if name == "coupled" else registry.method(name)
    with pytest.raises(LtbenchError, match=re.escape(words)):
        check_divisible(cls, name, 17, group, accumulate)


@pytest.mark.slow
def test_a_process_that_has_ended_is_spoken_of(together):
    def work(group):
        if group.rank == 1:
            os._exit(9)
        group.any(False)

    with pytest.raises(AssertionError, match="another process of this run has ended or does not answer"):
        together(2, work)
