"""Work in a second process while this one goes on."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeVar

Value = TypeVar("Value")


@contextmanager
def in_background(function: Callable[[], Value]) -> Iterator[Callable[[], Value]]:
    """Call a function in a copy of this process, which has all that this one holds; only its value is sent back.

    Where there is no second core, or a copy is not safe, not allowed or was killed (e.g. for lack of memory), the
    function is called in this process when its value is asked for.

    Args:
        function: without arguments.

    Yields:
        a function that waits for the value, and raises what the function raised.
    """
    if not _can_copy():
        yield function
        return
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function), daemon=True)
    try:
        process.start()
    except OSError:  # no more processes, or no memory
        yield function
        return
    sender.close()  # so that the end of the copy is the end of the pipe

    def value() -> Value:
        try:
            done, found = receiver.recv()
        except EOFError:
            return function()
        if not done:
            raise found
        return found  # type: ignore[no-any-return]

    try:
        yield value
    finally:
        process.terminate()
        process.join()
        receiver.close()


@contextmanager
def shared_numbers() -> Iterator[Iterator[int]]:
    """The numbers 0 to 255 for this process and copies of it: each number is for the process that asks first."""
    reader, writer = os.pipe()  # needs no file and no lock: a byte is read once
    os.write(writer, bytes(range(256)))
    os.close(writer)
    try:
        yield (os.read(reader, 1)[0] for _ in range(256))
    finally:
        os.close(reader)


def _can_copy() -> bool:
    if sys.platform != "linux" or multiprocessing.current_process().daemon:  # which may have no children
        return False
    return len(os.sched_getaffinity(0)) > 1


def _send(sender: Connection, function: Callable[[], Value]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one, by SIGTERM and in silence
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        answer: tuple[bool, object] = (True, function())
    except Exception as error:
        answer = (False, error)
    sender.send(answer)
