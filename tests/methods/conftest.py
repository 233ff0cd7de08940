"""Methods on a network whose outputs are given, as fixtures."""

from collections.abc import Callable

import pytest

from ltbench.method import Batch, Method
from tests import fixed_logits


@pytest.fixture
def method_with_logits() -> Callable[..., Method]:
    """``method_with_logits(name, logits (M, B, C), class_counts, **hyperparameters)``: a registered method."""
    return fixed_logits.method_with_logits


@pytest.fixture
def batch_of() -> Callable[..., Batch]:
    """``batch_of(targets)``: a batch with these labels and no images to speak of."""
    return fixed_logits.batch_of
