"""--train head: heads on the frozen features of a pre-trained network, from the first image to an exported file."""

import json
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import ltbench
from ltbench import registry
from ltbench.config import Augment, RunConfig
from ltbench.deploy.images import logits_of
from ltbench.deploy.predictor import describe, restore
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.evaluation.predict import Predictions
from ltbench.features import loader as features
from ltbench.features.encoder import Encoder
from ltbench.models.linear_probe import LinearProbe
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import plan_run
from ltbench.runs.resolve import resolve
from ltbench.runs.run_list import expand
from ltbench.runs.train import make_loaders

NAME = "test_efficientnet.r160_in1k"
COUNTS = {"blue": 12, "green": 6, "red": 4}
"""Images of each class: of one colour, disturbed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for channel, (name, count) in enumerate(COUNTS.items()):
        for part, number in (("train", count), ("test", 3)):
            (path / part / name).mkdir(parents=True)
            for k in range(number):
                pixels = generator.integers(0, 90, (40, 48, 3))
                pixels[..., channel] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(path / part / name / f"{k}.png")
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=5).state_dict(), path)
    return str(path)


@pytest.fixture
def config(weights):
    settings = {"dataset": "folder-lt", "backbone": NAME, "weights": weights, "train": "head", "image_size": 32}
    return RunConfig(method="ce", epochs=3, batch_size=8, feature_views=2, **settings)


@pytest.fixture
def options(folder, tmp_path):
    return RunOptions(data_dir=folder, out=tmp_path / "runs", device="cpu")


@pytest.fixture
def encoded(monkeypatch):
    """The number of images that the frozen network has seen."""
    seen = [0]
    forward = Encoder.forward

    def count(self, images):
        seen[0] += int(images.flatten(1).any(1).sum())  # not the black one that operations are counted with
        return forward(self, images)

    monkeypatch.setattr(Encoder, "forward", count)
    return seen


def test_features_are_computed_once_for_all_methods_and_seeds(config, options, encoded):
    result = ltbench.run(config, options)
    assert encoded[0] == 22 * 2 + 9  # two augmented views of each training image; test images as they are
    ltbench.run(config.replace(seed=1), options)
    ltbench.run(config.replace(method="sade"), options)
    assert encoded[0] == 22 * 2 + 9
    ltbench.run(config.replace(feature_views=3), options)
    assert encoded[0] == 22 * 2 + 9 + 22 * 3 + 9
    assert result.status == "done"
    assert result.method.track == "linear probing"
    assert result.weights.sha256 == result.config.weights.removeprefix("sha256:")
    assert result.config.recipe.name == "standard"
    assert (result.config.recipe.head, result.config.recipe.epochs) == ("linear", 3)


def test_a_head_is_trained_on_what_the_network_makes_of_the_images(config, options, weights):
    planned = plan_run(resolve(config), options)
    loader = make_loaders(planned, options).train
    network = timm.create_model(
        NAME, pretrained=True, num_classes=5, pretrained_cfg_overlay={"file": weights, "num_classes": 5}
    ).eval()
    found = torch.cat([batch.images for batch in loader.eval_batches()])
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (planned.data.mean, planned.data.std))
    assert tuple(mean.flatten().tolist()) == pytest.approx(timm.get_pretrained_cfg(NAME).mean)
    images = (torch.from_numpy(planned.data.train.images).float() / 255 - mean) / std
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
    torch.testing.assert_close(found, expected[..., None, None], rtol=1e-4, atol=1e-4)
    assert planned.input_shape == (expected.shape[1], 1, 1)
    method = planned.build_method()
    assert {name for name, _ in method.named_parameters()} == {"network.heads.0.weight", "network.heads.0.bias"}


def test_processes_that_need_the_same_features_share_the_work(config, options, monkeypatch):
    monkeypatch.setitem(features.ENCODED_TOGETHER, "cpu", 4)
    monkeypatch.setattr(features, "SAVED_TOGETHER", 4)
    planned = plan_run(resolve(config), options)
    loaders = [make_loaders(planned, options).train for _ in range(2)]
    own, both = {}, threading.Barrier(2, timeout=10)
    forward = Encoder.forward

    def counted(self, images):
        thread = threading.current_thread()
        if thread not in own:
            both.wait()  # each has a part before the other goes on
        own[thread] = own.get(thread, 0) + 1
        return forward(self, images)

    monkeypatch.setattr(Encoder, "forward", counted)
    other = threading.Thread(target=loaders[1].first)
    other.start()
    alone = loaders[0].first()
    other.join()
    assert set(own) == {threading.current_thread(), other}
    assert sum(own.values()) == 6  # five parts of four images and one of two
    assert torch.equal(alone, loaders[1].first())


def test_features_that_another_process_leaves_unfinished_are_taken_over(config, options, encoded, monkeypatch):
    planned = plan_run(resolve(config), options)
    loaders = [make_loaders(planned, options).test for _ in range(2)]
    forward, started = Encoder.forward, threading.Event()

    def fails(self, images):
        if threading.current_thread() is other:
            started.set()
            time.sleep(0.3)
            raise RuntimeError("killed")
        return forward(self, images)

    def first():
        with suppress(RuntimeError):
            loaders[1].first()

    monkeypatch.setattr(Encoder, "forward", fails)
    other = threading.Thread(target=first)
    other.start()
    started.wait(10)
    assert loaders[0].first().shape == (1, *loaders[0].shape)
    other.join()
    assert encoded[0] == 9


@pytest.mark.parametrize("what", ["plain", "train"])
def test_interrupted_features_go_on_where_they_were(what, config, options, encoded, monkeypatch):
    monkeypatch.setitem(features.ENCODED_TOGETHER, "cpu", 2)
    monkeypatch.setattr(features, "SAVED_TOGETHER", 4)
    planned = plan_run(resolve(config), options)
    how = planned.resolved.recipe.views[what]
    count = {"plain": 22, "train": 2 * 22}[what]
    whole = make_loaders(planned, options).train._features(how)
    assert encoded[0] == count

    def computed_until(stop):
        """Compute the features in another cache, with Ctrl-C after some images; those that are encoded."""
        encoded[0] = 0

        def interrupt(update):
            if update.done == stop:
                raise KeyboardInterrupt

        loader = make_loaders(planned, replace(options, listener=interrupt)).train
        return loader._features(how)

    monkeypatch.setenv("LTBENCH_CACHE", str(options.out / "another cache"))
    with pytest.raises(KeyboardInterrupt):
        computed_until(18)
    assert encoded[0] == 18
    assert torch.equal(computed_until(None), whole)
    assert encoded[0] == count - 16  # the fifth part of four was not whole
    assert not list((options.out / "another cache" / "features").glob("*.parts"))


def test_every_epoch_takes_one_of_the_augmented_views(config, options):
    planned = plan_run(resolve(config), options)
    loader = make_loaders(planned, options).train
    how = Augment(flip=True, padding=0.1)
    order = torch.arange(22)
    views = []
    for draw in (0.1, 0.6):
        ((taken,),) = loader.augmented(order, torch.full((22, 1, 5), draw), [22], [how])
        views.append(taken)
    assert not torch.equal(*views)
    ((mixed,),) = loader.augmented(order[:2], torch.tensor([0.1, 0.6])[:, None, None].expand(2, 1, 5), [2], [how])
    assert torch.equal(mixed, torch.stack([views[0][0], views[1][1]]))


@pytest.mark.slow
def test_without_augmented_views_training_sees_the_images_as_they_are(config, options, encoded):
    result = ltbench.run(config.replace(feature_views=0), options)
    assert encoded[0] == 22 + 9
    assert result.config.feature_views == 0


def test_experts_have_adapters_and_start_alike(config, options):
    method = plan_run(resolve(config.replace(method="balpoe")), options).build_method().eval()
    features = torch.randn(4, *method.network.trunk[1].running_mean.shape, 1, 1)
    found = method.network.features(features)
    assert found.shape == (3, 4, features.shape[1])
    torch.testing.assert_close(found[0], found[2])
    wide = LinearProbe(64, classes=3, head="linear")(2).branches[0].down.out_features
    narrow = LinearProbe(64, classes=3, head="linear")(2, width=0.75).branches[0].down.out_features
    assert (wide, narrow) == (16, 12)


@pytest.fixture(scope="module")
def features_of_all(tmp_path_factory):
    """A cache that the runs of several tests share: features are computed once for all, as other tests show."""
    return tmp_path_factory.mktemp("features")


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        "balanced_softmax",
        "balpoe",
        "ride",
        "paco",
        "bcl",
        "ncl",
        "mislas",
        "disalign",
        "tau_norm",
        "sade_tta",
        "gcl",
        "dbm",
        "h2t",
        "los",
        "weight_balancing",
        "car",
        "bbn",
        "gml",
    ],
)
def test_methods_of_every_kind_train_on_features(method, config, options, features_of_all, monkeypatch):
    monkeypatch.setenv("LTBENCH_CACHE", str(features_of_all))
    result = ltbench.run(config.replace(method=method), options)
    assert result.status == "done", result.reason
    assert result.method.track == "linear probing"


def test_the_file_of_the_weights_is_no_part_of_a_run(config, options, weights, tmp_path):
    copy = tmp_path / "elsewhere.safetensors"
    shutil.copy(weights, copy)
    first = plan_run(resolve(config), options)
    assert plan_run(resolve(config.replace(weights=str(copy))), options).run_id == first.run_id
    assert plan_run(resolve(first.config), options).run_id == first.run_id  # by the hash alone


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": None}, "no weights"),
        ({"method": "lift"}, "lift changes the network itself"),
        ({"method": "cmo"}, "cmo pastes boxes"),
        ({"method": "cutmix"}, "cutmix pastes boxes"),
        ({"method": "glmc"}, "glmc pastes boxes"),
        ({"hyperparameters": {"cmo": 0.5}}, "ce pastes boxes"),
        ({"recipe": "paper"}, "have no recipe for linear-probing"),
        ({"recipe": "long"}, "has no settings for linear-probing"),
    ],
)
def test_what_features_cannot_give_is_refused_by_name(changes, words, config):
    with pytest.raises(LtbenchError, match=words):
        resolve(config.replace(**changes))


@pytest.mark.slow
def test_all_methods_are_those_that_features_suffice_for(config):
    settings = config.model_dump(exclude={"method", "seed"})
    with pytest.warns(LtbenchWarning, match="left out of all methods: cmo pastes .*; cutmix pastes .*; lift changes"):
        configs = expand([{**settings, "method": "all", "seeds": "0-1"}], {})
    left_out = set(registry.method_names()) - {one.method for one in configs}
    assert left_out == {"cmo", "cutmix", "glmc", "lift"}
    assert len(configs) == 2 * (len(registry.method_names()) - 4)


def test_the_two_blends_of_glmc_can_be_of_features(config, options):
    result = ltbench.run(config.replace(method="glmc", hyperparameters={"cutmix": 0}), options)
    assert result.status == "done", result.reason


def test_the_image_size_is_that_of_the_weights(config, weights):
    assert resolve(config.replace(image_size=None)).image_size == 160
    assert resolve(config.replace(image_size=None, train="all", feature_views=None)).image_size == 160
    assert resolve(config.replace(image_size=None, dataset="digits-lt")).image_size == 160
    assert (
        resolve(config.replace(image_size=None, dataset="digits-lt", train="all", feature_views=None)).image_size == 8
    )


def test_small_images_are_enlarged_to_what_the_network_expects(config, options):
    planned = plan_run(resolve(config.replace(dataset="digits-lt", image_size=24)), options)
    assert planned.data.shape == (1, 8, 8)
    assert planned.resolved.image_size == 24
    encoder = planned.features.encoder
    images = torch.rand(2, 1, 8, 8)
    enlarged = torch.nn.functional.interpolate(images, (24, 24), mode="bicubic", antialias=True)
    torch.testing.assert_close(encoder(images), encoder(enlarged))


@pytest.mark.slow
def test_photographs_get_the_logits_of_the_evaluation(config, options, folder):
    result = ltbench.run(config.replace(method="balpoe"), options)
    predictor = restore(describe(result, folder), torch.device("cpu"), "a command")
    planned = plan_run(resolve(config.replace(method="balpoe")), options)
    stored = Predictions.load(planned.folder / "test.npz")
    files = sorted((folder / "test").glob("*/*.png"))
    found = torch.stack([logits for _, logits in logits_of(predictor, files)])
    torch.testing.assert_close(found, stored.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_frozen_network_computes_as_in_the_run_but_in_a_file_in_float32(config, options, folder):
    card = describe(ltbench.run(config.replace(precision="bf16"), options), folder)
    for exported, precision in ((False, "bf16"), (True, "fp32")):
        predictor = restore(card, torch.device("cpu"), "a command", exported=exported)
        assert predictor.method.network.trunk[0].precision == precision


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_an_exported_file_holds_the_frozen_network(kind, config, options, folder, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ltbench.run(config, options)
    called = cli(
        "export", result.run_id, "--format", kind, "--results", options.out, "--data-dir", folder, "--output", "file"
    )
    assert called.code == 0, called.err
    assert "(N, 3, 32, 32)" in called.out


@pytest.mark.slow
def test_the_command_line_has_it(config, options, folder, weights, cli):
    called = cli(
        *("run", "--method", "ce", "--dataset", "folder-lt", "--data-dir", folder, "--backbone", NAME),
        *("--weights", weights, "--train", "head", "--image-size", 32, "--epochs", 2, "--out", options.out),
        *("--feature-views", 1),
    )
    assert called.code == 0, called.err
    (path,) = options.out.rglob("*.json")
    stored = json.loads(path.read_text())
    assert stored["config"]["train"] == "head"
    shown = cli("show", stored["run_id"], "--results", options.out)
    assert f"--weights sha256:{stored['weights']['sha256']}" in " ".join(shown.out.split())
    assert "--train head" in " ".join(shown.out.split())
