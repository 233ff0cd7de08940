"""ltbench export: every format, loaded as somebody without ltbench would, against the logits of the evaluation."""

import contextlib
import importlib.util
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import ltbench
from ltbench.data.datasets.image_folder import decode_one
from ltbench.deploy import export
from ltbench.deploy.images import logits_of
from ltbench.deploy.predictor import describe, restore
from ltbench.deploy.readme import readme
from ltbench.errors import LtbenchError
from ltbench.evaluation.predict import Predictions

pytestmark = pytest.mark.slow


def load_torchscript(path):
    about = {"ltbench": ""}
    network = torch.jit.load(path, _extra_files=about)
    return network, about["ltbench"]


def load_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map["ltbench"]
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0]), about


def load_safetensors(path):
    with safe_open(path, "pt") as stored:
        about = stored.metadata()["ltbench"]
    return ltbench.load_predictor(path), about


LOADERS = {"torchscript": load_torchscript, "onnx": load_onnx, "safetensors": load_safetensors}


@pytest.fixture
def predictor(trained, tmp_path):
    return restore(describe(trained("ce").result, tmp_path), torch.device("cpu"), "a command")


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize("method", ["ce", "balpoe", "tau_norm"])
@pytest.mark.parametrize("kind", LOADERS)
def test_a_file_predicts_what_the_run_did(kind, method, trained, test_digits, tmp_path, cli):
    one = trained(method)
    called = cli("export", one.result.run_id, "--format", kind, "--results", one.folder)
    assert called.code == 0, called.err
    (path,) = tmp_path.glob(f"{method}-{one.result.run_id}{export.FORMATS[kind].suffix}")
    assert path.with_name(f"{path.name}.md").is_file()
    assert called.out.startswith(f"{path.name}: (N, 1, 8, 8) float32 pixels in [0, 1] -> (N, 10) logits")
    network, about = LOADERS[kind](path)
    with torch.no_grad():
        logits = network(torch.from_numpy(test_digits).float() / 255)
    torch.testing.assert_close(logits, one.logits, rtol=1e-4, atol=1e-4)
    card = json.loads(about)
    assert card["classes"] == list("0123456789")
    assert (card["run_id"], card["input"], card["ltbench"]) == (one.result.run_id, [1, 8, 8], ltbench.__version__)
    assert (card["mean"], card["std"]) == (list(one.result.data.mean), list(one.result.data.std))
    assert card["preprocessing"] == (
        "turned upright as its EXIF data say; its largest centred square, scaled to 8 x 8 pixels (bilinear, "
        "antialiased); turned grey"
    )
    assert card["logit_prior"] == one.result.method.logit_prior


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Photographs of odd sizes, as cameras have them: some lie on their side and say so. Each way occurs twice."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for k in range(16):
        width, height = generator.integers(9, 400, 2)
        small = Image.fromarray(generator.integers(0, 256, (7, 5, 3), dtype=np.uint8))
        image = small.resize((width, height), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[0x0112] = 1 + k % 8
        image.save(folder / f"{k:02}.jpg", quality=95, exif=exif)
    return sorted(folder.iterdir())


def run_lines(about, file, path):
    """Carry out the lines of a README for a photograph: the names that they define, and what they print."""
    (code,) = re.findall("```python\n(.*?)```", about.read_text(), re.DOTALL)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        lines = code.replace("photo.jpg", str(file)).replace(repr(path.name), repr(str(path)))
        exec(compile(lines, str(about), "exec"), names)
    return names, out.getvalue().strip()


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize("kind", LOADERS)
def test_the_lines_beside_a_file_predict_what_the_command_does(kind, predictor, photographs, tmp_path):
    predictor.card = predictor.card.model_copy(update={"classes": [f"class {k}" for k in range(10)]})
    predictor.method.train()  # batch norm's statistics are those of photographs, whose logits then differ
    pixels = np.stack([decode_one(file, 8).mean(0, keepdims=True) for file in photographs])
    for _ in range(20):
        predictor(torch.from_numpy(pixels).float() / 255)
    predictor.method.eval()
    path = tmp_path / f'a "b" of Ann\'s{export.FORMATS[kind].suffix}'
    export.export(predictor, kind, path)
    about = export.write_readme(predictor.card, kind, path)
    assert about == path.with_name(f"{path.name}.md")
    differences, probabilities = [], []
    for file, logits in logits_of(predictor, photographs):
        names, said = run_lines(about, file, path)
        expected = logits.softmax(0)
        differences.append((torch.from_numpy(names["logits"])[0].softmax(0) - expected).abs().max().item())
        assert said == f"class {expected.argmax()}"
        probabilities.append(expected)
    assert max(differences) < 1e-3
    assert torch.stack(probabilities).std(0).max() > 0.02  # other pixels would be noticed


@pytest.mark.parametrize("side", [8, 56, 224])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_pixels_of_the_lines_are_those_of_evaluation(streamed, channels, side, predictor, photographs, monkeypatch):
    predictor.card = predictor.card.model_copy(update={"streamed": streamed, "input": (channels, side, side)})
    seen = []

    def record(predictor, images):
        seen.extend(images)
        return Predictions(torch.zeros(len(images), 10), torch.zeros(1, len(images), 10), torch.zeros(len(images)), "")

    monkeypatch.setattr("ltbench.deploy.images._predicted", record)
    list(logits_of(predictor, photographs))
    (code,) = re.findall("```python\n(.*?)```", readme(predictor.card, "onnx", "a.onnx"), re.DOTALL)
    lines = code[: code.index("network =")]
    for file, expected in zip(photographs, seen, strict=True):
        names = {}
        exec(lines.replace("photo.jpg", str(file)), names)
        levels = np.abs(255 * names["pixels"][0] - expected)
        # Pillow and torchvision round a few pixels of a scaled image otherwise.
        assert levels.max() < (1.01 if streamed else 0.01)
        assert levels.mean() < 0.2


def test_nothing_is_written_beside_a_pipe(predictor, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert export.write_readme(predictor.card, "onnx", tmp_path / "pipe") is None
    assert export.write_readme(predictor.card, "onnx", Path("/dev/stdout")) is None
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_file_that_predicts_otherwise_is_not_kept(predictor, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_text("what was there before")
    how = export.FORMATS["safetensors"]

    def spoilt(file):
        loaded = how.load(file)
        return lambda images: loaded(images) + 0.01

    monkeypatch.setitem(export.FORMATS, "safetensors", export.Format(".safetensors", how.save, spoilt))
    with pytest.raises(LtbenchError, match="the safetensors file and the run give different logits"):
        export.export(predictor, "safetensors", path)
    assert path.read_text() == "what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_that_cannot_be_exported_leaves_no_file(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor.method, "combine", lambda experts: [].pop())
    with pytest.raises(LtbenchError, match=r"cannot be written as torchscript: .*pop from empty list"):
        export.export(predictor, "torchscript", tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(trained, monkeypatch, cli):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else real(name))
    called = cli("export", trained("ce").path, "--format", "onnx")
    assert called.code == 2
    assert "onnxscript not installed" in called.err
    assert 'python -m pip install "ltbench[onnx]"' in called.err


def test_other_files_are_no_predictors(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "b.safetensors", metadata={"ltbench": "{}"})
    (tmp_path / "c.safetensors").write_bytes(b"xx")
    for name in ("a", "b", "c", "d"):
        with pytest.raises(LtbenchError, match="not a predictor that ltbench has exported"):
            ltbench.load_predictor(tmp_path / f"{name}.safetensors")
