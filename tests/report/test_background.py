"""Work in a second process."""

import itertools
import multiprocessing
import os
import signal
import time
from functools import partial

import pytest

from ltbench.errors import LtbenchError
from ltbench.report import background
from ltbench.report.background import in_background, shared_numbers

pytestmark = pytest.mark.skipif(not background._can_copy(), reason="needs a second core, and Linux")


def test_the_value_comes_from_a_copy_of_this_process():
    held = ["of this process"]
    with in_background(lambda: (os.getpid(), held)) as value:
        held.append("later")
        process, seen = value()
    assert process != os.getpid()
    assert seen == ["of this process"]


def test_what_it_raises_is_raised_here():
    def fail():
        raise LtbenchError("no such thing", where="there", hint="look elsewhere")

    with (
        in_background(fail) as value,
        pytest.raises(LtbenchError, match=r"no such thing\n  where: there\n  to do: look"),
    ):
        value()


def test_one_that_is_killed_is_made_up_for_here():
    here = os.getpid()

    def work():
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return "worked out here"

    with in_background(work) as value:
        assert value() == "worked out here"


def test_one_whose_value_nobody_wants_is_ended(tmp_path, capfd):
    def work():
        (tmp_path / "begun").touch()
        time.sleep(60)
        (tmp_path / "done").touch()

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), in_background(work):
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 30
    assert not (tmp_path / "done").exists()
    assert capfd.readouterr().err == ""


def test_without_a_second_core_it_is_called_when_its_value_is_asked_for(monkeypatch):
    monkeypatch.setattr(background, "_can_copy", lambda: False)
    with in_background(os.getpid) as value:
        assert value() == os.getpid()


def test_where_no_process_can_be_started_it_is_called_here(monkeypatch):
    def refuse(self):
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.get_context("fork").Process, "start", refuse)
    with in_background(os.getpid) as value:
        assert value() == os.getpid()


def test_a_process_in_the_background_starts_no_other():
    def outer():
        with in_background(os.getpid) as value:
            return os.getpid(), value()

    with in_background(outer) as value:
        one, other = value()
    assert one == other != os.getpid()


def test_processes_share_out_numbers():
    def take(numbers):
        taken = []
        for number in itertools.takewhile(lambda number: number < 200, numbers):
            taken.append(number)
            time.sleep(0.005)  # the copy takes a moment to begin
        return taken

    with shared_numbers() as numbers, in_background(partial(take, numbers)) as others:
        mine = take(numbers)
        theirs = others()
    assert mine and theirs
    assert sorted(mine + theirs) == list(range(200))
