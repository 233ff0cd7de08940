"""The published figures and the words made of them."""

import pytest

from ltbench import registry
from ltbench.errors import LtbenchError
from ltbench.report.published import claims, published


@pytest.mark.parametrize("name", registry.method_names())
def test_every_claim_of_a_method_is_in_the_table(name):
    paper = registry.method(name).paper
    claimed = claims(paper.claims) if paper else []
    assert bool(claimed) == bool(paper and paper.claims)
    assert all(any(digit.isdigit() for digit in line) for line in claimed)


def test_figures_in_words():
    keys = [
        f"BalPoE (calibrated)|CIFAR-100-LT|100|ResNet-32|standard (200)|{metric}|all"
        for metric in ("acc", "ECE_percent")
    ]
    assert claims(keys) == [
        "BalPoE (calibrated), CIFAR-100-LT, IR 100, ResNet-32, standard (200): accuracy 52.0, ECE 4.9 or 4.1"
    ]
    key = "RIDE repo|x"
    with pytest.raises(LtbenchError, match="unknown published figure"):
        claims([key])


def test_every_figure_has_a_source_and_a_value():
    table = published()
    assert len(table) == 973
    assert (table["source"].str.len() > 5).all()
    assert table["value"].astype(float).notna().all()
