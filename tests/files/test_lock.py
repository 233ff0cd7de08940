"""A lock file: one process at a time, and none for good."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.files import lock

HOLDER = """
import sys, time
from pathlib import Path
from ltbench.files.lock import exclusive

with exclusive(Path(sys.argv[1]), "the run"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "MESSAGE_AFTER", 0.4)


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
    kill = threading.Timer(2 * lock.MESSAGE_AFTER, process.kill)
    kill.start()
    began = time.monotonic()
    with (
        pytest.warns(LtbenchWarning, match="^the run is under way in another process; waiting for it to end$"),
        lock.exclusive(path, "the run"),
    ):
        assert time.monotonic() - began > lock.MESSAGE_AFTER
        kill.join()
    with lock.exclusive(path, "the run"):
        pass


def test_who_does_not_wait_is_told_who_has_it(held):
    path, process = held
    with (
        pytest.raises(LtbenchError, match=r"^the run is under way in another process\n") as caught,
        lock.exclusive(path, "the run", wait=False, hint="come back later"),
    ):
        pass
    where = f"  where: {path}: held by process {process.pid} on {socket.gethostname()} since 20"
    assert where in str(caught.value)
    assert "  to do: come back later" in str(caught.value)
    process.kill()
    process.wait()
    with lock.exclusive(path, "the run", wait=False):  # what is in the file is of a process that is gone
        assert f"held by process {os.getpid()} on " in path.read_text()


@pytest.mark.parametrize("content", [b"", b"something else", b"held by process \x1b[31m7", b"\xff\xfe"])
def test_a_holder_that_has_left_no_name_has_none(held, content):
    path, _ = held
    path.write_bytes(content)
    with (
        pytest.raises(LtbenchError, match="held by an unknown process"),
        lock.exclusive(path, "the run", wait=False),
    ):
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
    assert lock.is_held(held[0])
    assert not lock.is_held(tmp_path / "no lock")
    mine = tmp_path / "mine"
    with lock.exclusive(mine, "the run"):
        assert lock.is_held(mine)
    assert not lock.is_held(mine)


def test_nobody_waits_for_a_pipe_in_the_place_of_a_lock_file(tmp_path):
    os.mkfifo(tmp_path / "lock")
    with lock.exclusive(tmp_path / "lock", "work"):
        assert (tmp_path / "lock").is_fifo()
