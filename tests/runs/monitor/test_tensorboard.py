"""Event files, read back with TensorBoard's own reader: they hold what the results hold."""

import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.progress import silent
from ltbench.results.store import read
from ltbench.runs.options import RunOptions
from ltbench.runs.run import run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]

RUN = ("run", "--device", "cpu", "--backbone", "cifar_resnet8", "--epochs", 2)


def events(folder):
    """What the event files of one run hold: ``{tag: [(step, value), ...]}``, and TensorBoard's reader of them."""
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    tags = reader.Tags()["scalars"]
    return {tag: [(one.step, one.value) for one in reader.Scalars(tag)] for tag in tags}, reader


def results(folder):
    return [read(path) for path in sorted(folder.rglob("runs/**/*.json"))]


def folder_of(board, result):
    return board / result.config.dataset / result.config.method / result.run_id


def assert_whole(scalars, result):
    """Each epoch of the stored curve stands there once, and the figures on the test set."""
    steps = range(1, len(result.curve) + 1)
    for tag, field in {"train/loss": "loss", "train/learning rate": "lr"}.items():
        assert [step for step, _ in scalars.get(tag, [])] == list(steps)
        assert [value for _, value in scalars.get(tag, [])] == pytest.approx(
            [getattr(point, field) for point in result.curve]
        )
    for tag, field in {"test/top-1": "top1", "test/macro": "macro", "test/ECE": "ece", "test/few": "few"}.items():
        assert scalars[tag] == [(len(result.curve), pytest.approx(getattr(result.test, field)))]


def settings(reader):
    content = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: value.string_value or value.number_value for name, value in hparams.items()}


def files(board):
    return {path: path.read_bytes() for path in board.rglob("*tfevents*")}


def test_curve_figures_and_settings(cli, tmp_path):
    done = cli(*RUN, "--method", "balpoe", "--tensorboard", "board", "--set", "mixup=0.4")
    assert (done.code, done.notes) == (0, "")
    (result,) = results(tmp_path)
    scalars, reader = events(folder_of(tmp_path / "board", result))
    assert_whole(scalars, result)
    rates = scalars["train/images per second"]
    assert [step for step, _ in rates] == [1, 2]
    assert all(rate > 0 for _, rate in rates)
    found = settings(reader)
    assert {
        "method": "balpoe",
        "dataset": "digits-lt",
        "recipe": "standard",
        "taus": "0,1,2",
    }.items() <= found.items()
    assert (found["epochs"], found["seed"], found["mixup"]) == (2, 0, 0.4)


def test_it_does_not_change_the_run_and_is_made_up_for_from_what_is_stored(cli, tmp_path):
    plain = cli(*RUN, "--method", "ce")
    (result,) = results(tmp_path)
    again = cli(*RUN, "--method", "ce", "--tensorboard", "board")
    assert (plain.code, again.code) == (0, 0)
    assert "(stored, skipped; --rerun repeats it)" in again.out
    assert results(tmp_path) == [result]
    scalars, _ = events(folder_of(tmp_path / "board", result))
    assert_whole(scalars, result)
    written = files(tmp_path / "board")
    cli(*RUN, "--method", "ce", "--tensorboard", "board")
    assert files(tmp_path / "board") == written, "it was whole already"
    cli(*RUN, "--method", "ce", "--tensorboard", "board", "--rerun")
    (rerun,) = results(tmp_path)
    assert rerun.run_id == result.run_id
    assert_whole(events(folder_of(tmp_path / "board", rerun))[0], rerun)


def test_a_run_that_was_stopped_goes_on_with_its_curve(tmp_path):
    """With an epoch in the file that no checkpoint knows, and none of the epochs before."""
    config, board = RunConfig(method="ce", backbone="cifar_resnet8", epochs=4), tmp_path / "board"

    def stopping_at(end):
        def listener(update):
            if update.fraction > end:
                raise KeyboardInterrupt

        return listener

    def options(listener=silent, board=board, every=0.0):
        return RunOptions(out=tmp_path, device="cpu", tensorboard=board, checkpoint_every=every, listener=listener)

    with pytest.raises(KeyboardInterrupt):
        run(config, options(stopping_at(0.3), board=None))
    with pytest.raises(KeyboardInterrupt):
        run(config, options(stopping_at(0.8), every=1e9))
    (folder,) = board.glob("*/*/*")
    assert [step for step, _ in events(folder)[0]["train/loss"]] == [1, 2, 3]
    result = run(config, options())
    scalars, _ = events(folder)
    assert_whole(scalars, result)
    assert [step for step, _ in scalars["train/images per second"]] == [1, 2, 3, 4]


@pytest.mark.usefixtures("forked_workers")
def test_every_run_has_a_file_of_its_own_when_several_run_at_once(cli, tmp_path):
    done = cli(*RUN, "--method", "ce,logit_adjustment_posthoc", "--tensorboard", "board", "--parallel", 2)
    assert (done.code, done.notes) == (0, "")
    stored = {result.config.method: result for result in results(tmp_path)}
    assert set(stored) == {"ce", "logit_adjustment_posthoc"}
    for result in stored.values():
        assert_whole(events(folder_of(tmp_path / "board", result))[0], result)
    assert stored["logit_adjustment_posthoc"].curve == []
    assert len(files(tmp_path / "board")) == 2


def test_the_trials_of_a_search(cli, tmp_path):
    done = cli("tune", "--method", "ce", "--epochs", 1, "--trials", 1, "--device", "cpu", "--tensorboard", "board")
    assert done.code == 0
    (path,) = tmp_path.rglob("runs/**/*.json")
    result = read(path)
    scalars, _ = events(folder_of(tmp_path / "board", result))
    assert scalars["validation/macro"] == [(1, pytest.approx(result.metrics["validation"].macro))]
    assert not any(tag.startswith("test/") for tag in scalars)


@pytest.mark.parametrize("command", ["run", "tune"])
def test_without_the_package_nothing_starts(cli, tmp_path, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    done = cli(command, "--method", "ce", "--tensorboard", "board")
    assert (done.code, done.out) == (2, "")
    assert done.notes.startswith("ltbench: TensorBoard is not installed\n  where: --tensorboard\n  to do: ")
    assert "ltbench[tensorboard]" in done.err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_found_before_training(tmp_path):
    (tmp_path / "file").touch()
    steps = []
    options = RunOptions(out=tmp_path / "out", device="cpu", tensorboard=tmp_path / "file", listener=steps.append)
    with pytest.raises(LtbenchError, match="training curves cannot be saved"):
        run(RunConfig(method="ce", backbone="cifar_resnet8", epochs=1), options)
    assert not steps
