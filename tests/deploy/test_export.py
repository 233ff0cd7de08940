"""ltbench export: every format, loaded as somebody without ltbench would, against the logits of the evaluation."""

import importlib.util
import json

import pytest
import torch
from safetensors import safe_open

import ltbench
from ltbench.deploy import export
from ltbench.deploy.predictor import describe, restore
from ltbench.errors import LtbenchError

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
    (path,) = tmp_path.glob(f"{method}-{one.result.run_id}.*")
    assert called.out.startswith(f"{path.name}: (N, 1, 8, 8) float32 pixels in [0, 1] -> (N, 10) logits")
    network, about = LOADERS[kind](path)
    with torch.no_grad():
        logits = network(torch.from_numpy(test_digits).float() / 255)
    torch.testing.assert_close(logits, one.logits, rtol=1e-4, atol=1e-4)
    card = json.loads(about)
    assert card["classes"] == list("0123456789")
    assert (card["run_id"], card["input"], card["ltbench"]) == (one.result.run_id, [1, 8, 8], ltbench.__version__)
    assert (card["mean"], card["std"]) == (list(one.result.data.mean), list(one.result.data.std))
    assert card["logit_prior"] == one.result.method.logit_prior


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
