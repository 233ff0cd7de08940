"""Downloads from a server on this machine: whole, interrupted, resumed, damaged, refused."""

import hashlib
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from ltbench.data.prepare import download
from ltbench.data.prepare.download import check, fetch, in_gb, require_space
from ltbench.errors import LtbenchError
from ltbench.progress import ProgressUpdate

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "CHUNK", 10_000)


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that were made, in seconds."""
    made = []
    monkeypatch.setattr(download, "PAUSE", 2.0)
    monkeypatch.setattr(download.time, "sleep", made.append)
    return made


@pytest.fixture
def site(server):
    server.files["images.tar"] = CONTENT
    return server


@pytest.fixture
def file(tmp_path):
    return tmp_path / "new" / "images.tar"


def test_a_file_arrives_whole_and_progress_is_told(site, file):
    told = []
    fetch(site.url("images.tar"), file, md5=MD5, listener=told.append)
    assert file.read_bytes() == CONTENT
    assert [path.name for path in file.parent.iterdir()] == ["images.tar"]
    assert site.asked == [None]
    assert ProgressUpdate("downloading images.tar", 300_000, 300_000) in told
    assert told[-1] == ProgressUpdate("checking images.tar", 300_000, 300_000)
    fetch(site.url("images.tar"), file, md5=MD5)
    assert len(site.asked) == 1, "what is there is not fetched again"


def test_a_lost_connection_is_taken_up_where_it_broke(site, file):
    site.breaks = [100_000, 50_000]
    fetch(site.url("images.tar"), file, md5=MD5)
    assert file.read_bytes() == CONTENT
    assert site.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_an_interrupted_download_goes_on_the_next_time(site, file):
    def stop(update):
        if update.done >= 120_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site.url("images.tar"), file, md5=MD5, listener=stop)
    part = file.with_name("images.tar.part")
    assert part.read_bytes() == CONTENT[:120_000]
    assert not file.exists()
    fetch(site.url("images.tar"), file, md5=MD5)
    assert site.asked == [None, "bytes=120000-"]
    assert file.read_bytes() == CONTENT
    assert not part.exists()


def test_a_download_that_was_killed_at_the_end_is_only_checked(site, file):
    file.parent.mkdir()
    file.with_name("images.tar.part").write_bytes(CONTENT)
    fetch(site.url("images.tar"), file, md5=MD5)
    assert file.read_bytes() == CONTENT
    assert site.asked == ["bytes=300000-"]


def test_a_part_that_is_too_long_is_begun_anew(site, file):
    file.parent.mkdir()
    file.with_name("images.tar.part").write_bytes(CONTENT + b"more")
    fetch(site.url("images.tar"), file, md5=MD5)
    assert file.read_bytes() == CONTENT
    assert site.asked == ["bytes=300004-", None]


def test_a_server_without_ranges_sends_all_of_it_again(site, file):
    site.ranges, site.breaks = False, [100_000]
    fetch(site.url("images.tar"), file, md5=MD5)
    assert file.read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_a_server_without_ranges_that_always_breaks_off_is_not_asked_for_ever(site, file, pauses):
    site.ranges, site.breaks = False, [100_000, 150_000] + [100_000, 120_000] * 10
    with pytest.raises(LtbenchError, match=r"stopped after .* bytes: the connection was lost"):
        fetch(site.url("images.tar"), file, md5=MD5)
    assert len(site.asked) == 2 + download.ATTEMPTS
    assert pauses == [2, 2, 4, 6, 8, 10], "a pause after every break"


@pytest.mark.parametrize("length", [False, "nonsense"])
def test_a_server_that_does_not_tell_the_length_is_believed_until_the_check(site, file, length):
    site.length = length
    fetch(site.url("images.tar"), file, md5=MD5)
    assert file.read_bytes() == CONTENT


def test_what_arrives_damaged_is_deleted(site, file):
    site.files["images.tar"] = CONTENT[:-1] + b"\x00"
    with pytest.raises(LtbenchError, match=f"not the published {MD5}") as caught:
        fetch(site.url("images.tar"), file, md5=MD5)
    assert "run the same command again" in str(caught.value)
    assert list(file.parent.iterdir()) == []


def test_a_file_that_is_not_there_is_told_at_once(site, file):
    with pytest.raises(LtbenchError, match="404") as caught:
        fetch(site.url("other.tar"), file, md5=MD5)
    assert len(site.asked) == 1
    assert site.url("other.tar") in str(caught.value)
    assert f"put it at {file}" in str(caught.value)


def test_a_server_that_is_overloaded_is_asked_again_but_not_for_ever(site, file):
    site.status = 503
    with pytest.raises(LtbenchError, match="stopped after 0 bytes: ") as caught:
        fetch(site.url("images.tar"), file, md5=MD5)
    assert len(site.asked) == download.ATTEMPTS
    assert "the same command resumes there" in str(caught.value)


@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_server_that_is_busy_is_asked_again_when_it_says(site, file, pauses, status):
    site.busy = [(status, "7"), (status, "1"), (status, "86400"), (status, "Fri, 01 Jan 2027 00:00:00 GMT")]
    fetch(site.url("images.tar"), file, md5=MD5)
    assert file.read_bytes() == CONTENT
    assert pauses == [7, 6, download.LONGEST_PAUSE, 10]


def test_a_connection_that_always_breaks_keeps_what_arrived(site, file):
    site.breaks = [100_000] + [0] * 10
    with pytest.raises(LtbenchError, match="stopped after 100,000 bytes: the connection was lost"):
        fetch(site.url("images.tar"), file, md5=MD5)
    assert file.with_name("images.tar.part").stat().st_size == 100_000
    assert len(site.asked) == 1 + download.ATTEMPTS


def test_a_server_that_is_not_there_is_told(site, file):
    url = site.url("images.tar")
    site.stop()
    with pytest.raises(LtbenchError, match=r"stopped after 0 bytes: .*refused"):
        fetch(url, file, md5=MD5)


def test_a_disk_without_room_is_told_before_anything_is_written(site, file, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=200_000))
    with pytest.raises(LtbenchError, match=r"the rest of images\.tar takes 0\.3 MB, but 0\.2 MB are free"):
        fetch(site.url("images.tar"), file, md5=MD5)
    file.with_name("images.tar.part").write_bytes(CONTENT[:150_000])
    fetch(site.url("images.tar"), file, md5=MD5)
    assert file.exists(), "what is left does fit"


def test_a_disk_that_fills_up_meanwhile_is_told_once(site, file, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(LtbenchError, match=r"cannot save images\.tar: No space left on device"):
        fetch(site.url("images.tar"), file, md5=MD5)
    assert len(site.asked) == 1


def test_a_folder_that_cannot_be_made_is_told(site, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LtbenchError, match="cannot save"):
        fetch(site.url("images.tar"), tmp_path / "file" / "images.tar", md5=MD5)
    assert site.asked == []


def test_a_file_of_the_user_that_is_damaged_is_left_alone(tmp_path):
    file = tmp_path / "images.tar"
    file.write_bytes(CONTENT[:-5])
    with pytest.raises(LtbenchError, match=r"images\.tar is damaged or incomplete") as caught:
        check(file, MD5, otherwise="fetch it again")
    assert "to do: fetch it again" in str(caught.value)
    assert file.exists()


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "images.tar").mkdir()
    with pytest.raises(LtbenchError, match=r"cannot read images\.tar: Is a directory") as caught:
        check(tmp_path / "images.tar", MD5, otherwise="fetch it again")
    assert "the same command then resumes there" in str(caught.value)


def test_room_is_looked_for_where_the_folder_will_be(tmp_path):
    require_space(tmp_path / "not" / "yet", 1, "a little")
    with pytest.raises(LtbenchError, match=r"everything takes 1,000,000\.0 GB, but"):
        require_space(tmp_path / "not" / "yet", 10**15, "everything")


def test_sizes_are_in_decimal_units():
    assert in_gb(147_897_477_120) == "147.9 GB"
    assert in_gb(26_000_000) == "26.0 MB"
