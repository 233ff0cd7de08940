"""ltbench import-checkpoint: published weights become a row that is evaluated, predicts and exports like a run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ltbench.models.published_resnets import Architecture, published_name, read_network

OPTIONS = ("--dataset", "folder-lt", "--data-dir", "mine", "--image-size", 8, "--device", "cpu")
MEAN, SIZES = 0.4, {"train": (3, 2), "test": (2, 2)}


@pytest.fixture
def images(tmp_path):
    """Two classes of random images in the folder mine/; gives the test images, (4, 3, 8, 8) uint8."""
    generator, tests = np.random.default_rng(0), []
    for part, sizes in SIZES.items():
        for name, size in zip(("cat", "dog"), sizes, strict=True):
            for i in range(size):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                path = tmp_path / "mine" / part / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                if part == "test":
                    tests.append(pixels.transpose(2, 0, 1))
    return np.stack(tests)


@pytest.fixture
def checkpoint(tmp_path):
    """Write a checkpoint of a network with random weights; gives the network."""

    def write(name="weights.pth", *, experts=2, width=0.75, head="cosine", classes=2, channels=3):
        network = Architecture("cifar_resnet20", experts, width, head, classes, channels).network().eval()
        state = {
            "module.backbone." + published_name(ours, several=experts > 1): value.T.contiguous()
            if head == "cosine" and ours.startswith("heads")
            else value
            for ours, value in network.state_dict().items()
        }
        torch.save({"epoch": 200, "state_dict": state}, tmp_path / name)
        return network

    return write


def stored_result(folder):
    (path,) = folder.glob("runs/*/*/*.json")
    return json.loads(path.read_text()), path


@pytest.mark.slow
def test_a_checkpoint_becomes_a_row(images, checkpoint, tmp_path, cli, monkeypatch):
    network = checkpoint()
    called = cli("import-checkpoint", "weights.pth", "--name", "theirs", *OPTIONS, "--logit-prior", 0, "--seed", 3)
    assert called.code == 0, called.err
    assert "cifar_resnet20 with 2 experts of width 0.75, cosine head, 2 classes" in called.err
    result, path = stored_result(tmp_path)
    mean, std = (torch.tensor(result["data"][name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        experts = network.experts((torch.from_numpy(images).float() / 255 - mean) / std)
    right = (experts.mean(0).argmax(1) == torch.tensor([0, 0, 1, 1])).float()
    assert result["metrics"]["test"]["top1"] == pytest.approx(100 * float(right.mean()))
    assert (result["method"]["revision"], result["method"]["logit_prior"]) == ("imported", 0.0)
    assert result["config"]["hyperparameters"] == {"experts": 2, "width": 0.75, "head": "cosine"}
    assert (result["config"]["recipe"], result["config"]["seed"]) == ("external", 3)
    assert result["cost"]["training_seconds"] is None
    assert result["cost"]["parameters"] == sum(weight.numel() for weight in network.parameters())
    assert result["outcomes"]["images"] == 4
    assert set(result["shift"]["prior"]) == {"unknown", "known", "estimated"}

    called = cli("predict", path, "mine/test")
    assert called.code == 0, called.err
    found = [float(line.split(",")[-1]) for line in called.out.splitlines()[1:]]
    np.testing.assert_allclose(found, experts.mean(0).softmax(1)[:, 1], rtol=1e-4, atol=1e-6)
    called = cli("export", path, "--format", "safetensors", "--output", "mine.safetensors")
    assert called.code == 0, called.err
    words = "--name theirs --dataset folder-lt --image-size 8 --recipe external --seed 3 --logit-prior 0"
    assert f"reproduce  ltbench import-checkpoint weights.pth {words}\n" in cli("show", path).out
    for words in (("report",), ("evaluate", path)):
        called = cli(*words)
        assert called.code == 0, called.err
        assert "theirs" in called.out


@pytest.mark.slow
def test_golden_logits_through_the_importer(golden_networks, tmp_path, cli):
    """100 classes of one training and one test image: the network that is kept gives the published logits."""
    case = golden_networks("resnet32_3_experts_cosine")
    for part, level in (("train", 0), ("test", 100)):
        for c in range(100):
            path = tmp_path / "mine" / part / f"{c:02}" / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((8, 8, 3), level + c, dtype=np.uint8)).save(path)
    state = {name[6:]: torch.from_numpy(np.array(value)) for name, value in case.items() if name.startswith("state/")}
    torch.save({"state_dict": {"backbone." + name: value for name, value in state.items()}}, tmp_path / "model.pth")
    called = cli("import-checkpoint", "model.pth", "--name", "golden", *OPTIONS)
    assert called.code == 0, called.err
    _, path = stored_result(tmp_path)
    called = cli("export", path, "--format", "safetensors", "--output", "golden.safetensors")
    assert called.code == 0, called.err
    import ltbench

    method = ltbench.load_predictor("golden.safetensors").method
    with torch.no_grad():
        experts = method.experts(torch.from_numpy(case["eval_images"])).numpy()
    np.testing.assert_allclose(experts, case["eval_logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_importing_again_replaces_and_another_file_is_refused(images, checkpoint, tmp_path, cli):
    checkpoint()
    checkpoint("other.pth")
    assert cli("import-checkpoint", "weights.pth", "--name", "theirs", *OPTIONS).code == 0
    assert cli("import-checkpoint", "weights.pth", "--name", "theirs", *OPTIONS).code == 0
    stored_result(tmp_path)  # one file
    called = cli("import-checkpoint", "other.pth", "--name", "theirs", *OPTIONS)
    assert called.code == 2
    assert "exists already, from another file" in called.err
    assert cli("import-checkpoint", "other.pth", "--name", "theirs", *OPTIONS, "--seed", 1).code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "NaN or infinity in 1 of its 116 entries (conv1.weight)"),
        (float("inf"), "NaN or infinity in 1 of its 116 entries (conv1.weight)"),
        (3e38, "the logits of 4 of 4 images are NaN, infinite or beyond 1e+30"),  # finite, but not what it makes
    ],
)
def test_weights_that_overflow_are_refused(value, message, images, checkpoint, tmp_path, cli):
    checkpoint(experts=1, width=1.0, head="linear")
    file = tmp_path / "weights.pth"
    content = torch.load(file, weights_only=True)
    name = next(name for name, weight in content["state_dict"].items() if weight.shape == (16, 3, 3, 3))
    weight = content["state_dict"][name]
    if value < 1e39 and value == value:
        for one in content["state_dict"].values():
            if one.ndim == 1:
                one.fill_(value)
    else:
        weight.view(-1)[7] = value
    torch.save(content, file)
    called = cli("import-checkpoint", "weights.pth", "--name", "theirs", *OPTIONS)
    assert (called.code, called.out) == (2, "")
    assert message in called.err
    assert "Traceback" not in called.err
    assert "where: weights.pth" in called.err
    assert not list(tmp_path.rglob("*.json"))


def test_a_declared_recipe_stands_beside_its_rows(images, checkpoint, tmp_path, cli):
    checkpoint(head="linear", experts=1, width=1.0)
    assert cli("import-checkpoint", "weights.pth", "--name", "theirs", *OPTIONS, "--recipe", "standard").code == 0
    result, _ = stored_result(tmp_path)
    assert result["config"]["recipe"]["name"] == "standard"
    assert result["config"]["hyperparameters"]["head"] == "linear"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ({"classes": 3}, {}, "the network is for 3 classes, but folder-lt has 2"),
        ({"channels": 1}, {}, "the network is for 1 image channels, but folder-lt has 3"),
        ({}, {"--name": "balpoe"}, "'balpoe' is a method of ltbench"),
        ({}, {"--name": "../x"}, "'../x' is no name"),
        ({}, {"--logit-prior": "nan"}, "nan is no finite number"),
        ({}, {"--recipe": "paper"}, "the paper recipe is known only for methods of ltbench"),
        ({}, {"--recipe": "standrad"}, "unknown recipe 'standrad'"),
        ({}, {"--dataset": "folder"}, "unknown data set 'folder'"),
    ],
)
def test_what_does_not_fit_is_refused(network, options, message, images, checkpoint, tmp_path, cli):
    checkpoint(**network)
    given = {"--name": "theirs", **dict(zip(OPTIONS[::2], OPTIONS[1::2], strict=True)), **options}
    called = cli("import-checkpoint", "weights.pth", *(word for option in given.items() for word in option))
    assert called.code == 2
    assert message in called.err
    assert not list(tmp_path.rglob("*.json"))


def test_a_single_published_network_is_read_back(checkpoint, tmp_path):
    network = checkpoint(experts=1, head="linear", width=1.0)
    state = torch.load(tmp_path / "weights.pth")["state_dict"]
    _, found = read_network(state, "weights.pth")
    assert all(torch.equal(found.state_dict()[name], value) for name, value in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(images, checkpoint, tmp_path, cli, value):
    checkpoint()
    stored = torch.load(tmp_path / "weights.pth")
    next(iter(stored["state_dict"].values())).view(-1)[3] = value
    torch.save(stored, tmp_path / "weights.pth")
    called = cli("import-checkpoint", "weights.pth", "--name", "theirs", *OPTIONS)
    assert called.code == 2
    assert "NaN or infinity in 1 of its 188 entries (conv1.weight)" in called.err
    assert not list(tmp_path.rglob("runs/**/*.json"))
