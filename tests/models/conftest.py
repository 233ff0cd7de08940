"""The published networks as their authors save them, and a way to build large ones."""

import numpy as np
import pytest
import torch


@pytest.fixture
def published_state():
    """The state dictionary of a golden case, by published names."""

    def state(case):
        return {
            name.removeprefix("state/"): torch.from_numpy(np.array(value))
            for name, value in case.items()
            if name.startswith("state/")
        }

    return state


@pytest.fixture
def quickly(monkeypatch):
    """Build networks without a draw for each initial weight, which takes longer than all else.

    What ltbench itself draws for its check of the division has a generator, and is drawn.
    """

    def constant(draw):
        def filled(weight, *args, generator=None, **options):
            return draw(weight, *args, generator=generator, **options) if generator else weight.fill_(0.01)

        return filled

    def built(build):
        with monkeypatch.context() as patch:
            for name in ("normal_", "uniform_"):
                patch.setattr(torch.Tensor, name, constant(getattr(torch.Tensor, name)))
            return build()

    return built
