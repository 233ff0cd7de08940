"""Published CIFAR ResNets from files: every wrapping, every architecture, and what is refused."""

import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ltbench.errors import LtbenchError
from ltbench.models.published_resnets import Architecture, published_name, read_network
from ltbench.models.state_file import read_state

CASES = ("resnet32_linear", "resnet32_cosine", "resnet32_3_experts_cosine")
WRAPPINGS = {
    "bare.pth": lambda state, path: torch.save(state, path),
    "ldam.pth.tar": lambda state, path: torch.save(
        {"epoch": 200, "arch": "resnet32", "state_dict": state, "best_acc1": torch.tensor(38.0), "optimizer": {}}, path
    ),
    "parallel.pt": lambda state, path: torch.save({"state_dict": _named("module.", state)}, path),
    "ride.pth": lambda state, path: torch.save({"arch": "Model", "state_dict": _named("backbone.", state)}, path),
    "both.pth": lambda state, path: torch.save({"state_dict": _named("module.backbone.", state)}, path),
    "old.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "tensors.safetensors": lambda state, path: save_file(state, path),
}


def _named(prefix, state):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("file", WRAPPINGS)
def test_golden_logits_from_a_file_in_every_wrapping(file, tmp_path, golden_networks, published_state):
    for name in CASES:
        case, path = golden_networks(name), tmp_path / file
        WRAPPINGS[file](published_state(case), path)
        _, network = read_network(read_state(path), path)
        with torch.no_grad():
            logits = network.eval().experts(torch.from_numpy(case["eval_images"])).numpy()
        np.testing.assert_allclose(logits, case["eval_logits"].reshape(logits.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("width", [1.0, 0.75])
@pytest.mark.parametrize(("backbone", "experts"), [("cifar_resnet20", 1), ("cifar_resnet32", 3), ("cifar_resnet20", 2)])
def test_every_architecture_is_read_off_its_shapes(backbone, experts, width, head):
    described = Architecture(backbone, experts, width, head, classes=7, channels=3)
    original = described.network().eval()
    state = {
        published_name(name, several=experts > 1): value.T if head == "cosine" and name.startswith("heads") else value
        for name, value in original.state_dict().items()
    }
    found, network = read_network(state, "a file")
    assert found == described
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.eval().experts(images), original.experts(images))


def test_a_single_expert_may_be_numbered(golden_networks, published_state):
    state = published_state(golden_networks("resnet32_3_experts_cosine"))
    own = {name: value for name, value in state.items() if not name.startswith(("layer2s.", "layer3s.", "linears."))}
    own |= {name: value for name, value in state.items() if name.split(".")[0][-1] == "s" and name.split(".")[1] == "0"}
    found, network = read_network(own, "a file")
    assert found.experts == 1
    case = golden_networks("resnet32_3_experts_cosine")
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(case["eval_images"])).numpy()
    np.testing.assert_allclose(logits, case["eval_logits"][0], rtol=1e-4, atol=1e-5)


def test_counts_of_batches_may_be_missing(golden_networks, published_state):
    state = published_state(golden_networks("resnet32_linear"))
    older = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(older) < len(state)
    assert read_network(older, "a file")[0].head == "linear"


@pytest.mark.slow
def test_entries_that_do_not_fit_are_named(golden_networks, published_state):
    state = published_state(golden_networks("resnet32_3_experts_cosine"))
    del state["bn1.weight"]
    state["expert_help_pred_fcs.0.weight"] = torch.zeros(2)
    state["layer2s.1.0.bn1.bias"] = torch.zeros(31)
    with pytest.raises(LtbenchError) as refused:
        read_network(state, "weights.pth")
    message = str(refused.value)
    assert "cifar_resnet32 with 3 experts of width 1, cosine head, 100 classes" in message
    assert "1 missing (bn1.weight); 1 unknown (expert_help_pred_fcs.0.weight)" in message
    assert "layer2s.1.0.bn1.bias: 31 and not 32" in message
    assert "where: weights.pth" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {"a": torch.zeros(2)},
        lambda state: {},
        lambda state: {name: value for name, value in state.items() if not name.startswith("linear")},
        lambda state: {**state, "layer3.0.conv2.weight": torch.zeros(128, 64, 3, 3)},
        lambda state: {name: value for name, value in state.items() if not name.startswith("layer1.4")},
    ],
)
def test_another_network_is_refused(change, golden_networks, published_state):
    state = published_state(golden_networks("resnet32_linear"))
    with pytest.raises(LtbenchError, match="no weights of a published CIFAR ResNet"):
        read_network(change(state), "a file")


def test_a_file_with_objects_in_it_is_refused_and_not_executed(tmp_path, monkeypatch):
    module = types.ModuleType("parse_config")
    made = []
    module.ConfigParser = type(
        "ConfigParser", (), {"__module__": "parse_config", "__setstate__": lambda self, state: made.append(state)}
    )  # as in the checkpoints of RIDE, SADE and BalPoE
    config = module.ConfigParser()
    config.lr = 0.1
    monkeypatch.setitem(sys.modules, "parse_config", module)
    torch.save({"state_dict": {"a": torch.zeros(2)}, "config": config}, tmp_path / "model.pth")
    with pytest.raises(LtbenchError, match=r"more than tensors \(parse_config.ConfigParser\)") as refused:
        read_state(tmp_path / "model.pth")
    assert "torch.save(s['state_dict'], 'weights.pth')" in str(refused.value)
    assert made == []


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.pth", b""), ("b.pth", b"no pickle at all"), ("c.safetensors", b"xx"), ("d.pth", b"PK\x03\x04 cut off")],
)
def test_a_damaged_file_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LtbenchError, match="damaged, or not written by"):
        read_state(tmp_path / name)


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(2, dtype=torch.int8),
        torch.zeros(2, dtype=torch.float8_e4m3fn),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2).to_sparse(),
        torch.zeros(2, device="meta"),
        torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
    ],
    ids=["int8", "float8", "complex", "sparse", "meta", "quantised"],
)
def test_tensors_that_are_no_plain_weights_are_refused(tmp_path, value):
    """Torch would round or cast some of them without a word."""
    torch.save(
        {"fine": torch.zeros(2, dtype=torch.bfloat16), "counts": torch.tensor(3), "odd": value}, tmp_path / "a.pth"
    )
    with pytest.raises(LtbenchError, match="the tensor 'odd' cannot be used as it is stored"):
        read_state(tmp_path / "a.pth")


def test_a_file_without_a_state_dictionary_says_what_it_has(tmp_path):
    torch.save({"epoch": 3, "model": {"a": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(LtbenchError, match="no state dictionary in the file: it has the entries epoch, model"):
        read_state(tmp_path / "a.pth")
    torch.save(torch.zeros(3), tmp_path / "b.pth")
    with pytest.raises(LtbenchError, match="it holds a Tensor"):
        read_state(tmp_path / "b.pth")
    with pytest.raises(LtbenchError, match="the file is not there"):
        read_state(tmp_path / "c.pth")
