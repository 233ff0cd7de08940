"""Closed and full outputs, encodings, folders that are not there, and errors that ltbench did not expect."""

import io
import os
import subprocess
import sys
from contextlib import suppress

import pytest

from ltbench.cli import listing, main
from ltbench.cli.error_message import TRACEBACK
from ltbench.errors import LtbenchError
from ltbench.results.store import Store


def shell(command, **environment):
    """What a shell makes of a command with ``ltbench`` in it: exit code, standard output and error."""
    text = command.replace("ltbench ", f"{sys.executable} -m ltbench ")
    done = subprocess.run(["bash", "-c", text], capture_output=True, env={**os.environ, **environment}, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("ltbench run --help >&-", 0, ""),
        ("ltbench run --help 2>&- | cat", 0, ""),
        ("ltbench run --hepl >&- 2>&-", 2, ""),
        ("ltbench run --help | true", 0, ""),
        ("ltbench run --help > /dev/full", 2, "No space left on device"),
        ("mkdir gone; cd gone; rmdir ../gone; ltbench doctor", 2, "the current folder has been removed"),
    ],
)
def test_outputs_that_are_closed_or_full(tmp_path, monkeypatch, command, code, said):
    monkeypatch.chdir(tmp_path)
    returned, _, err = shell(command)
    assert returned == code
    assert said in err
    assert len(err.splitlines()) <= 2
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_a_closed_standard_output_is_no_file_that_is_opened_later(tmp_path, monkeypatch):
    """A library that prints to file descriptor 1 must not print into a result."""
    monkeypatch.chdir(tmp_path)
    program = (
        "import os; from ltbench.cli.streams import prepare_streams; prepare_streams(); f = open('kept', 'w'); "
        "os.write(1, b'printed'); print('said'); f.close()"
    )
    assert subprocess.run(["bash", "-c", f'{sys.executable} -c "{program}" >&-']).returncode == 0
    assert (tmp_path / "kept").read_text() == ""


@pytest.mark.parametrize("command", ["show {0}", "report", "watch"])
def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path, monkeypatch, capsys, make_result, command):
    """As with ``ltbench show RUN | head -1``."""
    monkeypatch.chdir(tmp_path)
    result = make_result("ce", 0)
    Store(tmp_path / "runs").save(result)
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "argv", ["ltbench", *command.format(result.run_id).split()])
    with suppress(BrokenPipeError), os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "report --format md", "report --parts all", "watch", "evaluate --all"])
def test_an_ascii_terminal_gets_every_table(tmp_path, monkeypatch, make_result, command):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        for method in ("ce", "balpoe"):
            Store(tmp_path / "runs").save(make_result(method, seed, top1=50.0 + seed + 20 * (method == "ce")))
    monkeypatch.setattr(sys, "argv", ["ltbench", *command.split()])
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, 2 if command.startswith("evaluate") else 0)  # whose logits are not there
    text = raw.getvalue().decode("ascii")
    assert "\\u25" not in text, "lines of tables have signs like them"
    assert text.strip() or ended.value.code == 2


def test_a_name_that_is_not_utf_8_is_printed_as_an_escape(cli, tmp_path):
    done = cli("report", "--results", "r\udcff")
    assert done.code == 2
    assert "r\\udcff" in done.err


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_cache_that_is_a_file_is_named(cli, tmp_path, monkeypatch, where):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / where))
    done = cli("run", "--method", "ce", "--epochs", 1, "--device", "cpu")
    assert done.code == 2
    assert "Not a directory" in done.err or "File exists" in done.err
    assert str(tmp_path / "file") in done.err
    assert "LTBENCH_CACHE" in done.err


def fails(error):
    def fail(*args):
        raise error

    return fail


def test_an_error_that_is_not_expected_is_one_message_and_its_traceback_is_kept(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "entries", fails(ZeroDivisionError("odd")))
    done = cli("list", "recipes")
    assert (done.code, done.out) == (1, "")
    assert "an unexpected error, probably a bug in ltbench: ZeroDivisionError: odd" in done.err
    assert "Traceback" not in done.err
    kept = tmp_path / "cache" / "traceback.txt"
    assert str(kept) in done.err
    assert kept.read_text().startswith("ltbench 'list' 'recipes'\n\nTraceback")
    assert "ZeroDivisionError: odd" in kept.read_text()


def test_an_error_that_is_not_expected_is_told_without_a_cache_as_well(cli, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(listing, "entries", fails(ZeroDivisionError("odd")))
    done = cli("list", "recipes")
    assert (done.code, f"{TRACEBACK}=1" in done.err) == (1, True)


def test_its_traceback_is_shown_to_who_asks(cli, monkeypatch):
    monkeypatch.setenv(TRACEBACK, "1")
    monkeypatch.setattr(listing, "entries", fails(ZeroDivisionError("odd")))
    monkeypatch.setattr(sys, "argv", ["ltbench", "list", "recipes"])
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (OSError(28, "No space left on device", "some/file"), ["No space left", "some/file", "free some disk space"]),
        (PermissionError(13, "Permission denied", b"some/file"), ["Permission denied", "some/file", "permissions"]),
        (OSError("odd"), ["odd"]),
        (OSError(), ["OSError"]),
        (MemoryError(), ["out of memory", "--batch-size"]),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: 9 bytes"), ["out of memory"]),
        (LtbenchError("odd", where="there"), ["odd", "where: there"]),
    ],
    ids=str,
)
def test_what_the_system_refuses_is_a_bad_environment(cli, monkeypatch, error, parts):
    monkeypatch.setattr(listing, "entries", fails(error))
    done = cli("list", "recipes")
    assert (done.code, done.out) == (2, "")
    assert all(part in done.err for part in parts), done.err
    assert "a bug in ltbench" not in done.err
