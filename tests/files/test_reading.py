"""Small files of the user, which are not read without end."""

import os
from pathlib import Path

import pytest

from ltbench.errors import LtbenchError
from ltbench.files.reading import read_small, read_text


def test_what_the_shell_has_opened_is_read():
    """As ``--config <(...)`` has it."""
    reader, writer = os.pipe()
    os.write(writer, b"epochs = 1\n")
    os.close(writer)
    try:
        assert read_text(Path(f"/dev/fd/{reader}")) == "epochs = 1\n"
    finally:
        os.close(reader)


def test_what_is_too_large_or_has_no_end_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_small(tmp_path / "file", largest=5) == b"12345"
    with pytest.raises(LtbenchError, match="over 4 bytes"):
        read_small(tmp_path / "file", largest=4)
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(LtbenchError, match="a device or a pipe"):
            read_small(path)


def test_what_to_do_about_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(LtbenchError, match=r"(?s)No such file.*to do: check its name"):
        read_small(tmp_path / "none")
    with pytest.raises(LtbenchError, match=r"(?s)Is a directory.*to do: name a file"):
        read_small(tmp_path)
