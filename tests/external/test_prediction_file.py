"""Training counts in files of several kinds."""

import pytest

from ltbench.errors import LtbenchError
from ltbench.external.prediction_file import read_counts


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("counts.txt", "30\n4\n1\n", ["0", "1", "2"]),
        ("counts.txt", "30\n\n4\n1", ["0", "1", "2"]),
        ("counts.csv", "images\n30\n4\n1\n", ["0", "1", "2"]),
        ("counts.csv", "label,images\n0,30\n1,4\n2,1\n", ["0", "1", "2"]),
        ("counts.csv", '"ant, red", 30\nbee, 4\ncow, 1\n', ["ant, red", "bee", "cow"]),
        ("counts.json", "[30, 4, 1]", ["0", "1", "2"]),
        ("counts.json", '{"ant": 30, "bee": 4, "cow": 1}', ["ant", "bee", "cow"]),
    ],
)
def test_one_count_a_class(tmp_path, name, text, classes):
    (tmp_path / name).write_text(text)
    names, counts = read_counts(tmp_path / name)
    assert (names, counts.tolist()) == (classes, [30, 4, 1])


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("counts.txt", "", "two classes"),
        ("counts.txt", "30\n", "two classes"),
        ("counts.txt", "30\n0\n", "an image of each"),
        ("counts.txt", "30\n-4\n", "an image of each"),
        ("counts.txt", "30\n4.5\n", "not one count per class"),
        ("counts.txt", "30\nmany\n", "not one count per class"),
        ("counts.csv", "2,30\n0,4\n1,1\n", "the count of class 2 stands in place 0"),
        ("counts.json", "{", "not one count per class"),
        ("counts.json", "30", "not one count per class"),
        ("counts.json", "[30, 4.5]", "not one count per class"),
        ("counts.json", "[30, [4]]", "not one count per class"),
        ("counts.txt", "30\n99999999999999999999\n", "not one count per class"),
    ],
)
def test_anything_else_is_refused(tmp_path, name, text, part):
    (tmp_path / name).write_text(text)
    with pytest.raises(LtbenchError) as caught:
        read_counts(tmp_path / name)
    assert part in str(caught.value)
    assert name in str(caught.value)
