"""Heartbeats: what they say, and when they are there."""

import json
import multiprocessing
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from ltbench.config import RunConfig
from ltbench.errors import TrainingFailedError
from ltbench.files import paths
from ltbench.runs.monitor import heartbeat
from ltbench.runs.monitor.heartbeat import Heartbeat, HeartbeatWriter
from ltbench.runs.monitor.jobs import RunIndex
from ltbench.runs.options import RunOptions
from ltbench.runs.run import record_failure, run
from ltbench.training.history import EpochRecord, History

pytestmark = pytest.mark.usefixtures("small_network")

RUN = RunConfig(method="ce", backbone="cifar_resnet8", epochs=2)  # 8 steps an epoch


@pytest.fixture
def heart(tmp_path):
    return HeartbeatWriter(tmp_path / "abc" / heartbeat.FILE, "abc", RUN, tmp_path / "out")


def last(heart):
    return Heartbeat.model_validate_json(heart.path.read_bytes())


def files():
    return list(paths.cache_dir().rglob(heartbeat.FILE))


def jobs(folder):
    return RunIndex(paths.cache_dir(), [folder]).look()


def test_it_says_what_is_under_way_and_how_far(heart, tmp_path):
    history = History([EpochRecord("train", 0, 0.1, 2.5)], 1.0, 64)
    before = datetime.now(UTC)
    heart.write(0.25, "train, epoch 1/2", history)
    beat = last(heart)
    assert (beat.run_id, beat.config, beat.folder) == ("abc", RUN, tmp_path / "out")
    assert (beat.fraction, beat.words, beat.loss) == (0.25, "train, epoch 1/2", 2.5)
    assert (beat.process, beat.began_at, beat.images_per_second) == (os.getpid(), 0.25, None)
    assert before <= beat.began <= beat.seen <= datetime.now(UTC)


def test_it_is_written_once_a_second_at_most(heart, monkeypatch):
    history = History(images=64)
    heart.write(0.1, "train", history)
    heart.write(0.2, "train", history)
    assert last(heart).fraction == 0.1
    monkeypatch.setattr(heartbeat, "HEARTBEAT_INTERVAL", 0.0)
    heart._due = 0.0
    history.images += 640
    heart.write(0.3, "train", history)
    beat = last(heart)
    assert (beat.fraction, beat.began_at) == (0.3, 0.1)
    assert beat.images_per_second == pytest.approx(640 / (beat.seen - beat.began).total_seconds())


def test_the_end_of_training_is_written_at_once(heart):
    heart.write(0.99, "train", History())
    heart.write(1.0, "evaluation", History())
    assert last(heart).words == "evaluation"


def test_it_is_removed_when_the_run_ends_and_stays_with_the_latest_when_it_is_stopped(heart):
    with heart:
        heart.write(0.1, "train", History())
    assert not heart.path.exists()
    with pytest.raises(KeyboardInterrupt), heart:
        heart.write(0.2, "train", History())
        heart.write(0.3, "train", History())
        raise KeyboardInterrupt
    assert last(heart).fraction == 0.3


def test_where_it_cannot_be_written_training_goes_on(tmp_path):
    (tmp_path / "file").touch()
    with HeartbeatWriter(tmp_path / "file" / heartbeat.FILE, "abc", RUN, tmp_path) as heart:
        heart.write(0.1, "train", History())


def test_the_time_that_is_left(heart):
    heart.write(0.2, "train", History())
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    beat = last(heart).model_copy(update={"began": noon, "seen": noon + timedelta(seconds=60), "fraction": 0.5})
    # .3 in 60 s, so the other .5 in 100 s, of which 10 are over
    assert beat.seconds_left(noon + timedelta(seconds=70)) == pytest.approx(90)
    assert beat.seconds_left(noon + timedelta(seconds=999)) == 0
    assert last(heart).seconds_left(noon) is None


@pytest.mark.slow
def test_a_run_has_one_while_it_trains_and_none_afterwards(tmp_path):
    seen = []

    def listener(update):
        if not seen and files():
            seen.append(json.loads(files()[0].read_text()))

    result = run(RUN, RunOptions(out=tmp_path / "out", device="cpu", listener=listener))
    (beat,) = seen
    assert (beat["run_id"], beat["words"], beat["share"]) == (result.run_id, "train, epoch 1/2", 1 / 16)
    assert beat["folder"] == str(tmp_path / "out")
    assert not files()
    assert [one.run_id for one in jobs(tmp_path / "out").done] == [result.run_id]


@pytest.mark.slow
@pytest.mark.parametrize(("every", "saved"), [(0.0, True), (1e9, False)])
def test_a_run_that_is_stopped_waits_and_one_that_went_on_is_done(tmp_path, every, saved):
    def listener(update):
        if update.fraction > 0.5:
            raise KeyboardInterrupt

    options = RunOptions(out=tmp_path / "out", device="cpu", checkpoint_every=every)
    with pytest.raises(KeyboardInterrupt):
        run(RUN, RunOptions(out=tmp_path / "out", device="cpu", checkpoint_every=every, listener=listener))
    (stopped,) = jobs(tmp_path / "out").interrupted
    assert (stopped.fraction, stopped.saved) == (8 / 16, saved), "the step that was stopped had not beaten yet"
    run(RUN, options)
    after = jobs(tmp_path / "out")
    assert (len(after.interrupted), len(after.done)) == (0, 1)


def train_slowly(out):
    slowly = RunOptions(out=out, device="cpu", checkpoint_every=0, listener=lambda update: time.sleep(0.2))
    run(RUN, slowly)


@pytest.mark.slow
def test_a_run_whose_process_is_killed_waits_to_go_on(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=train_slowly, args=(tmp_path / "out",))
    process.start()
    end = time.monotonic() + 60
    while not (jobs(tmp_path / "out").running and list(paths.cache_dir().rglob("checkpoint.pt"))):
        assert time.monotonic() < end
        time.sleep(0.05)
    (beat,) = jobs(tmp_path / "out").running
    assert (beat.process, beat.config.method) == (process.pid, "ce")
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    now = jobs(tmp_path / "out")
    assert (now.running, [one.saved for one in now.interrupted]) == ([], [True])
    result = record_failure(RUN, RunOptions(out=tmp_path / "out", device="cpu"), "its process was killed")
    now = jobs(tmp_path / "out")
    assert [(one.run_id, one.reason) for one in now.failed] == [(result.run_id, "its process was killed")]
    assert not now.interrupted


def test_a_run_that_fails_has_none(tmp_path):
    def listener(update):
        raise TrainingFailedError("the loss is nan")

    result = run(RUN, RunOptions(out=tmp_path / "out", device="cpu", listener=listener))
    assert result.status == "failed"
    assert not files()
