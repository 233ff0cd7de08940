"""A lock file: one process at a time, and none for good."""

import subprocess
import sys
import threading
import time

import pytest

from ltbench import lock
from ltbench.errors import LtbenchError, LtbenchWarning

HOLDER = """
import sys, time
from pathlib import Path
from ltbench.lock import exclusive

with exclusive(Path(sys.argv[1]), "the run"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A lock file in the hands of another process."""
    path = tmp_path / "runs" / "abc" / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


def test_a_second_process_says_that_it_waits_and_gets_the_lock_when_the_first_dies(held):
    path, process = held
    kill = threading.Timer(2 * lock.PATIENCE, process.kill)
    kill.start()
    began = time.monotonic()
    with (
        pytest.warns(LtbenchWarning, match="^the run is under way in another process; waiting for it to end$"),
        lock.exclusive(path, "the run"),
    ):
        assert time.monotonic() - began > lock.PATIENCE
        kill.join()
    with lock.exclusive(path, "the run"):
        pass


def test_a_thread_waits_as_well(tmp_path):
    order = []

    def other():
        with lock.exclusive(tmp_path / "lock", "the run"):
            order.append("other")

    thread = threading.Thread(target=other)
    with lock.exclusive(tmp_path / "lock", "the run"):
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_who_has_it_may_ask_again(tmp_path):
    with lock.exclusive(tmp_path / "lock", "the run"), lock.exclusive(tmp_path / "lock", "the run"):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LtbenchError, match="cannot save: ") as caught, lock.exclusive(tmp_path / "file" / "lock", "it"):
        pass
    assert f"where: {tmp_path / 'file'}" in str(caught.value)


def test_whether_somebody_holds_it(held, tmp_path):
    assert lock.held(held[0])
    assert not lock.held(tmp_path / "no lock")
    mine = tmp_path / "mine"
    with lock.exclusive(mine, "the run"):
        assert lock.held(mine)
    assert not lock.held(mine)
