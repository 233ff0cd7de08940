"""What is missing of a data set of official lists, and the steps that are left to the user."""

from collections.abc import Sequence
from pathlib import Path

from ltbench.data.official_lists.lists import find_list, missing_lists
from ltbench.data.official_lists.published import Archive, Published
from ltbench.data.prepare.command import data_command
from ltbench.data.prepare.download import in_gb
from ltbench.errors import LtbenchError


def missing(published: Published, folder: Path) -> list[str]:
    """The lists and the folders of images that are missing, in words; a quick look."""
    layout = published.layout
    image_sets = [image_set for image_set in layout.templates if not layout.has_folder(folder, image_set)]
    return [
        *(f"the list {' or '.join(published.parts[part].lists)}" for part in missing_lists(published, folder)),
        *missing_images(published, image_sets),
    ]


def missing_images(published: Published, image_sets: Sequence[str]) -> list[str]:
    """Sets of images that are missing, in words."""
    return [f"the {image_set} images, {published.layout.describe(image_set)}" for image_set in image_sets]


def incomplete(published: Published, folder: Path, lacking: Sequence[str]) -> LtbenchError:
    """The error for an incomplete data set: what is missing, where it was looked for, how to get it."""
    places = ", ".join(str(folder.absolute() / name) for name in ("", *published.list_folders))
    archives = [archive for archive in published.archives if not _begun(published, folder, archive)]
    return LtbenchError(
        f"{published.name} is incomplete; missing:\n" + "\n".join(f"    {one}" for one in lacking),
        where=places,
        hint=steps(published, folder, archives, missing_lists(published, folder)),
    )


def steps(
    published: Published,
    folder: Path,
    archives: Sequence[Archive],
    parts: Sequence[str],
    wrong: Sequence[Path] = (),
) -> str:
    """The steps that are left to the user, numbered.

    Args:
        published: the data set.
        folder: --data-dir.
        archives: missing archives.
        parts: parts whose lists are missing or wrong.
        wrong: files of lists that are not as published.
    """
    found = [f"delete or correct {file}" for file in wrong]
    for page in dict.fromkeys(one.page for one in archives if one.url is None):
        files = " and ".join(f"{one.file} ({in_gb(one.size)})" for one in archives if one.page == page)
        found.append(f"fetch {files} from {page}; put them in {folder}")
    by_hand = [part for part in parts if part not in {one.part for one in published.archives}]
    if by_hand:
        names = ", ".join(" or ".join(published.parts[part].lists) for part in by_hand)
        found.append(f"fetch {names} from {published.list_page}; put them in {folder}")
    loaded = ", ".join(f"{one.file} ({in_gb(one.size)})" for one in archives if one.url)
    command = data_command("prepare", published.name, folder)
    found.append(f"{command}, which downloads {loaded}" if loaded else command)
    return "\n         ".join(f"{number}. {step}" for number, step in enumerate(found, start=1))


def _begun(published: Published, folder: Path, archive: Archive) -> bool:
    """Whether an archive is there, or some of what it gives."""
    if archive.part is not None and find_list(published, folder, archive.part):
        return True
    unpacked = archive.image_set is not None and published.layout.has_folder(folder, archive.image_set)
    return unpacked or (folder / archive.file).is_file()
