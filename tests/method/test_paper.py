"""What is said about where a method comes from."""

import pytest

from ltbench import registry
from ltbench.method.paper import Paper

TITLE = "Balanced Product of Calibrated Experts"


def test_bibtex_has_the_first_author_as_key():
    paper = Paper(TITLE, "Emanuel Sanchez Aimar and Arvi Jonnarth", "A Conference", 2023)
    assert paper.bibtex == (
        "@inproceedings{aimar2023,\n"
        "  title = {Balanced Product of Calibrated Experts},\n"
        "  author = {Emanuel Sanchez Aimar and Arvi Jonnarth},\n"
        "  booktitle = {A Conference},\n"
        "  year = {2023}\n}"
    )


def test_a_journal_is_no_conference():
    entry = Paper(TITLE, "Li-Wei O'Brien", "IEEE Transactions on Pattern Analysis", 2024).bibtex
    assert entry.startswith("@article{obrien2024,")
    assert "  journal = {IEEE Transactions on Pattern Analysis}," in entry


@pytest.mark.parametrize("name", registry.method_names())
def test_the_braces_of_every_methods_entry_match(name):
    paper = registry.method(name).paper
    if paper is not None:
        assert paper.bibtex.count("{") == paper.bibtex.count("}") == 5
