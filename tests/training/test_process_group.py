"""What processes tell each other: shares, gathering, agreeing, and the predictions of a set."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench import registry
from ltbench.conformance import Subject
from ltbench.data.images import LabelledImages
from ltbench.data.loading.in_memory import InMemoryLoader
from ltbench.evaluation.predict import predict
from ltbench.training.distributed.process_group import ALONE, Group


@settings(deadline=None)  # a busy core is slow
@given(st.integers(1, 9), st.integers(0, 70), st.integers(1, 3))
def test_shares_cover_everything_once_in_order(size, count, least):
    shares = [range(count)[Group(rank, size).local_slice(count, least)] for rank in range(size)]
    assert [thing for share in shares for thing in share] == list(range(count))
    assert all(len(share) >= least or not share for share in shares) or count < least
    taking = [len(share) for share in shares if share]
    assert not taking or max(taking) - min(taking) <= 1


@pytest.mark.slow
def test_tensors_of_unequal_length_are_gathered_and_gradients_flow_back(together):
    def work(group):
        own = torch.arange(2.0 * group.rank).view(group.rank, 2).requires_grad_()
        whole = group.gather(own)
        (whole.square().sum() * (group.rank + 1)).backward()
        return whole.detach().tolist(), own.grad.tolist()

    for rank, (whole, gradient) in enumerate(together(3, work)):
        assert whole == [[0, 1], [0, 1], [2, 3]]
        # d/dx of (1 + 2 + 3) x^2, whoever has made x
        assert gradient == [[12.0 * value for value in row] for row in [[0, 1], [2, 3]][:rank]]


def test_alone_nothing_is_done():
    tensor = torch.ones(2, 3)
    assert ALONE.gather(tensor) is tensor
    assert ALONE.any(True, False) == (True, False)
    assert ALONE.broadcast_object(lambda: 7) == 7
    assert ALONE.is_main


@pytest.mark.slow
def test_what_is_agreed_and_handed_on(together):
    def work(group):
        tensors = [torch.full((2,), group.rank + 1.0), torch.tensor([bool(group.rank)]), torch.tensor(group.rank)]
        sums = [torch.full((2, 2), group.rank + 1.0), torch.ones(1, dtype=torch.float64)]
        group.broadcast(tensors)
        group.all_reduce(sums)
        collected = torch.full((3, 1), float(group.rank))
        group.gather_to_main([collected], group.rank)
        agreed = group.any(group.rank == 1, False)
        return agreed, group.broadcast_object(lambda: {"of": group.rank}), tensors, sums, collected

    found = together(3, work)
    for agreed, handed, tensors, sums, _ in found:
        assert agreed == (True, False)
        assert handed == {"of": 0}
        assert [tensor.tolist() for tensor in tensors] == [[1.0, 1.0], [False], 0]
        assert [tensor.tolist() for tensor in sums] == [[[6.0, 6.0], [6.0, 6.0]], [3.0]]
    assert found[0][4].tolist() == [[1.0], [2.0], [2.0]]


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 300])
def test_predictions_are_those_of_one_process_bit_for_bit(count, together):
    pixels = np.random.default_rng(1).integers(0, 256, (count, 3, 8, 8)).astype(np.uint8)
    data = InMemoryLoader(LabelledImages(pixels, np.arange(count) % 4), (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
    method = Subject(registry.method("balpoe")).make()
    expected = predict(method, data)
    found, *_ = together(4, lambda group: predict(method, data, group=group))
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.experts, expected.experts)
    assert torch.equal(found.labels, expected.labels)
