"""The published figures and the words made of them."""

import pytest

from ltbench.errors import LtbenchError
from ltbench.report.published import headlines, published, reported_numbers


def test_headlines_are_accuracies_from_the_lowest_to_the_highest():
    # ImageNet-LT, BCL: 56.0 with ResNet-50; 57.1 (a comparison) and 57.2 (the authors) with ResNeXt-50.
    claims = [
        "BCL|CIFAR-100-LT|100|ResNet-32|400",
        "BCL|ImageNet-LT|256|ResNet-50|not stated",
        "BCL|ImageNet-LT|256|ResNeXt-50-32x4d|not stated",
        "BCL (sim-sim views)|ImageNet-LT|256|ResNeXt-50-32x4d|90",
        "BCL|iNaturalist-2018|500|ResNet-50|not stated",
    ]
    assert headlines(claims) == [
        "CIFAR-100-LT IR 100: 53.9 (ResNet-32)",
        "ImageNet-LT IR 256: 56 (ResNet-50), 57.1 to 57.2 (ResNeXt-50-32x4d)",
    ]
    assert headlines([]) == []


def test_a_claim_is_the_beginning_of_a_key_column_by_column():
    claim = "BalPoE (calibrated)|CIFAR-100-LT|100|ResNet-32|standard (200)"
    assert set(reported_numbers(claim)["metric"]) >= {"acc", "ECE_percent", "MCE_percent"}
    assert reported_numbers(f"{claim}|acc|all")["value"].tolist() == ["52.0"]
    assert not len(reported_numbers(claim[:-1]))
    with pytest.raises(LtbenchError, match="unknown published figure"):
        headlines(["RIDE repo|x"])


def test_every_figure_has_a_source_and_a_value():
    table = published()
    assert len(table) == 1067
    assert (table["source"].str.len() > 5).all()
    assert table["value"].astype(float).notna().all()
