"""Processes that train together, on this machine."""

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ltbench.training.distributed.process_group import Group


@pytest.fixture(scope="session")
def together(tmp_path_factory) -> Callable[..., list[Any]]:
    """Call a function in each of several processes, with its ``Group``; gives what they return, by rank.

    ``together(size, work)``; a process that dies gives None. They are forked, so that they need not import torch.
    """

    def call(size: int, work: Callable[[Group], Any]) -> list[Any]:
        meeting = tmp_path_factory.mktemp("meeting") / "place"
        context = multiprocessing.get_context("fork")
        pipes, processes = [], []
        for rank in range(size):
            ours, theirs = context.Pipe(duplex=False)
            processes.append(context.Process(target=_live, args=(meeting, rank, size, work, theirs)))
            processes[-1].start()
            theirs.close()
            pipes.append(ours)
        found = [_received(pipe) for pipe in pipes]
        for process in processes:
            process.join()
        for one in found:
            if isinstance(one, _Failed):
                raise AssertionError(one.text)
        return found

    return call


class _Failed:
    def __init__(self, text: str) -> None:
        self.text = text


def _received(pipe: Any) -> Any:
    try:
        return pickle.loads(pipe.recv_bytes())
    except EOFError:
        return None


def _live(meeting: Any, rank: int, size: int, work: Callable[[Group], Any], pipe: Any) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        found = work(Group(rank, size))
    except BaseException:
        found = _Failed(traceback.format_exc())
    pipe.send_bytes(pickle.dumps(found))  # whole: tensors would wait in memory of a process that ends
