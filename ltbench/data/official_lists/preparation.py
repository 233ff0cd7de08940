"""Prepare a data set of official lists: download, check, unpack, and say what is left to the user."""

from pathlib import Path

from ltbench.data.official_lists.lists import class_folders, faults, find_list, missing_lists, read_lists
from ltbench.data.official_lists.missing import steps
from ltbench.data.official_lists.published import Archive, Published
from ltbench.data.prepare.download import check, disk_fault, fetch, require_space
from ltbench.data.prepare.unpack import MAX_UNPACKED, unpack
from ltbench.errors import LtbenchError
from ltbench.files.lock import exclusive
from ltbench.files.paths import cache_dir
from ltbench.progress import ProgressListener, silent


def prepare(published: Published, folder: Path, listener: ProgressListener = silent) -> str:
    """Prepare a data set as far as a program may; called again, it continues.

    Args:
        published: the data set.
        folder: --data-dir.
        listener: hears of the progress of each file, in bytes.

    Returns:
        What was done, in a sentence.

    Raises:
        LtbenchError: with the steps that are left to the user; or for a failed download, a damaged archive, a full
            disk.
    """
    name = published.name
    with exclusive(cache_dir() / f"prepare-{name}.lock", f"the preparation of {name}"):
        for file in published.list_archives:
            if (folder / file).is_file():
                unpack(folder / file, folder, listener)
        done: list[Archive] = []
        left: list[Archive] = []
        for lists in (True, False):  # lists first: they tell which images are needed
            wanted = [
                one for one in published.archives if bool(one.part) == lists and not is_unpacked(published, folder, one)
            ]
            available = [archive for archive in wanted if archive.url or (folder / archive.file).is_file()]
            size = sum(_bytes_needed(folder, archive) for archive in available)
            require_space(folder, size, f"the available part of {name}")
            for archive in available:
                _get(archive, folder, listener)
            done += available
            left += [archive for archive in wanted if archive not in available]
        report = f"unpacked {', '.join(one.file for one in done)}; the archives may be deleted" if done else ""
        absent, found = missing_lists(published, folder), read_lists(published, folder)
        wrong = {part: own for part, own in faults(published, found).items() if own}
        if left or absent or wrong:
            shown = "".join(f"\n    {fault}" for own in wrong.values() for fault in own)
            raise LtbenchError(
                f"{name} is not ready yet" + (f"; done: {report}" if report else "") + shown,
                where=folder.absolute(),
                hint=steps(published, folder, left, [*absent, *wrong], [found[part].file for part in wrong]),
            )
    return f"{name} is in {folder.absolute()}{report and ': ' + report}"


def is_unpacked(published: Published, folder: Path, archive: Archive) -> bool:
    """Whether the content of an archive is there: its list, or all of its images that the lists name.

    As long as a list is missing or wrong, images count as there once their archive has been unpacked, or if there are
    some and no archive that may be half unpacked.
    """
    if archive.part is not None:
        return find_list(published, folder, archive.part) is not None
    assert archive.image_set is not None
    layout, lists = published.layout, read_lists(published, folder)
    if set(lists) != set(published.parts) or any(faults(published, lists).values()):
        some = layout.has_folder(folder, archive.image_set) and not (folder / archive.file).is_file()
        return some or _marker(folder, archive).exists()
    folders = class_folders(published, lists["train"])
    templates = layout.detect(folder, lists, folders)
    if archive.image_set not in templates:
        return False
    return all(
        (folder / path).is_file()
        for one in lists.values()
        for path, image_set in zip(
            layout.paths(one, folders, {**layout.official(), **templates}), one.image_sets, strict=True
        )
        if image_set == archive.image_set
    )


def _get(archive: Archive, folder: Path, listener: ProgressListener) -> None:
    file = folder / archive.file
    if file.exists():
        check(file, archive.md5, listener, otherwise=f"delete it and fetch it again, from {archive.page}")
    else:
        assert archive.url is not None
        fetch(archive.url, file, md5=archive.md5, listener=listener)
    # JPEG files and lists hardly shrink in an archive.
    limit = max(MAX_UNPACKED, 2 * archive.size)
    unpack(file, folder / archive.into, listener, nested=archive.nested, limit=limit)
    try:
        _marker(folder, archive).touch()
    except OSError as error:
        raise disk_fault(f"cannot note that {archive.file} is unpacked", error, folder) from None


def _bytes_needed(folder: Path, archive: Archive) -> int:
    """Bytes that an archive will still take: to be downloaded, and to be unpacked unless that has begun."""
    file = folder / archive.file
    partial = file.with_name(file.name + ".part")
    have = archive.size if file.exists() else partial.stat().st_size if partial.exists() else 0
    begun = _marker(folder, archive).exists()
    return max(archive.size - have, 0) + (0 if begun else archive.size)


def _marker(folder: Path, archive: Archive) -> Path:
    """A file whose presence says that an archive has been unpacked."""
    return folder / f".{archive.file}.unpacked"
