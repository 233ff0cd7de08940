"""ltbench data prepare, for data sets of official lists: download, check, unpack, and say what is left to the user."""

from pathlib import Path

from ltbench.data.datasets.listed import Archive, Listed
from ltbench.data.prepare.download import check, disk_fault, fetch, require_space
from ltbench.data.prepare.unpack import MAX_UNPACKED, unpack
from ltbench.errors import LtbenchError
from ltbench.files.lock import exclusive
from ltbench.paths import cache_dir
from ltbench.progress import ProgressListener, silent


def prepare(source: Listed, folder: Path, listener: ProgressListener = silent) -> str:
    """Make a data set ready as far as a program may; called again, it goes on.

    Args:
        source: the data set.
        folder: --data-dir.
        listener: hears of the progress of each file, in bytes.

    Returns:
        What was done, in a sentence.

    Raises:
        LtbenchError: with the steps that are left to the user; or for a failed download, a damaged archive, a full
            disk.
    """
    with exclusive(cache_dir() / f"prepare-{source.name}.lock", f"the preparation of {source.name}"):
        unpacked = [name for name in source.list_archives if (folder / name).is_file()]
        for name in unpacked:
            unpack(folder / name, folder, listener)
        done: list[Archive] = []
        left: list[Archive] = []
        for lists in (True, False):  # which images are wanted, the lists tell
            wanted = [one for one in source.archives if bool(one.part) == lists and not is_there(source, folder, one)]
            here = [archive for archive in wanted if archive.url or (folder / archive.file).is_file()]
            room = sum(_room(folder, archive) for archive in here)
            require_space(folder, room, f"what is to be had of {source.name}")
            for archive in here:
                _get(archive, folder, listener)
            done += here
            left += [archive for archive in wanted if archive not in here]
        said = f"unpacked {', '.join(one.file for one in done)}; the archives may be deleted" if done else ""
        absent = [part for part in source.parts if source.list_file(folder, part) is None]
        found = source.read(folder)
        wrong = {part: faults for part, faults in source.faults(found).items() if faults}
        if left or absent or wrong:
            faults = "".join(f"\n    {fault}" for one in wrong.values() for fault in one)
            raise LtbenchError(
                f"{source.name} is not ready yet" + (f", though a part of it is: {said}" if said else "") + faults,
                where=folder.absolute(),
                hint=source.steps(folder, left, [*absent, *wrong], [found[part].file for part in wrong]),
            )
    return f"{source.name} is in {folder.absolute()}{said and ': ' + said}"


def is_there(source: Listed, folder: Path, archive: Archive) -> bool:
    """Whether what an archive gives is there: its list, or all of its images that the lists name.

    As long as a list is missing or wrong, images count as there once their archive has been unpacked, or if there are
    some and no archive that may be half unpacked.
    """
    if archive.part is not None:
        return source.list_file(folder, archive.part) is not None
    assert archive.images is not None
    lists = source.read(folder)
    if set(lists) != set(source.parts) or any(source.faults(lists).values()):
        some = source.has_folder(folder, archive.images) and not (folder / archive.file).is_file()
        return some or _mark(folder, archive).exists()
    folders = source.class_folders(lists["train"])
    layouts = source.layouts_in(folder, lists, folders)
    if archive.images not in layouts:
        return False
    return all(
        (folder / path).is_file()
        for one in lists.values()
        for path, images in zip(
            source.paths(one, folders, {**source.official_layouts(), **layouts}), one.sets, strict=True
        )
        if images == archive.images
    )


def _get(archive: Archive, folder: Path, listener: ProgressListener) -> None:
    file = folder / archive.file
    if file.exists():
        check(file, archive.md5, listener, otherwise=f"delete it and fetch it again, from {archive.page}")
    else:
        assert archive.url is not None
        fetch(archive.url, file, md5=archive.md5, listener=listener)
    # JPEG files and lists are no smaller packed than so.
    limit = max(MAX_UNPACKED, 2 * archive.size)
    unpack(file, folder / archive.into, listener, nested=archive.nested, limit=limit)
    try:
        _mark(folder, archive).touch()
    except OSError as error:
        raise disk_fault(f"cannot note that {archive.file} is unpacked", error, folder) from None


def _room(folder: Path, archive: Archive) -> int:
    """Bytes that an archive will still take: to be downloaded, and to be unpacked unless that has begun."""
    file = folder / archive.file
    part = file.with_name(file.name + ".part")
    have = archive.size if file.exists() else part.stat().st_size if part.exists() else 0
    begun = _mark(folder, archive).exists()
    return max(archive.size - have, 0) + (0 if begun else archive.size)


def _mark(folder: Path, archive: Archive) -> Path:
    return folder / f".{archive.file}.unpacked"
