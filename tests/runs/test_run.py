"""The spine from configuration to result, on real digits: runs that use runs, adaptation, validation, precision."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.data.datasets.digits import Digits
from ltbench.data.images import RawData
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.files import paths
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run
from ltbench.runs.sweep import run_all

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]
LEARNS = {"backbone": "cifar_resnet8", "batch_size": 8, "lr": 0.03}
"""In one epoch enough for a temperature."""

STUDENT = '''
"""Distillation from a cross-entropy run."""

import copy

import torch.nn.functional as F

from ltbench.method import Loss, Method


class Student(Method):
    """Learns the teacher's probabilities."""

    @classmethod
    def uses(cls, run):
        return {"teacher": run.replace(method="ce", hyperparameters={})}

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.teacher = copy.deepcopy(self.network).requires_grad_(False).eval()

    def start_from(self, runs):
        self.teacher.load_state_dict(runs["teacher"].network.state_dict())

    def forward(self, batch, at):
        target = self.teacher(batch.images).softmax(1)
        return Loss.of(F.kl_div(self.network(batch.images).log_softmax(1), target, reduction="none").sum(1))
'''

ADAPTER = '''
"""Weights over experts, fitted to the unlabelled test images."""

import torch

from ltbench.method.losses import cross_entropy
from ltbench.method import Loss, Method, Stage


class Adapter(Method):
    """A second stage that sees test images and no labels."""

    transductive = True

    def make_network(self, build):
        return build(2)

    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.weights = torch.nn.Parameter(torch.zeros(2))

    def stages(self, recipe):
        adapt = Stage("adapt", epochs=1, trains=("weights",), source="unlabelled-test")
        return (Stage("train", trains=("network",)), adapt)

    def forward(self, batch, at):
        experts = self.network.experts(batch.images)
        # On unlabelled images every label is -1: confidence stands in for the loss.
        labels = batch.labels.clamp(min=0)
        known = (batch.labels >= 0).float()
        confidence = self.combine(experts).softmax(1).max(1).values
        values = known * cross_entropy(experts.mean(0), labels) - (1 - known) * confidence
        return Loss.of(values + 0 * self.weights.sum())

    def combine(self, experts):
        return torch.einsum("m,mbc->bc", self.weights.softmax(0), experts)
'''


@pytest.fixture
def user_method(tmp_path):
    def add(name, source):
        file = tmp_path / f"{name}.py"
        file.write_text(source)
        return registry.add_method_file(file)

    return add


@pytest.fixture
def options(tmp_path):
    return RunOptions(out=tmp_path / "runs", device="cpu")


def logits(result, part="test"):
    return np.load(paths.cache_dir() / "runs" / result.run_id / f"{part}.npz")


def weights(run_id):
    return torch.load(paths.cache_dir() / "runs" / run_id / "checkpoint.pt", weights_only=True)["method"]


def test_a_student_starts_from_a_stored_teacher(user_method, options):
    teacher = run(RunConfig(method="ce", epochs=2), options)
    stamp = (options.out / "digits-lt" / "ce" / f"{teacher.run_id}.json").stat().st_mtime_ns
    student = run(RunConfig(method=user_method("student", STUDENT), epochs=2), options)
    assert student.status == "done", student.reason
    assert student.method.uses == {"teacher": teacher.run_id}
    assert (options.out / "digits-lt" / "ce" / f"{teacher.run_id}.json").stat().st_mtime_ns == stamp
    learned, source = weights(student.run_id), weights(teacher.run_id)
    copied = {name: value for name, value in learned.items() if name.startswith("teacher.")}
    assert copied
    for name, value in copied.items():
        assert torch.equal(value, source[name.replace("teacher.", "network.", 1)]), name


def test_a_teacher_is_trained_where_none_is_stored_or_its_weights_are_lost(user_method, options):
    name = user_method("student", STUDENT)
    first = run(RunConfig(method=name, epochs=2), options)
    assert len(list(options.out.rglob("ce/*.json"))) == 1
    shutil.rmtree(paths.cache_dir() / "runs")
    again = run(RunConfig(method=name, epochs=2), replace(options, rerun=True))
    assert again.metrics == first.metrics


def test_posthoc_adjustment_is_the_ce_run_less_the_log_prior(options):
    config = RunConfig(method="logit_adjustment_posthoc", epochs=2, hyperparameters={"tau": 1.5})
    adjusted = run(config, options)
    plain = run(RunConfig(method="ce", epochs=2), options)
    assert adjusted.method.uses == {"ce": plain.run_id}
    counts = np.array(adjusted.data.trained_on)
    expected = logits(plain)["logits"] - 1.5 * np.log(counts / counts.sum())
    np.testing.assert_allclose(logits(adjusted)["logits"], expected, rtol=1e-5, atol=1e-5)
    assert adjusted.method.logit_prior == pytest.approx(-0.5)
    assert adjusted.cost.training_seconds == pytest.approx(plain.cost.training_seconds)


def test_posthoc_tau_is_chosen_on_validation_images(options):
    config = RunConfig(
        **LEARNS, method="logit_adjustment_posthoc", epochs=1, validation=True, hyperparameters={"select_tau": True}
    )
    result = run(config, options)
    stored = logits(result, "validation")
    prior = np.log(np.array(result.data.trained_on) / sum(result.data.trained_on))

    def macro(tau):
        right = (stored["experts"][0] - tau * prior).argmax(1) == stored["labels"]
        return np.mean([right[stored["labels"] == label].mean() for label in np.unique(stored["labels"])])

    chosen = 1 - result.method.logit_prior
    assert macro(chosen) == max(macro(step / 10) for step in range(31))
    assert weights(result.run_id)["tau"].item() == pytest.approx(chosen)
    assert result.method.selected == {"tau": pytest.approx(chosen)}


def test_adapting_to_test_images_never_sees_their_labels(user_method, options, monkeypatch):
    name = user_method("adapter", ADAPTER)
    true = run(RunConfig(method=name, epochs=2), options)
    load = Digits.load

    def scrambled(self, folder, image_size):
        raw = load(self, folder, image_size)
        labels = np.random.default_rng(0).permutation(raw.test.labels)
        return RawData(raw.train, replace(raw.test, labels=labels), raw.classes)

    monkeypatch.setattr(Digits, "load", scrambled)
    false = run(RunConfig(method=name, epochs=2), options)
    assert true.run_id != false.run_id
    assert true.metrics["test"].nll != false.metrics["test"].nll
    assert true.method.transductive
    np.testing.assert_array_equal(logits(true)["logits"], logits(false)["logits"])
    assert (weights(true.run_id)["weights"] != 0).all(), "the second stage has adapted"


BROKEN = '''
"""A method with a slip."""

from ltbench.method import Method


class Broken(Method):
    """Divides by nothing."""

    def forward(self, batch, at):
        return 1 / 0
'''


def test_a_broken_method_is_stored_as_failed_with_its_line_and_the_sweep_goes_on(user_method, options):
    configs = [RunConfig(method=user_method("broken", BROKEN), epochs=1), RunConfig(method="ce", epochs=1)]
    broken, ce = run_all(configs, options, lambda result, recalled: None)
    assert broken.status == "failed"
    assert broken.reason == "ZeroDivisionError: division by zero (broken.py, line 11)"
    assert ce.status == "done"


def test_validation_gives_a_temperature_and_costs_training_images(options):
    result = run(RunConfig(**LEARNS, method="ce", epochs=1, validation=True), options)
    counts, trained = np.array(result.data.counts), np.array(result.data.trained_on)
    assert (counts - trained).tolist() == [max(1, int(0.2 * count + 0.5)) for count in counts]
    assert set(result.metrics) == {"validation", "test"}
    scaled = result.metrics["validation"].temperature_scaled
    assert scaled["nll"] <= result.metrics["validation"].nll
    assert scaled["fitted_for"].prior == "validation"
    own = result.metrics["test"].temperature_scaled["fitted_for"]
    held_out = counts - trained
    assert (own.prior, own.validation_images, own.classes_without_images) == ("balanced", held_out.sum(), 0)
    # C classes of n_c images with weights 1 / n_c: (sum of C)^2 / sum of 1 / n_c
    assert own.effective_images == pytest.approx(100 / (1 / held_out).sum())
    assert run(RunConfig(**LEARNS, method="ce", epochs=1), options).metrics["test"].temperature_scaled is None


def test_stored_logits_give_the_stored_accuracy(options):
    result = run(RunConfig(epochs=2), options)
    stored = logits(result)
    assert stored["experts"].shape == (3, 400, 10)
    np.testing.assert_allclose(stored["experts"].mean(0), stored["logits"], rtol=1e-5, atol=1e-5)
    assert 100 * (stored["logits"].argmax(1) == stored["labels"]).mean() == result.test.top1
    assert len(result.test.expert_mean_probability) == 3
    assert json.loads(str(stored["about"]))["run_id"] == result.run_id


def test_the_result_can_be_read_without_ltbench(options):
    result = run(RunConfig(method="ce", epochs=1), options)
    (path,) = options.out.rglob("*.json")
    plain = json.loads(path.read_text())
    assert plain["schema_version"] == 1
    assert plain["config"]["recipe"]["epochs"] == 1
    assert plain["data"]["counts"] == result.data.counts
    assert plain["data"]["groups"] == {"many": [0], "medium": [1, 2, 3, 4, 5], "few": [6, 7, 8, 9]}
    assert sum(plain["metrics"]["test"]["total"]) == 400
    assert plain["provenance"]["versions"]["torch"]
    assert plain["cost"]["parameters"] > 0


def test_a_stored_run_whose_settings_have_other_values_now_is_run_again(options):
    result = run(RunConfig(method="ce", epochs=1), options)
    (path,) = options.out.rglob("*.json")
    older = json.loads(path.read_text())
    older["config"]["recipe"]["gamma"] = 0.5  # as if the default had been another when it was stored
    path.write_text(json.dumps(older))
    checkpoint = paths.cache_dir() / "runs" / result.run_id / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    assert '"gamma":0.1' in state["settings"]
    torch.save({**state, "settings": state["settings"].replace('"gamma":0.1', '"gamma":0.5')}, checkpoint)
    steps = []
    again = run(
        RunConfig(method="ce", epochs=1), replace(options, listener=lambda update: steps.append(update.fraction))
    )
    assert len(steps) == 8 + 1, "trained anew, although a finished checkpoint lies under this name"
    assert again.run_id == result.run_id
    assert again.config.recipe.gamma == 0.1


def as_if_of_another_division(result, options, *, recorded):
    """Store a run of experts, and its weights, as if it had been made when stages were lost."""
    (path,) = options.out.rglob("*.json")
    older = json.loads(path.read_text())
    older["cost"]["parameters"] -= 1000
    if recorded:
        older["experts"]["own"] = older["experts"]["own"][:-1]
    else:
        del older["experts"]
    path.write_text(json.dumps(older))
    checkpoint = paths.cache_dir() / "runs" / result.run_id / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    state["method"] = {name: value for name, value in state["method"].items() if ".layer3." not in name}
    torch.save(state, checkpoint)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_stored_run_of_experts_that_were_divided_otherwise_is_run_again(options, recorded):
    config = RunConfig(method="balpoe", epochs=1)
    result = run(config, options)
    assert result.experts.shared == ["conv1", "bn1", "layer1"]
    assert result.experts.own == ["layer2", "layer3"]
    as_if_of_another_division(result, options, recorded=recorded)
    with pytest.warns(LtbenchWarning, match="does not fit the run"):
        again = run(config, options)
    assert again.run_id == result.run_id
    assert again.cost.parameters == result.cost.parameters
    assert again.metrics == result.metrics


def test_storing_over_an_old_result_builds_no_network_for_the_comparison(options, monkeypatch):
    config = RunConfig(method="balpoe", epochs=1)
    result = run(config, options)
    (path,) = options.out.rglob("*.json")
    older = json.loads(path.read_text())
    older["config"]["recipe"]["lr"] = 0.7  # equal id, other settings: a default has changed since
    path.write_text(json.dumps(older))
    monkeypatch.setattr("ltbench.runs.stored._network", None)
    again = run(config, options)
    assert (again.status, again.config) == ("done", result.config)
    assert json.loads(path.read_text())["config"]["recipe"]["lr"] == result.config.recipe.lr


def test_a_stored_run_of_experts_that_is_older_than_its_division_on_record_stays_stored(options):
    config = RunConfig(method="balpoe", epochs=1)
    run(config, options)
    (path,) = options.out.rglob("*.json")
    older = json.loads(path.read_text())
    del older["experts"]
    path.write_text(json.dumps(older))
    steps = []
    again = run(config, replace(options, listener=lambda update: steps.append(update.fraction)))
    assert (steps, again.experts) == ([], None)


def test_bf16_trains_and_keeps_its_weights_in_single_precision(options):
    result = run(RunConfig(method="balpoe", epochs=2, precision="bf16"), options)
    assert result.status == "done"
    floats = {value.dtype for value in weights(result.run_id).values() if value.is_floating_point()}
    assert floats == {torch.float32}
    assert result.run_id != run(RunConfig(method="balpoe", epochs=2), options).run_id


def test_another_backbone_image_size_and_ratio(options):
    config = RunConfig(
        method="balpoe", backbone="test_resnet", epochs=1, imbalance_ratio=5, hyperparameters={"taus": [1]}
    )
    result = run(config, options)
    assert max(result.data.counts) / min(result.data.counts) == pytest.approx(5, rel=0.05)
    assert result.config.backbone == "test_resnet"


def test_a_tau_for_each_class_of_the_wrong_length_is_refused(options):
    config = RunConfig(epochs=1, hyperparameters={"taus": [[0.0, 1.0, 2.0], 1.0]})
    with pytest.raises(LtbenchError, match="3 numbers for 10 classes"):
        run(config, options)
    assert not list(options.out.rglob("*.json"))


def test_a_run_that_looks_at_no_images_after_training(options):
    result = run(RunConfig(method="ce", epochs=1), replace(options, evaluate_test=False))
    assert (result.status, result.metrics) == ("done", {})
    assert result.cost.evaluation_images_per_second == 0


@pytest.mark.parametrize(
    ("settings", "prior"),
    [
        ({}, 0.0),
        ({"cmo": 0.0}, 0.0),
        ({"mixup": 0.0, "remix": 3}, 0.0),
        ({"cmo": 0.5}, None),
        ({"mixup": 0.4, "remix": 3}, None),
    ],
)
def test_what_is_left_of_the_prior_is_not_known_where_mixing_changes_it(settings, prior, tmp_path):
    config = RunConfig(method="balanced_softmax", epochs=1, hyperparameters=settings)
    assert run(config, RunOptions(out=tmp_path)).method.logit_prior == prior


@pytest.mark.slow
def test_a_teacher_whose_weights_are_lost_goes_on_where_it_was_and_its_result_stays(user_method, options):
    name = user_method("student", STUDENT)
    first = run(RunConfig(method=name, epochs=2), options)
    (teacher,) = options.out.rglob("ce/*.json")
    stamp = teacher.stat().st_mtime_ns
    shutil.rmtree(paths.cache_dir() / "runs")
    begun = []

    def stop(update):
        if "epoch" in update.message:
            begun[-1].append(update.history.images)
            if len(begun) == 1 and len(begun[0]) == 4:
                raise KeyboardInterrupt

    again = replace(options, rerun=True, checkpoint_every=0, listener=stop)
    begun.append([])
    with pytest.raises(KeyboardInterrupt):
        run(RunConfig(method=name, epochs=2), again)
    begun.append([])
    assert run(RunConfig(method=name, epochs=2), again).metrics == first.metrics
    assert begun[1][0] > begun[0][2], "not from the first image"
    assert teacher.stat().st_mtime_ns == stamp
