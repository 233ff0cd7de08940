"""Whole runs on streamed photographs: through the command line, with two stages, killed and resumed."""

import csv
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from ltbench.config import Augment, Recipe, RunConfig
from ltbench.data.datasets import image_folder
from ltbench.data.loading import from_files, resize_cache
from ltbench.files import paths
from ltbench.progress import ProgressUpdate
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run
from ltbench_speed.photographs import write_subjects

pytestmark = pytest.mark.slow

SIZES = {"china": 14, "flower": 6, "sky": 3}
RECIPE = Recipe(
    epochs=2, batch_size=6, lr=0.01, augment=Augment(crop=(0.3, 1.0), flip=True, jitter=(0.4, 0.4, 0.4, 0.0))
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """train/ and test/ with parts of real photographs."""
    folder, pictures = tmp_path_factory.mktemp("originals"), load_sample_images().images
    generator = np.random.default_rng(0)
    for part, sizes in {"train": SIZES, "test": dict.fromkeys(SIZES, 3)}.items():
        for label, (name, size) in enumerate(sizes.items()):
            (folder / part / name).mkdir(parents=True)
            for i in range(size):
                top, left = generator.integers(0, 300, 2)
                picture = pictures[label % 2][top : top + 70, left : left + 90]
                Image.fromarray(picture).save(folder / part / name / f"{i}.jpg")
    return folder


@pytest.fixture
def photographs(originals, tmp_path, monkeypatch):
    """Copies of the test's own, which it may damage; they are streamed however few they are."""
    monkeypatch.setattr(image_folder, "STREAMED_ABOVE", 0)
    return shutil.copytree(originals, tmp_path / "photographs")


def results(out: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in out.rglob("*.json")]
    return {result["config"]["method"]: result for result in found}


def test_from_the_command_line_with_validation_and_second_stages(cli, photographs, tmp_path):
    words = ("run", "--dataset", "folder-lt", "--data-dir", photographs, "--backbone", "test_resnet", "--validation")
    words += ("--image-size", 32, "--epochs", 2, "--batch-size", 6, "--method", "balpoe,crt,tau_norm,sade_tta")
    done = cli(*words, "--workers", 2)
    assert done.code == 0, done.err
    found = results(tmp_path / "runs")
    assert {result["status"] for result in found.values()} == {"done"}
    assert {"balpoe", "crt", "tau_norm", "sade_tta"} <= set(found)
    for result in found.values():
        assert result["data"]["counts"] == list(SIZES.values())
        assert result["data"]["trained_on"] == [11, 5, 2]
        assert result["data"]["mean"] == [0.485, 0.456, 0.406]
        assert (sum(result["metrics"]["test"]["total"]), sum(result["metrics"]["validation"]["total"])) == (9, 5)
    assert not [thread for thread in threading.enumerate() if "decoding" in thread.name and thread.is_alive()]


def test_photographs_end_to_end_with_the_network_of_the_papers(cli, tmp_path, monkeypatch):
    """500 x 375 pixels, seen at 96 by a ResNet-50 with three experts: from the folder to the table and to a label."""
    monkeypatch.setattr(image_folder, "STREAMED_ABOVE", 0)
    subjects = tmp_path / "subjects"
    write_subjects(subjects, counts=(2, 1, 1), test=1)
    assert {Image.open(file).size for file in subjects.rglob("*.jpg")} == {(500, 375)}
    where = ("--data-dir", subjects)
    assert cli("data", "prepare", "folder-lt", *where).code == 0
    assert cli("data", "verify", "folder-lt", *where, "--decode").code == 0
    words = ("--dataset", "folder-lt", *where, "--backbone", "resnet50", "--image-size", 96, "--batch-size", 4)
    done = cli("run", *words, "--epochs", 1, "--device", "cpu")
    assert done.code == 0, done.err
    (result,) = results(tmp_path / "runs").values()
    assert result["status"] == "done"
    assert (result["data"]["counts"], result["config"]["image_size"]) == ([1, 2, 1], 96)
    assert result["cost"]["parameters"] == pytest.approx(73.78e6 - 3 * 997 * 2048, rel=1e-3)
    assert result["cost"]["multiply_adds"] == pytest.approx(8.63e9 * (96 / 224) ** 2, rel=0.01)
    table = cli("report", "--format", "csv")
    assert table.code == 0
    assert "balpoe" in table.out
    labels = cli("predict", result["run_id"], subjects / "test", "--top", 1)
    assert labels.code == 0, labels.err
    assert len(labels.out.splitlines()) == 1 + 3


def test_photographs_of_the_test_set_get_the_predictions_of_the_evaluation(cli, photographs, tmp_path):
    words = ("run", "--dataset", "folder-lt", "--data-dir", photographs, "--backbone", "test_resnet")
    assert cli(*words, "--image-size", 32, "--epochs", 1, "--batch-size", 6, "--method", "ce").code == 0
    (stored,) = results(tmp_path / "runs").values()
    logits = np.load(paths.cache_dir() / "runs" / stored["run_id"] / "test.npz")["logits"]
    done = cli("predict", stored["run_id"], photographs / "test")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    found = np.array([[float(row[f"p({name})"]) for name in SIZES] for row in rows])
    np.testing.assert_allclose(found, torch.from_numpy(logits).softmax(1).numpy(), rtol=1e-4, atol=1e-6)


def test_runs_on_scaled_copies_are_the_same_for_any_number_of_workers_and_predict_as_they_evaluate(
    cli, photographs, tmp_path, monkeypatch
):
    read, real = [], from_files.read_rgb
    monkeypatch.setattr(from_files, "read_rgb", lambda file: (read.append(file), real(file))[1])
    words = ("run", "--dataset", "folder-lt", "--data-dir", photographs, "--backbone", "test_resnet", "--method", "ce")
    words += ("--image-size", 32, "--epochs", 2, "--batch-size", 6, "--recipe", "standard")
    found = []
    for workers in (0, 1, 3):
        monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / f"cache-{workers}"))
        done = cli(*words, "--cache-resized", 40, "--workers", workers, "--out", f"out-{workers}")
        assert done.code == 0, done.err
        (stored,) = results(tmp_path / f"out-{workers}").values()
        found.append((stored["run_id"], stored["metrics"], [point["loss"] for point in stored["curve"]]))
    assert found == found[:1] * 3
    assert {file.parent.parent for file in read} == {tmp_path / f"cache-{n}" / "resized" / "40" for n in (0, 1, 3)}
    assert stored["config"]["cache_resized"] == 40
    shown = cli("show", stored["run_id"], "--results", tmp_path / "out-3").out
    assert re.search(r"resize cache +shorter side 40", shown)
    logits = np.load(paths.cache_dir() / "runs" / stored["run_id"] / "test.npz")["logits"]
    rows = list(
        csv.DictReader(
            io.StringIO(cli("predict", stored["run_id"], photographs / "test", "--results", tmp_path / "out-3").out)
        )
    )
    predicted = np.array([[float(row[f"p({name})"]) for name in SIZES] for row in rows])
    np.testing.assert_allclose(predicted, torch.from_numpy(logits).softmax(1).numpy(), rtol=1e-4, atol=1e-6)
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in cli("doctor").out.splitlines())
    assert lines["images scaled to 40"].startswith("32, 0.")
    assert lines["images scaled to 40"].endswith(str(tmp_path / "cache-3" / "resized" / "40"))

    assert cli(*words, "--out", "plain").code == 0
    (plain,) = results(tmp_path / "plain").values()
    assert plain["run_id"] != stored["run_id"]
    assert plain["curve"][0]["loss"] != stored["curve"][0]["loss"]


def test_tuning_makes_no_copies_of_the_test_set(cli, photographs):
    words = ("tune", "--dataset", "folder-lt", "--data-dir", photographs, "--backbone", "test_resnet", "--trials", 1)
    done = cli(*words, "--image-size", 32, "--epochs", 1, "--batch-size", 6, "--cache-resized", 40, "--method", "ce")
    assert done.code == 0, done.err
    assert [(side, count) for side, count, _ in resize_cache.contents()] == [("40", sum(SIZES.values()))]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "folder-lt --image-size 32 --cache-resized 31",
            "the resize cache has images of 31 pixels, too small for crops of 32",
        ),
        ("digits-lt --cache-resized 40", "the images of digits-lt are decoded once and kept in memory"),
        ("digits-lt --decode-on-gpu", "the images of digits-lt are decoded once and kept in memory"),
        ("folder-lt --image-size 32 --decode-on-gpu", "images cannot be decoded on a GPU: the device is 'cpu'"),
        ("folder-lt --image-size 32 --cache-resized 5000", "Invalid value for '--cache-resized'"),
    ],
)
def test_where_copies_or_decoding_on_a_gpu_make_no_sense_it_is_said(words, said, cli, photographs, tmp_path):
    done = cli("run", "--data-dir", photographs, "--epochs", 1, "--device", "cpu", "--dataset", *words.split())
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not list((tmp_path / "runs").rglob("*.json"))
    assert not list(resize_cache.contents())


def test_a_damaged_photograph_that_is_to_be_copied_ends_the_run_by_its_name(cli, photographs):
    bad = photographs / "train" / "flower" / "3.jpg"
    bad.write_bytes(bad.read_bytes()[:500])
    words = ("run", "--dataset", "folder-lt", "--data-dir", photographs, "--method", "ce", "--image-size", 32)
    done = cli(*words, "--epochs", 1, "--cache-resized", 40)
    assert done.code == 2
    assert f"where: {bad}\n" in done.err
    assert "Traceback" not in done.err


def test_a_damaged_photograph_ends_the_run_by_its_name(cli, photographs):
    bad = photographs / "train" / "flower" / "3.jpg"
    bad.write_bytes(bad.read_bytes()[:500])
    done = cli(
        "run", "--dataset", "folder-lt", "--data-dir", photographs, "--method", "ce", "--image-size", 32, "--epochs", 1
    )
    assert done.code == 2
    assert str(bad) in done.err
    assert "truncated" in done.err
    assert "Traceback" not in done.err


def live(config: RunConfig, photographs: Path, folder: Path, workers: int, die_after: int | None) -> None:
    """One process that saves after every step; it may be killed after some."""
    os.environ["LTBENCH_CACHE"] = str(folder / "cache")
    torch.set_num_threads(1)
    steps = iter(range(die_after or 10**9))

    def listener(update: ProgressUpdate) -> None:
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    run(
        config,
        RunOptions(
            data_dir=photographs,
            out=folder / "out",
            device="cpu",
            checkpoint_every=0.0,
            workers=workers,
            listener=listener,
        ),
    )


def lived(*arguments: object) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=live, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def outcome(folder: Path) -> tuple[dict, dict]:
    ((_, result),) = results(folder / "out").items()
    (checkpoint,) = (folder / "cache" / "runs").rglob("checkpoint.pt")
    kept = {name: result[name] for name in ("status", "metrics", "run_id", "data")}
    losses = [point["loss"] for point in result["curve"]]
    return torch.load(checkpoint, weights_only=True)["method"], {**kept, "losses": losses}


def test_a_run_that_is_killed_goes_on_as_if_nothing_had_happened_with_other_workers(photographs, tmp_path):
    config = RunConfig(
        method="balpoe", dataset="folder-lt", image_size=32, backbone="test_resnet", recipe=RECIPE, validation=True
    )
    assert lived(config, photographs, tmp_path / "whole", 2, None) == 0
    for steps, workers in ((2, 3), (2, 0)):  # within the first epoch, within the second
        assert lived(config, photographs, tmp_path / "killed", workers, steps) == -signal.SIGKILL
    assert lived(config, photographs, tmp_path / "killed", 1, None) == 0
    (weights, said), (again, said_again) = outcome(tmp_path / "whole"), outcome(tmp_path / "killed")
    assert said["status"] == "done"
    assert said == said_again
    assert all(torch.equal(weights[name], again[name]) for name in weights | again)
