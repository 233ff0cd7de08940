"""Numbers that overflow: the run that has them fails with a reason, the others go on, and nobody predicts with them."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ltbench
from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError, LtbenchWarning, SaveError
from ltbench.evaluation.predict import Predictions
from ltbench.files import paths
from ltbench.results.store import Store, read
from ltbench.runs import sweep
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run

pytestmark = pytest.mark.usefixtures("small_network")

CE = RunConfig(method="ce", backbone="cifar_resnet8", epochs=1)

SPOILT = '''
"""Cross entropy that goes wrong where it is told to."""

from ltbench_methods.ce import CrossEntropy


class Spoilt(CrossEntropy):
{body}
'''
BODIES = {
    "weights": """
    def after_step(self, at):
        if at.run_fraction > 0.87:  # the last of eight steps: no later loss tells
            next(self.network.parameters()).data.view(-1)[:2] = float("nan")
""",
    "statistics": """
    def after_step(self, at):
        for name, buffer in self.network.named_buffers():
            if name.endswith("running_var"):
                buffer[0] = float("inf")  # predictions would be finite: all the same for this channel
""",
    "logits": """
    def combine(self, experts):
        return 1e38 * experts.mean(0)
""",
    "experts": """
    def experts(self, images):
        return super().experts(images).double().mul(1e300).float()

    def combine(self, experts):
        return experts.mean(0).nan_to_num(0, 1, -1)
""",
    "division": """
    def forward(self, batch, at):
        return 1 / 0
""",
    "silent": """
    def forward(self, batch, at):
        from ltbench.errors import TrainingFailedError
        raise TrainingFailedError("")
""",
    "exit": """
    def forward(self, batch, at):
        raise SystemExit(3)
""",
    "overflow": """
    def __init__(self, build, prior, config):
        super().__init__(build, prior, config)
        self.big = 10.0**308 ** 2
""",
    "prior": """
    @property
    def logit_prior(self):
        raise ArithmeticError("no prior")
""",
}
REASONS = {
    "weights": r"after training 2 of \d+ numbers of 'network\.\S+' are not finite",
    "statistics": r"after training 1 of \d+ numbers of 'network.*running_var' are not finite",
    "logits": r"test: the logits of 400 of 400 images are NaN, infinite or beyond 1e\+30, the first of image 0",
    "experts": r"test: expert 0: the logits of 400 of 400 images are NaN, infinite or beyond 1e\+30",
    "division": r"ZeroDivisionError: division by zero \(division.py, line 9\)",
    "silent": r"TrainingFailedError$",
    "exit": r"SystemExit: 3 \(exit.py, line 9\)",
    "overflow": r"OverflowError: .* \(overflow.py, line 10\)",
    "prior": r"ArithmeticError: no prior \(prior.py, line 10\)",
}


@pytest.fixture
def spoilt(tmp_path):
    """Make the methods of ``BODIES`` known under their names."""
    for name, body in BODIES.items():
        file = tmp_path / f"{name}.py"
        file.write_text(SPOILT.format(body=body.strip("\n")))
        registry.add_method_file(file)


@pytest.fixture
def options(tmp_path):
    return RunOptions(out=tmp_path / "runs", device="cpu")


def ignore(*told):
    pass


@pytest.mark.slow
def test_every_way_to_go_wrong_is_a_failed_run_and_the_others_go_on(spoilt, options):
    configs = [*(CE.replace(method=name) for name in BODIES), CE]
    *failed, last = sweep.run_all(configs, options, ignore)
    assert last.status == "done"
    for name, result in zip(BODIES, failed, strict=True):
        assert result.status == "failed", name
        assert result.metrics == {}
        assert re.match(REASONS[name], result.reason), result.reason
        assert read(Store(options.out).path(result.config, result.run_id)) == result
        stored = (paths.cache_dir() / "runs" / result.run_id / "test.npz").exists()
        assert stored == (name == "prior")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the taus average to inf:ltbench.errors.LtbenchWarning")
def test_settings_that_overflow_fail_with_the_step_and_the_others_go_on(options):
    configs = [
        CE.replace(lr=1e30),
        CE.replace(lr=1e300),
        RunConfig(epochs=1, hyperparameters={"taus": [1e308, 1e308]}),
        RunConfig(method="logit_adjustment_posthoc", epochs=1, hyperparameters={"tau": 1e38}),
        RunConfig(method="crt", epochs=1, lr=1e30, hyperparameters={"epochs": 1}),
        CE.replace(lr=1e30, precision="bf16"),
        CE.replace(lr=1e30, validation=True),
        CE,
    ]
    results = sweep.run_all(configs, options, ignore)
    assert [result.status for result in results] == ["failed"] * 7 + ["done"]
    reasons = [result.reason for result in results[:7]]
    step = r"the loss is (nan|inf) in epoch 1 of stage 'train', from step [1-8] on$"
    for reason in (reasons[0], reasons[2], *reasons[5:]):
        assert re.match(step, reason), reason
    assert reasons[1].startswith("RuntimeError: value cannot be converted to type float without overflow (sgd.py, line")
    assert reasons[3].startswith("test: the logits of 400 of 400 images are NaN, infinite or beyond 1e+30")
    assert re.match(r"the ce run \w{12} it starts from: the loss is ", reasons[4]), reasons[4]


def test_the_step_is_the_one_whose_loss_is_the_first_that_is_not_finite(tmp_path, options):
    file = tmp_path / "third.py"
    file.write_text(
        SPOILT.format(
            body="""
    def forward(self, batch, at):
        loss = super().forward(batch, at)
        loss.total = loss.total * (float("inf") if at.step == 2 and at.epoch == 1 else 1)
        return loss
""".strip("\n")
        )
    )
    name = registry.add_method_file(file)
    result = run(CE.replace(method=name, epochs=3), options)
    assert re.fullmatch("the loss is (nan|inf) in epoch 2 of stage 'train', from step 3 on", result.reason)


WRONG = CE.replace(method="balpoe", hyperparameters={"taus": [[0.0, 1.0, 2.0], 1.0]})
"""Of which the method finds out when it sees the data."""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.filterwarnings("ignore::ltbench.errors.LtbenchWarning")
@pytest.mark.usefixtures("forked_workers")
def test_a_run_that_is_refused_does_not_stop_the_others(options, workers):
    told = []
    with pytest.raises(LtbenchError) as caught:
        sweep.run_all([WRONG, CE.replace(lr=1e30), CE], options, lambda result, recalled: told.append(result), workers)
    assert str(caught.value).splitlines()[:2] == [
        "1 of 3 runs were refused, the others have ended",
        "balpoe, seed 0: balpoe: a tau has 3 numbers for 10 classes",
    ]
    assert sorted((result.config.method, result.status) for result in told) == [("ce", "done"), ("ce", "failed")]


def test_what_is_wrong_with_all_runs_is_said_once(options):
    with (
        pytest.warns(LtbenchWarning, match="balpoe, seed 0 is refused, the other runs go on: balpoe: a tau has 3"),
        pytest.raises(LtbenchError, match=r"^balpoe: a tau has 3 numbers for 10 classes"),
    ):
        sweep.run_all([WRONG, WRONG.replace(seed=1)], options, ignore)


@pytest.mark.slow
def test_results_that_cannot_be_saved_end_a_sweep_at_once(options, monkeypatch):
    tried = []

    def full(self, result, **options):
        tried.append(result)
        raise SaveError("cannot save: No space left on device")

    monkeypatch.setattr(Store, "save", full)
    with pytest.raises(LtbenchError, match="No space left on device"):
        sweep.run_all([CE, CE.replace(seed=1)], options, ignore)
    assert len(tried) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e31])
def test_one_logit_that_is_not_finite_is_found_and_named(value):
    logits, experts = torch.zeros(1000, 7), torch.zeros(2, 1000, 7)
    labels = torch.zeros(1000, dtype=torch.int64)
    assert Predictions(logits, experts, labels).fault() is None
    logits[997, 3] = value
    words = "the logits of 1 of 1000 images are NaN, infinite or beyond 1e+30, the first of image 997"
    assert Predictions(logits, experts, labels).fault() == words
    experts[1, 5:7, 0] = value
    found = Predictions(torch.zeros(1000, 7), experts, labels).fault()
    assert found == "expert 1: " + words.replace("of 1 of", "of 2 of").replace("997", "5")
    assert Predictions(torch.full((3, 2), 9e29), torch.zeros(1, 3, 2), labels[:3]).fault() is None


@pytest.fixture
def diverged(cli, tmp_path):
    """A run that is done, whose weights or logits in the cache are then spoilt; gives its id and its folder there."""
    assert cli("run", "--method", "ce", "--epochs", 1, "--device", "cpu").code == 0
    (path,) = tmp_path.rglob("runs/*/ce/*.json")
    folder = paths.cache_dir() / "runs" / path.stem

    def spoil(what):
        if what == "weights":
            state = torch.load(folder / "checkpoint.pt", weights_only=True)
            state["method"]["network.heads.0.weight"][0, 0] = float("nan")
            torch.save(state, folder / "checkpoint.pt")
        else:
            with np.load(folder / "test.npz") as stored:
                arrays = dict(stored)
            arrays["logits"][5, 0] = float("inf")
            np.savez(folder / "test.npz", **arrays)

    return spoil, path.stem


def refused(done, *words):
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert all(word in done.err for word in words), done.err


@pytest.mark.slow
def test_commands_refuse_weights_and_logits_that_are_not_finite(cli, diverged, tmp_path, monkeypatch):
    from PIL import Image

    spoil, name = diverged
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "image.png")
    assert cli("export", name, "--format", "safetensors", "--output", "file.safetensors").code == 0
    spoil("logits")
    refused(
        cli("evaluate", name), "the logits of 1 of 400 images are NaN, infinite or beyond 1e+30, the first of image 5"
    )
    weights = f"the weights of run {name}: 1 of 640 numbers of 'network.heads.0.weight' are not finite"
    spoil("weights")
    refused(cli("predict", name, "image.png", "--device", "cpu"), weights, "make them again: ltbench run")
    refused(cli("predict", name, "image.png", "--output", "labels.csv"), weights)
    refused(cli("export", name, "--format", "torchscript", "--output", "file.pt"), weights)
    assert not {"labels.csv", "file.pt"} & {path.name for path in tmp_path.iterdir()}
    stored = load_file(tmp_path / "file.safetensors")
    stored["method.network.heads.0.weight"][0, 0] = float("nan")
    with labelling_metadata(tmp_path / "file.safetensors") as metadata:
        save_file(stored, tmp_path / "spoilt.safetensors", metadata=metadata)
    with pytest.raises(LtbenchError, match=weights) as caught:
        ltbench.load_predictor(tmp_path / "spoilt.safetensors")
    assert "spoilt.safetensors" in str(caught.value)


def labelling_metadata(path):
    """The metadata of a file of weights, as a context."""
    from contextlib import nullcontext

    from safetensors import safe_open

    with safe_open(path, "pt") as stored:
        return nullcontext(stored.metadata())


@pytest.mark.slow
def test_finite_weights_whose_logits_overflow_label_nothing(cli, diverged, tmp_path):
    from PIL import Image

    _, name = diverged
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "image.png")
    file = paths.cache_dir() / "runs" / name / "checkpoint.pt"
    state = torch.load(file, weights_only=True)
    for key, value in state["method"].items():
        if key.endswith(("bn1.bias", "heads.0.scale")) or "downsample" in key:
            value.fill_(3e38)
    torch.save(state, file)
    refused(
        cli("predict", name, "image.png", "--output", "labels.csv"), "image.png", "are NaN, infinite or beyond 1e+30"
    )
    assert not (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize("exponent", ["1e300", "-1001", "inf", "-inf", "nan"])
def test_an_exponent_that_would_overflow_is_refused(cli, tmp_path, exponent):
    np.savez(tmp_path / "mine.npz", logits=np.zeros((400, 10), np.float32))
    done = cli("score", "mine.npz", "--name", "mine", "--dataset", "digits-lt", "--logit-prior", exponent)
    refused(done, "is no exponent" if exponent[-1].isdigit() else "is no finite number", "--logit-prior")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "-inf"])
def test_times_that_are_none_are_refused(cli, tmp_path, seconds):
    refused(cli("run", "--method", "ce", "--checkpoint-every", seconds), "--checkpoint-every")
    done = cli("watch", "--once", "--interval", seconds)
    assert (done.code, done.out) == (2, "")
    assert "interval" in done.err
    assert not list(tmp_path.rglob("*.json"))
