"""Whose images share batch norm's statistics."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ltbench.errors import LtbenchError
from ltbench.method import Batch
from ltbench.training.distributed.batch_norm import images_per_norm, sync_batch_norm, sync_group_size_for
from ltbench.training.distributed.process_group import ALONE, Group
from ltbench.training.micro_batches import micro_batches, select


def norm(group, synchronised):
    network = nn.BatchNorm1d(1)
    if synchronised:
        sync_batch_norm(network, group, None if synchronised is True else synchronised)
    return network


@settings(deadline=None)  # a busy core is slow
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_as_many_images_share_statistics_as_in_the_smallest_pass(processes, accumulate, more, synchronised):
    size = 2 * processes * accumulate + more
    batch = Batch((torch.zeros(size, 1),), torch.arange(size), torch.zeros(size))
    shares = [select(batch, Group(rank, processes).local_slice(size, least=2)) for rank in range(processes)]
    passes = zip(*([len(piece.labels) for piece in micro_batches(share, accumulate)] for share in shares), strict=True)
    smallest = min(map(sum if synchronised else min, passes))
    group = Group(0, processes)
    assert images_per_norm(norm(group, synchronised), size, group, accumulate) == smallest


@settings(deadline=None)  # a busy core is slow
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 40), st.integers(2, 99))
def test_a_number_of_images_is_kept_or_refused(processes, accumulate, more, images):
    size, group = 2 * processes * accumulate + more, Group(0, processes)
    try:
        together = sync_group_size_for(images, size, group, accumulate)
    except LtbenchError as error:
        assert f"images, not {images}" in str(error)
        everything = (norm(group, together) for together in range(1, processes + 1) if not processes % together)
        assert images not in [images_per_norm(one, size, group, accumulate) for one in everything]
    else:
        assert images_per_norm(norm(group, together), size, group, accumulate) == images


@pytest.mark.parametrize(
    ("images", "processes", "accumulate", "together"),
    [(64, 1, 1, 1), (32, 1, 2, 1), (64, 4, 1, 4), (32, 4, 1, 2), (16, 4, 1, 1), (16, 4, 2, 2), (10, 6, 1, 1)],
)
def test_processes_that_share_the_statistics_of_a_batch_of_64(images, processes, accumulate, together):
    assert sync_group_size_for(images, 64, Group(0, processes), accumulate) == together


def test_what_is_possible_is_said():
    with pytest.raises(LtbenchError, match="norm over 16 or 32 or 64 images, not 8") as caught:
        sync_group_size_for(8, 64, Group(0, 4), 1)
    assert "one process and --accumulate 8" in str(caught.value)
    with pytest.raises(LtbenchError, match="norm over 64 images, not 48") as caught:
        sync_group_size_for(48, 64, ALONE, 1)
    assert "--accumulate" not in str(caught.value).splitlines()[-1]


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
    assert images_per_norm(norm(group, True), size, group, accumulate) == images


def test_without_batch_norm_there_is_no_number():
    assert images_per_norm(nn.GroupNorm(1, 1), 64, ALONE, 1) is None
