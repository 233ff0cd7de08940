"""Outcomes of single test images: packed and unpacked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ltbench.results.predictions import PackedPredictions


@given(
    arrays(np.int64, 17, elements=st.integers(0, 8141)),
    arrays(np.int64, 17, elements=st.integers(0, 8141)),
    arrays(np.float32, 17, elements=st.floats(0, 1, width=32)),
)
def test_what_is_packed_comes_back(labels, predicted, confidence):
    packed = PackedPredictions.model_validate_json(
        PackedPredictions.of(labels, predicted, confidence).model_dump_json()
    )
    found = packed.unpack()
    assert found[0].tolist() == labels.tolist()
    assert found[1].tolist() == predicted.tolist()
    assert np.abs(found[2] - confidence).max() < 1e-5
    assert packed.right().tolist() == (labels == predicted).tolist()


def test_ten_thousand_images_take_little_room():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 100)
    packed = PackedPredictions.of(labels, rng.integers(0, 100, 10_000), rng.random(10_000, dtype=np.float32))
    assert len(packed.model_dump_json()) < 60_000


@pytest.mark.parametrize("damage", [{"predicted": "*"}, {"predicted": "AAAA"}, {"images": 3}])
def test_damage_is_noticed(damage):
    whole = PackedPredictions.of(np.array([0, 1]), np.array([0, 0]), np.array([0.5, 1.0], np.float32))
    with pytest.raises(ValueError, match="outcomes"):
        whole.model_copy(update=damage).unpack()
