"""A run's network again, from its result and the cache alone."""

import json
import shutil

import pytest
import timm
import torch
from safetensors.torch import save_file

from ltbench.deploy.predictor import build, describe, restore
from ltbench.errors import LtbenchError
from ltbench.results.store import read

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.mark.parametrize("method", ["ce", "balpoe", "tau_norm"])
def test_pixels_give_the_logits_of_the_evaluation(method, trained, test_digits, tmp_path):
    one = trained(method)
    predictor = restore(describe(one.result, tmp_path), CPU, "a command")
    with torch.no_grad():
        logits = predictor(torch.from_numpy(test_digits).float() / 255)
    torch.testing.assert_close(logits, one.logits, rtol=1e-4, atol=1e-4)


def test_the_card_says_what_a_user_must_know(trained, tmp_path):
    result = trained("ce").result
    card = describe(result, tmp_path)
    assert card.input == (1, 8, 8)
    assert card.classes == list("0123456789")
    assert (card.run_id, card.logit_prior, card.imported) == (result.run_id, 1.0, False)
    assert card.trained_on == result.data.trained_on
    assert len(card.mean) == len(card.std) == 1


def test_an_older_result_has_its_images_measured_again(trained, older, tmp_path):
    path = older("ce")
    assert describe(read(path), tmp_path) == describe(trained("ce").result, tmp_path)


def test_other_images_than_those_of_an_older_result_are_refused(older, tmp_path):
    path = older("ce", fingerprints={"train": "0" * 16, "test": "0" * 16})
    with pytest.raises(LtbenchError, match="these images are others"):
        describe(read(path), tmp_path)


def test_a_run_without_weights_is_refused(trained, tmp_path, make_result):
    with pytest.raises(LtbenchError, match="is failed and has no trained weights"):
        describe(make_result(status="failed", reason="the loss is nan"), tmp_path)


def test_a_method_that_has_changed_is_refused(trained, tmp_path):
    card = describe(trained("ce").result, tmp_path)
    with pytest.raises(LtbenchError, match="has changed since run"):
        build(card.model_copy(update={"revision": "0"}))


def test_what_makes_missing_weights_is_said(trained, tmp_path, monkeypatch, cli):
    one = trained("balpoe")
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "empty"))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    called = cli("predict", one.path, "images")
    assert called.code == 2
    assert f"the trained weights of run {one.result.run_id} are not in the cache" in called.err
    assert "make them again: ltbench run --method balpoe" in called.err
    assert called.err.rstrip().endswith("--rerun")
    assert called.out == ""


def test_damaged_weights_are_refused(trained, tmp_path, monkeypatch):
    one = trained("ce")
    checkpoint = tmp_path / "runs" / one.result.run_id / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"half a checkpoint")
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path))
    with pytest.raises(LtbenchError, match="not in the cache folder, damaged"):
        restore(describe(one.result, tmp_path), CPU, "a command")


def test_a_run_on_ones_own_images_needs_them_no_more(cli, tmp_path, write_pixels):
    generator = torch.Generator().manual_seed(0)
    for name, shade in {"dark": 40, "light": 160}.items():
        for part, images in {"train": 6, "test": 2}.items():
            for i in range(images):
                pixels = shade + torch.randint(0, 60, (8, 8, 3), generator=generator)
                write_pixels(tmp_path / "mine" / part / name / f"{i}.png", pixels)
    called = cli(
        "run", "--method", "ce", "--dataset", "folder-lt", "--data-dir", "mine", "--image-size", 8, "--epochs", 1,
        "--backbone", "cifar_resnet20", "--device", "cpu",
    )  # fmt: skip
    assert called.code == 0, called.err
    (stored,) = tmp_path.glob("runs/*/*/*.json")
    new = tmp_path / "new"
    shutil.copytree(tmp_path / "mine" / "test", new)
    shutil.rmtree(tmp_path / "mine")
    called = cli("predict", stored, "new", "--top", 1)
    assert called.code == 0, called.err
    lines = called.out.splitlines()
    assert len(lines) == 5
    right = sum(line.split("/")[1] == line.split(",")[1] for line in lines[1:])
    assert right == sum(json.loads(stored.read_text())["metrics"]["test"]["correct"])


@pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning")
def test_experts_that_start_from_weights_keep_their_width(cli, tmp_path):
    """RIDE asks for three quarters of the width, which pre-trained weights do not have."""
    weights = timm.create_model("cifar_resnet8", num_classes=5, in_chans=1).state_dict()
    save_file(weights, tmp_path / "weights.safetensors")
    words = ("--method", "ride", "--backbone", "cifar_resnet8", "--weights", "weights.safetensors", "--epochs", 1)
    done = cli("run", *words, "--device", "cpu")
    assert done.code == 0, done.err
    (stored,) = (tmp_path / "runs").rglob("*.json")
    done = cli("export", stored, "--format", "safetensors")
    assert done.code == 0, done.err
