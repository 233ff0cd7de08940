"""Unpacking: tar, compressed and nested, and zip; what is hostile is refused, what is interrupted goes on."""

import gzip
import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile

import pytest

from ltbench.data.prepare import unpack as unpacking
from ltbench.data.prepare.unpack import unpack
from ltbench.errors import LtbenchError

FILES = {"a/1.jpg": b"one", "a/2.jpg": b"two two", "b/c/3.jpg": b"", "4.jpg": bytes(100_000)}


def tar(path, files, mode="w"):
    with tarfile.open(path, mode) as packed:
        for name, content in files.items():
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if member.isreg():
                member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PACKERS = {
    "plain.tar": tar,
    "packed.tar.gz": lambda path, files: tar(path, files, "w:gz"),
    "packed.tar.xz": lambda path, files: tar(path, files, "w:xz"),
    "packed.zip": zipped,
}


@pytest.mark.parametrize("name", PACKERS)
def test_an_archive_is_unpacked(tmp_path, name):
    packed = PACKERS[name](tmp_path / name, FILES)
    told = []
    assert unpack(packed, tmp_path / "into", told.append) == len(FILES)
    assert contents(tmp_path / "into") == FILES
    assert told[-1].message == f"unpacking {name}"
    assert 0 < told[-1].done <= told[-1].total == packed.stat().st_size


@pytest.mark.parametrize("name", PACKERS)
def test_unpacking_goes_on_where_it_was_interrupted(tmp_path, name):
    packed = PACKERS[name](tmp_path / name, FILES)
    into = tmp_path / "into"

    def stop(update):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(packed, into, stop)
    assert contents(into) == {"a/1.jpg": b"one"}
    (into / "a/2.jpg").write_bytes(b"tw")  # cut off
    before = (into / "a/1.jpg").stat().st_mtime_ns
    assert unpack(packed, into) == len(FILES) - 1
    assert contents(into) == FILES
    assert (into / "a/1.jpg").stat().st_mtime_ns == before
    assert unpack(packed, into) == 0


def test_an_archive_of_archives_gives_a_folder_for_each(tmp_path):
    classes = {"n01": {"n01_1.JPEG": b"1", "n01_2.JPEG": b"22"}, "n02": {"n02_1.JPEG": b"333"}}
    inner = {f"{name}.tar": tar(tmp_path / f"{name}.tar", files).read_bytes() for name, files in classes.items()}
    packed = tar(tmp_path / "train.tar", inner)
    into = tmp_path / "into"
    assert unpack(packed, into, nested=True) == 3
    assert contents(into) == {f"{name}/{file}": data for name, files in classes.items() for file, data in files.items()}
    (into / "n01/n01_2.JPEG").unlink()
    assert unpack(packed, into, nested=True) == 1


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def device(name):
    member = tarfile.TarInfo(name)
    member.type = tarfile.CHRTYPE
    return member


HOSTILE = {
    "absolute": ("/tmp/ltbench-evil.jpg", "its path leaves the folder"),
    "upwards": ("../evil.jpg", "its path leaves the folder"),
    "upwards inside": ("a/../../evil.jpg", "its path leaves the folder"),
    "windows": ("..\\evil.jpg", "its path leaves the folder"),
    "drive": ("C:evil.jpg", "its path leaves the folder"),
    "link": (link("evil.jpg", "/etc/passwd"), "it is a link or a device"),
    "link inside": (link("evil.jpg", "a/1.jpg"), "it is a link or a device"),
    "hard link": (link("evil.jpg", "../../secret", tarfile.LNKTYPE), "it is a link or a device"),
    "device": (device("evil.jpg"), "it is a link or a device"),
}


def outside(tmp_path):
    """What lies beside the folder that is unpacked into."""
    return {path for path in tmp_path.rglob("*") if (tmp_path / "deep" / "into") not in (path, *path.parents)}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("nested", [False, True])
def test_a_hostile_tar_is_refused_by_name(tmp_path, kind, nested):
    member, why = HOSTILE[kind]
    name = member if isinstance(member, str) else member.name
    packed = tar(tmp_path / "images.tar", {"1.jpg": b"one", member: b"evil", "2.jpg": b"two"})
    if nested:
        packed = tar(tmp_path / "train.tar", {"n01.tar": packed.read_bytes()})
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    before = outside(tmp_path)
    with pytest.raises(LtbenchError) as caught:
        unpack(packed, into, nested=nested)
    assert f"holds {name!r}, which is refused: {why}" in str(caught.value)
    assert str(packed) in str(caught.value)
    assert outside(tmp_path) == before
    assert contents(into) == {"n01/1.jpg" if nested else "1.jpg": b"one"}


def test_folders_of_a_nested_archive_stay_inside(tmp_path):
    inner = tar(tmp_path / "inner.tar", {"1.jpg": b"evil"}).read_bytes()
    packed = tar(tmp_path / "train.tar", {"../n01.tar": inner})
    with pytest.raises(LtbenchError, match="its path leaves the folder"):
        unpack(packed, tmp_path / "into", nested=True)


@pytest.mark.parametrize("name", [".", "..tar", "...tar", "a/...tar"])
def test_the_name_of_a_nested_archive_must_make_a_folder(tmp_path, name):
    inner = tar(tmp_path / "inner.tar", {"ltbench-evil.jpg": b"evil"}).read_bytes()
    packed = tar(tmp_path / "train.tar", {name: inner})
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    before = outside(tmp_path)
    with pytest.raises(LtbenchError, match="its path leaves the folder"):
        unpack(packed, into, nested=True)
    assert outside(tmp_path) == before
    assert contents(into) == {}


def test_a_link_in_place_of_a_nested_archives_folder_is_not_followed_out_of_it(tmp_path):
    inner = tar(tmp_path / "inner.tar", {"1.jpg": b"evil"}).read_bytes()
    (tmp_path / "elsewhere").mkdir()
    into = tmp_path / "into"
    into.mkdir()
    (into / "n01").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LtbenchError, match="a link that lies in the folder leads out of it"):
        unpack(tar(tmp_path / "train.tar", {"n01.tar": inner}), into, nested=True)
    assert contents(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("kind", ["absolute", "upwards", "upwards inside", "windows", "drive", "link"])
def test_a_hostile_zip_is_refused_by_name(tmp_path, kind):
    name, why = HOSTILE[kind]
    member = name
    if kind == "link":
        name = "evil.jpg"
        member = zipfile.ZipInfo(name)
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = zipped(tmp_path / "lists.zip", {"1.jpg": b"one", member: b"/etc/passwd"})
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    before = outside(tmp_path)
    with pytest.raises(LtbenchError) as caught:
        unpack(packed, into)
    assert f"holds {name!r}, which is refused: {why}" in str(caught.value)
    assert outside(tmp_path) == before
    assert contents(into) == {"1.jpg": b"one"}


@pytest.mark.parametrize("name", PACKERS)
def test_a_link_that_lies_in_the_folder_is_not_followed_out_of_it(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    into = tmp_path / "into"
    into.mkdir()
    (into / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LtbenchError, match="a link that lies in the folder leads out of it"):
        unpack(PACKERS[name](tmp_path / name, {"a/1.jpg": b"evil"}), into)
    assert contents(tmp_path / "elsewhere") == {}


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "train").symlink_to(tmp_path / "large disk")
    unpack(tar(tmp_path / "images.tar", FILES), tmp_path / "train")
    assert contents(tmp_path / "large disk") == FILES


@pytest.mark.parametrize("name", PACKERS)
def test_a_truncated_archive_is_told(tmp_path, name):
    packed = PACKERS[name](tmp_path / name, {f"{i}.jpg": os.urandom(20_000) for i in range(3)})
    packed.write_bytes(packed.read_bytes()[:50_000])
    with pytest.raises(LtbenchError, match=rf"the archive {name} is damaged or incomplete"):
        unpack(packed, tmp_path / "into")


@pytest.mark.parametrize("content", [b"", b"<html>Please sign in</html>"])
def test_what_is_no_archive_is_told(tmp_path, content):
    packed = tmp_path / "images.tar"
    packed.write_bytes(content)
    with pytest.raises(LtbenchError, match=r"the archive images\.tar is damaged") as caught:
        unpack(packed, tmp_path / "into")
    assert "fetch it again" in str(caught.value)
    assert "method" not in str(caught.value), "what each way of compression says takes ten lines"


def test_a_member_of_a_zip_without_a_name_is_refused(tmp_path):
    packed = zipped(tmp_path / "lists.zip", {"1.jpg": b"one", "nameless": b"two"})
    packed.write_bytes(packed.read_bytes().replace(b"nameless", bytes(8)))
    with pytest.raises(LtbenchError, match=r"lists\.zip holds '', which is refused: it has no name"):
        unpack(packed, tmp_path / "into")


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking.shutil, "copyfileobj", full)
    with pytest.raises(LtbenchError, match=r"cannot unpack images\.tar: No space left on device") as caught:
        unpack(tar(tmp_path / "images.tar", FILES), tmp_path / "into")
    assert "the same command then resumes there" in str(caught.value)


def test_an_archive_that_is_not_there_is_told(tmp_path):
    with pytest.raises(LtbenchError, match=r"cannot unpack images\.tar: No such file"):
        unpack(tmp_path / "images.tar", tmp_path / "into")


END = bytes(1024)


def raw(name, content=b"", *, kind=tarfile.REGTYPE, size=None):
    """A tar header and content as they stand in the file, right or wrong."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(content) if size is None else size
    return member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def extended(**records):
    """A PAX header for the member that follows."""
    content = b""
    for key, value in records.items():
        record = b" " + key.replace("_", ".").encode() + b"=" + value + b"\n"
        length = len(record) + len(str(len(record) + 2))
        content += str(length).encode() + record
    return raw("pax", content, kind=tarfile.XHDTYPE)


def with_size(field):
    """A header whose size is written as no program would."""
    header = bytearray(raw("n.jpg"))
    header[124:136] = field
    total = sum(header[:148]) + sum(header[156:512]) + 256
    header[148:156] = b"%06o\0 " % total
    return bytes(header)


FIRST = raw("1.jpg", b"one")
ODD = {
    "empty name": (raw("", b"x"), "holds '', which is refused: it has no name"),
    "name of a folder": (raw(".", b"x"), "holds '.', which is refused: its path leaves the folder"),
    "sparse": (raw("s.jpg", b"abc", kind=tarfile.GNUTYPE_SPARSE), "holds 's.jpg', which is refused: it is a sparse"),
    "sparse map": (extended(GNU_sparse_map=b"a,b", GNU_sparse_size=b"7") + raw("2.jpg"), "is damaged or incomplete"),
    "sparse 1.0": (
        extended(GNU_sparse_major=b"1", GNU_sparse_minor=b"0", GNU_sparse_realsize=b"zz") + raw("2.jpg", b"two"),
        "is damaged or incomplete",
    ),
    "negative size": (with_size(b"\xff" * 12), "damaged or incomplete: a header claims -1 bytes"),
    "negative PAX size": (
        extended(size=b"-1024") + raw("2.jpg"),
        "damaged or incomplete: a header claims -1,024 bytes",
    ),
    "chain of headers": (extended(a=b"b") * 3000 + raw("2.jpg"), "is damaged or incomplete"),
    "zero byte": (extended(path=b"a\0b") + raw("2.jpg"), "which is refused: its path leaves the folder"),
    "long name": (extended(path=b"a" * 5000) + raw("2.jpg"), "which is refused: its name has 5000 bytes"),
    "long path": (extended(path=b"a/" * 2500 + b"x") + raw("2.jpg"), "which is refused: its name has 5001 bytes"),
    "twice": (raw("./1.jpg", b"four"), "./1.jpg', which is refused: it is there twice"),
    "file in a file": (raw("1.jpg/2.jpg", b"x"), "which is refused: a file and a folder have one name"),
    "file on a folder": (raw("a/b", b"x") + raw("a", b"y"), "a', which is refused: a file and a folder have one name"),
    "claimed size": (raw("big.jpg", size=2**32), "it is more than the 1,073,741,824 bytes that are expected at most"),
    "unknown kind": (raw("f", kind=b"6"), "holds 'f', which is refused: it is a link or a device"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("nested", [False, True])
def test_a_tar_with_odd_headers_is_refused(tmp_path, kind, nested):
    member, words = ODD[kind]
    content = FIRST + member + END
    packed = tmp_path / "images.tar"
    packed.write_bytes(raw("n01.tar", content) + END if nested else content)
    with pytest.raises(LtbenchError) as caught:
        unpack(packed, tmp_path / "into", nested=nested)
    assert words in str(caught.value)
    assert contents(tmp_path / "into")["n01/1.jpg" if nested else "1.jpg"] == b"one"


def test_a_tar_may_begin_with_its_folder(tmp_path):
    packed = tmp_path / "images.tar"
    packed.write_bytes(raw("./", kind=tarfile.DIRTYPE) + FIRST + END)
    assert unpack(packed, tmp_path / "into") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_claims_memory_does_not_get_it(tmp_path, kind):
    """A compressed file of 1 MB whose header has 256 MB, which tarfile would read whole."""
    packed = tmp_path / "images.tar.gz"
    with gzip.open(packed, "wb", compresslevel=1) as stream:
        stream.write(FIRST + raw("header", kind=kind, size=2**28))
        for _ in range(2**6):
            stream.write(bytes(2**22))
    code = (
        "import resource, sys; from pathlib import Path; from ltbench.data.prepare.unpack import unpack\n"
        "now = 4096 * int(Path('/proc/self/statm').read_text().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + 2**27, now + 2**27))\n"
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, packed, tmp_path / "into"], capture_output=True, text=True)
    assert "LtbenchError: the archive images.tar.gz is damaged or incomplete" in done.stderr
    assert "a header claims 268,435,456 bytes" in done.stderr


@pytest.mark.parametrize("pack", [tar, zipped])
def test_what_comes_out_has_a_bound(tmp_path, pack):
    name = "lists.zip" if pack is zipped else "lists.tar"
    packed = pack(tmp_path / name, {"a.txt": bytes(10_000), "b.txt": bytes(10_000), "c.txt": b""})
    assert unpack(packed, tmp_path / "all", limit=24_096) == 3
    with pytest.raises(LtbenchError, match=r"holds 'c.txt', which is refused: it is more than the 24,095 bytes"):
        unpack(packed, tmp_path / "some", limit=24_095)  # an empty file counts as a block of 4,096
    assert sorted(contents(tmp_path / "some")) == ["a.txt", "b.txt"]


def _spoiled(place, value, own, in_list):
    """A zip of one member with some bytes of its headers changed: at ``own`` in its own, ``in_list`` in the list."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.txt", bytes(1000))
    content = bytearray(stream.getvalue())
    for begin, offset in ((0, own), (content.find(b"PK\1\2"), in_list)):
        if offset is not None:
            content[begin + offset : begin + offset + len(value)] = value
    place.write_bytes(content)
    return place


@pytest.mark.parametrize(
    ("value", "own", "in_list", "words"),
    [
        (b"\x01", 6, 8, "is encrypted"),
        (b"\x63\0", 8, 10, "compression method is not supported"),
        (struct.pack("<I", 10), None, 24, "Bad CRC-32"),
        (struct.pack("<I", 2**31), None, 24, "it is more than"),
        (struct.pack("<I", 2**31 - 1), None, 42, "is damaged or incomplete"),
        (b"\0\0", 26, 28, "is damaged or incomplete"),
    ],
)
def test_a_zip_with_odd_headers_is_refused_and_leaves_nothing(tmp_path, value, own, in_list, words):
    packed = _spoiled(tmp_path / "lists.zip", value, own, in_list)
    for _ in range(2):  # nor may the second attempt find a file of the right size there
        with pytest.raises(LtbenchError, match=words):
            unpack(packed, tmp_path / "into")
    assert contents(tmp_path / "into") == {}


def test_a_zip_that_has_a_member_twice_is_refused(tmp_path):
    packed = tmp_path / "lists.zip"
    with zipfile.ZipFile(packed, "w") as stream, pytest.warns(UserWarning, match="Duplicate name"):
        stream.writestr("a.txt", "1")
        stream.writestr("a.txt", "22")
    with pytest.raises(LtbenchError, match=r"holds 'a.txt', which is refused: it is there twice"):
        unpack(packed, tmp_path / "into")
    assert contents(tmp_path / "into") == {"a.txt": b"1"}
