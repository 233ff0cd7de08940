"""The published networks as their authors save them."""

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
