"""Where --output writes: through links, into pipes, and over files without a change of their mode."""

import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ltbench.errors import LtbenchError
from ltbench.files import atomic
from ltbench.files.output import write_text


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_has_the_usual_mode_and_nothing_else_stays(tmp_path):
    write_text(tmp_path / "new" / "file", "text")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "new" / "file").read_text() == "text"
    assert (tmp_path / "new" / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert names_in(tmp_path / "new") == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)


def test_what_a_killed_process_has_left_of_the_same_file_is_removed(tmp_path):
    left, others = ".a[1].md.0123abcd.tmp", [".b.md.0123abcd.tmp", ".a[1].md.tmp", ".a1.md.0123abcd.tmp"]
    for name in (left, *others):
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "a[1].md", "text")
    assert names_in(tmp_path) == sorted([*others, "a[1].md"])
    (tmp_path / left).write_text("half")
    with (tmp_path / left).open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # as a process does that is writing it
        write_text(tmp_path / "a[1].md", "text")
    assert left in names_in(tmp_path)


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    target, link, second = tmp_path / "far" / "target", tmp_path / "link", tmp_path / "second"
    link.symlink_to("far/target")  # to what is not there yet
    second.symlink_to(link)
    for path, text in ((link, "one"), (second, "two")):
        write_text(path, text)
        assert target.read_text() == text
        assert link.is_symlink()
        assert second.is_symlink()
    assert names_in(tmp_path) == ["far", "link", "second"]
    assert names_in(tmp_path / "far") == ["target"]


def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "through")
    reader.join(10)
    assert got == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays(tmp_path):
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    for path in (link, "/dev/null"):
        write_text(Path(path), "gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert link.is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("where", ["pipe", "file"])
def test_standard_output_by_its_name_comes_after_what_was_printed(tmp_path, name, where):
    imports = "from pathlib import Path; from ltbench.files.output import write_text"
    code = f"{imports}; print('before'); write_text(Path({name!r}), 'x')"
    file = tmp_path / "out"
    with file.open("w") as stream:
        stream.write("kept\n")
        stream.flush()
        out = subprocess.PIPE if where == "pipe" else stream
        ran = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (ran.stdout if where == "pipe" else file.read_text()) == ("" if where == "pipe" else "kept\n") + "before\nx"


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "loop"):
        with pytest.raises(LtbenchError, match="cannot save: ") as caught:
            write_text(path, "text")
        assert str(path) in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["md", "csv", "html"])
def test_reports_go_through_a_link(cli, tmp_path, make_result, style):
    from ltbench.results.store import Store

    Store(tmp_path / "runs").save(make_result())
    (tmp_path / "report").symlink_to("page")
    assert cli("report", "--format", style, "--output", "report").code == 0
    assert (tmp_path / "report").is_symlink()
    assert "ce" in (tmp_path / "page").read_text()


def test_what_must_last_waits_for_the_disk_to_have_the_file_and_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(stat.S_IFMT(os.fstat(descriptor).st_mode)))
    for replace in (True, False):
        atomic.write_bytes(tmp_path / f"{replace}.txt", lambda stream: stream.write(b"x"), replace=replace)
        assert synced == [stat.S_IFREG, stat.S_IFDIR]
        synced.clear()
    atomic.write_bytes(tmp_path / "cache.txt", lambda stream: stream.write(b"x"), lasting=False)
    assert synced == []
