"""What an error says in a line, also where its message is empty."""

import pytest

from ltbench.errors import TrainingFailedError, first_line, unknown


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one\ntwo"), "one"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (TrainingFailedError(""), "TrainingFailedError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_first_line(error, line):
    assert first_line(error) == line


def test_an_unknown_name_stays_in_its_line():
    assert str(unknown("suite", "a\n  to do: b", ["smoke"])) == "unknown suite 'a\\n  to do: b'\n  to do: known: smoke"
