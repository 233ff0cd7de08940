"""Settings as text."""

import json

import pytest

from ltbench.cli.options import hyperparameters
from ltbench.config.format_settings import flatten, format_imbalance_ratio, format_settings, format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4, "0.4"),
        (1.0, "1"),
        (128, "128"),
        (1 / 3, "0.333333"),
        (1e-7, "1e-07"),
        (True, "true"),
        (None, "none"),
        ("cosine", "cosine"),
        ([0.0, 1.0, 2.5], "0,1,2.5"),
        ((0.2, 1), "0.2,1"),
        ([1], "[1]"),
        ([], "[]"),
        ([[1.0, 0.5], 1.0], "[[1.0,0.5],1.0]"),
        ({"flip": True}, '{"flip": true}'),
    ],
)
def test_a_value_reads_as_it_is_set(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize(
    "value", [0.1 + 0.2, 1.0, 1e-7, -0.5, True, False, None, 3, [1], [0.5, 1 / 3], [[0.0] * 3, [1.25]], "linear"]
)
def test_an_exact_value_is_read_back_by_set(value):
    assert hyperparameters([f"x={format_value(value, exact=True)}"]) == {"x": value}


def test_settings_are_names_and_values():
    assert format_settings({"taus": [0, 1, 2], "mixup": 0.4}) == "taus=0,1,2, mixup=0.4"
    assert format_settings({}) == ""


@pytest.mark.parametrize(
    ("ratio", "text"), [(100.0, "IR 100"), (2.5, "IR 2.5"), (None, "as it is"), (float("nan"), "as it is")]
)
def test_data_with_its_own_class_counts_has_no_imbalance_ratio(ratio, text):
    assert format_imbalance_ratio(ratio) == text


def test_nested_settings_become_one_level():
    assert flatten({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {"a.b.c": 1, "a.d": json.dumps([1, 2]), "e": None}
