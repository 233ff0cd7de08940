"""Whose images share batch norm's statistics."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ltbench.method import Batch
from ltbench.train.batch_norm import images_together, synchronise
from ltbench.train.distributed import ALONE, Group
from ltbench.train.step import part, pieces


def norm(group, synchronised):
    network = nn.BatchNorm1d(1)
    if synchronised:
        synchronise(network, group)
    return network


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_as_many_images_share_statistics_as_in_the_smallest_pass(processes, accumulate, more, synchronised):
    size = 2 * processes * accumulate + more
    batch = Batch((torch.zeros(size, 1),), torch.arange(size), torch.zeros(size))
    shares = [part(batch, Group(rank, processes).share(size, least=2)) for rank in range(processes)]
    passes = zip(*([len(piece.labels) for piece in pieces(share, accumulate)] for share in shares), strict=True)
    smallest = min(map(sum if synchronised else min, passes))
    group = Group(0, processes)
    assert images_together(norm(group, synchronised), size, group, accumulate) == smallest


@pytest.mark.parametrize(
    ("size", "processes", "accumulate", "images"),
    [
        (64, 4, 3, 20),  # 5, 5 and 6 of each process's 16
        (128, 8, 5, 24),  # 3, 3, 3, 3 and 4 of 16
        (64, 6, 1, 64),
    ],
)
def test_synchronised_parts_of_unequal_size(size, processes, accumulate, images):
    group = Group(0, processes)
    assert images_together(norm(group, True), size, group, accumulate) == images


def test_without_batch_norm_there_is_no_number():
    assert images_together(nn.GroupNorm(1, 1), 64, ALONE, 1) is None
