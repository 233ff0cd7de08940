"""What only a CUDA GPU can show: ``benchmarks/gpu.sh`` runs it. Without a GPU these tests fail; none passes unseen."""

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from ltbench import registry, rng
from ltbench.config import Augment, recipes
from ltbench.conformance import CHECKS, Subject
from ltbench.conformance.tiny_task import state
from ltbench.data.augmentation.pipeline import draws_needed
from ltbench.data.loading.decode import read_rgb
from ltbench.data.loading.decode_gpu import read_all

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning")]
every_method = pytest.mark.parametrize("name", registry.method_names())
CPU, GPU = torch.device("cpu"), torch.device("cuda")
RECIPES = {f"{name} {table}": recipes.recipe(name, table) for name in recipes.names() for table in recipes.tables(name)}


@pytest.fixture(scope="module")
def subjects():
    """Methods under test by name; the checks of one share a training."""
    made = {}
    return lambda name: made.setdefault(name, Subject(registry.method(name), GPU))


@every_method
@pytest.mark.parametrize("check", CHECKS)
def test_every_method_conforms(name, check, subjects):
    CHECKS[check](subjects(name))


def furthest(first, second):
    """The largest difference of two states, relative to the largest value of each tensor."""
    pairs = ((first[name].double(), second[name].double()) for name in first)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in pairs if a.numel())


@every_method
def test_recorded_steps_train_as_plain_ones_do(name, monkeypatch, tmp_path):
    subject = Subject(registry.method(name), GPU)
    recorded = state(subject.fit(subject.make(), tmp_path / "recorded.pt"))
    monkeypatch.setattr("ltbench.training.trainer.RECORDERS", {})
    plain = state(subject.fit(subject.make(), tmp_path / "plain.pt"))
    assert furthest(recorded, plain) < 1e-2


@pytest.mark.parametrize("name", ["ce", "balpoe", "paco", "cmo"])
def test_compiled_steps_train_as_plain_ones_do(name, tmp_path):
    subject = Subject(registry.method(name), GPU)
    compiled = state(subject.fit(subject.make(), tmp_path / "compiled.pt", compiled=True))
    plain = state(subject.fit(subject.make(), tmp_path / "plain.pt", compiled=False))
    assert furthest(compiled, plain) < 1e-2


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("view", ["train", "contrast"])
def test_augmented_images_are_those_of_the_cpu_byte_by_byte(recipe, view):
    how = RECIPES[recipe].views[view]
    found = [augmented(how, device) for device in (CPU, GPU)]
    assert torch.equal(found[0], found[1].cpu())


def augmented(how: Augment, device: torch.device) -> torch.Tensor:
    """Every training image of the tiny task, sixteen times, augmented on a device."""
    images = Subject(registry.method("ce"), device).train
    order = torch.arange(len(images.labels)).repeat(16)
    numbers = rng.uniform((len(order), 1, max(1, draws_needed(how))), 0, "gpu")
    (views,) = images.augmented(order, numbers, [len(order)], [how])
    return views[0]


def test_jpegs_that_the_gpu_decodes_differ_by_rounding(tmp_path):
    files = []
    for k, picture in enumerate(load_sample_images().images):
        for quality in (75, 95):
            files.append(tmp_path / f"{k}-{quality}.jpg")
            Image.fromarray(picture).save(files[-1], quality=quality, subsampling=0)
    for file, found in zip(files, read_all(files, GPU), strict=True):
        levels = (found.cpu().int() - read_rgb(file).int()).abs().float()
        assert levels.max() <= 3
        assert levels.mean() < 0.5
