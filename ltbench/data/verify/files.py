"""ltbench data verify: every list of a data set that has them, every image file, and all that is wrong with them."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ltbench.data.images import ImageFiles, RawData
from ltbench.data.loading.decode import decode_rgb, is_cut_off
from ltbench.data.long_tail import ShotRule
from ltbench.data.official_lists.layout import ImageLayout
from ltbench.data.official_lists.lists import abridged, class_counts, class_folders, find_list, identity, read_list
from ltbench.data.official_lists.lists import faults as list_faults
from ltbench.data.official_lists.missing import missing
from ltbench.data.official_lists.published import Published
from ltbench.data.official_lists.split_list import SplitList
from ltbench.data.prepare.command import data_command
from ltbench.errors import LtbenchError
from ltbench.progress import ProgressListener, ProgressUpdate, silent

AT_ONCE = 4096
"""Number of images between two progress updates."""


@dataclass
class Verification:
    """The findings."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    """Title and text of each line."""
    columns: tuple[str, ...] = ()
    """Column heads of a table."""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    """Its rows."""
    faults: list[str] = field(default_factory=list)
    """A sentence about each fault; none if all is well."""
    remedy: str = "replace what is damaged"
    """The way to mend the faults."""


def verify(
    published: Published, folder: Path, *, decode: bool = False, listener: ProgressListener = silent
) -> Verification:
    """Check the lists of a data set and the files that they name.

    Args:
        published: the data set.
        folder: --data-dir.
        decode: open every image and decode it whole; otherwise it must be there and not be empty. An image that is
            cut off is found so; damage in its middle may pass, since decoders fill in what they cannot read.
        listener: hears of the progress, in images.
    """
    prepare = data_command("prepare", published.name, folder)
    found = Verification(
        remedy=f"delete or correct a wrong list; {prepare} then downloads what is missing, or "
        "tells where to fetch it; replace damaged files"
    )
    found.faults += [f"missing: {one}" for one in missing(published, folder)]
    lists = _read_lists(published, folder, found)
    if "train" not in lists:
        return found
    faults = list_faults(published, lists)
    for part, one in lists.items():
        found.faults += faults[part]
        _describe(published, part, one, found)
    if any((one.labels >= published.class_count).any() for one in lists.values()):
        return found  # their folders cannot be told
    folders = class_folders(published, lists["train"])
    for part, one in lists.items():
        official, words = identity(published, part, one, folders)
        found.lines.append((f"{part} list is", words))
        if not official:
            found.faults.append(f"{one.file.name} is {words}")
    _check_repeated(published.layout, lists, folders, found)
    _check_images(published.layout, folder, lists, folders, found, decode, listener)
    return found


def decode_all(data: RawData, listener: ProgressListener = silent) -> Verification:
    """Decode the image files of a data set without lists. Images in memory have been decoded to get there.

    Args:
        data: the data set.
        listener: hears of the progress, in images.
    """
    found = Verification()
    parts = [part for part in (data.train, data.validation, data.test) if isinstance(part, ImageFiles)]
    if parts:
        paths = [part.root / name for part in parts for name in part.names.tolist()]
        _check_files(parts[0].root, paths, found, True, listener)
    else:
        found.lines.append(("images", "are kept in memory, decoded; --decode adds nothing"))
    return found


def _read_lists(published: Published, folder: Path, found: Verification) -> dict[str, SplitList]:
    """The lists that can be read; the others become faults."""
    lists = {}
    for part in published.parts:
        file = find_list(published, folder, part)
        try:
            if file is not None:
                lists[part] = read_list(published, file, part)
        except LtbenchError as error:
            found.faults.append(" ".join(str(error).split()))
    return lists


def _describe(published: Published, part: str, one: SplitList, found: Verification) -> None:
    counts = class_counts(one, published.class_count)
    found.lines.append((f"{part} list", str(one.file)))
    found.lines.append((f"{part} images", f"{len(one):,}, {counts.max():,} to {counts.min():,} a class"))
    if part != "train":
        return
    sizes = tuple(len(members) for members in ShotRule().groups(counts).values())
    if sizes != published.shot_groups:
        found.faults.append(
            f"{one.file.name}: {'/'.join(map(str, sizes))} many-, medium- and few-shot classes, "
            f"expected {'/'.join(map(str, published.shot_groups))}"
        )


def _check_repeated(
    layout: ImageLayout, lists: dict[str, SplitList], folders: Sequence[str], found: Verification
) -> None:
    """Find images that are named twice, in one list or in two."""
    seen: dict[str, str] = {}
    twice = []
    for one in lists.values():
        for path in layout.paths(one, folders, layout.official()):
            if path in seen:
                twice.append(f"{path} stands in {seen[path]} and again in {one.file.name}")
            seen[path] = one.file.name
    found.faults += _first(twice, "images are named twice")


def _check_images(
    layout: ImageLayout,
    folder: Path,
    lists: dict[str, SplitList],
    folders: Sequence[str],
    found: Verification,
    decode: bool,
    listener: ProgressListener,
) -> None:
    templates = layout.detect(folder, lists, folders)
    official = layout.official()
    for image_set in official:
        if image_set not in templates:
            found.faults.append(f"none of the {image_set} images is where it should be: {layout.describe(image_set)}")
    paths = [
        folder / path
        for one in lists.values()
        for path, image_set in zip(layout.paths(one, folders, {**official, **templates}), one.image_sets, strict=True)
        if image_set in templates
    ]
    _check_files(folder, paths, found, decode, listener)


def _check_files(
    folder: Path, paths: Sequence[Path], found: Verification, decode: bool, listener: ProgressListener
) -> None:
    states = dict(zip(paths, _each(paths, _decoded if decode else _present, listener), strict=True))
    for state in ("missing", "not readable", "damaged"):
        names = [str(path.relative_to(folder)) for path, own in states.items() if own == state]
        found.faults += _first([f"{state}: {name}" for name in names], f"images are {state}")
    well = sum(state == "well" for state in states.values())
    found.lines.append(("images", f"{well:,} of {len(states):,} {'decode' if decode else 'are there and not empty'}"))


def _each(paths: Sequence[Path], state: Callable[[Path], str], listener: ProgressListener) -> Iterator[str]:
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        for begin in range(0, len(paths), AT_ONCE):
            yield from pool.map(state, paths[begin : begin + AT_ONCE])
            listener(ProgressUpdate("images", min(begin + AT_ONCE, len(paths)), len(paths)))


def _present(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return "not readable" if isinstance(error, PermissionError) else "missing"
    return "well" if stat.S_ISREG(status.st_mode) and status.st_size else "damaged"


def _decoded(path: Path) -> str:
    """Decoded whole, as runs do it: an image that is cut off opens, but does not load."""
    state = _present(path)
    if state != "well":
        return state
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
        decode_rgb(encoded, path)
    except PermissionError:
        return "not readable"
    except (OSError, LtbenchError):
        return "damaged"
    return "damaged" if is_cut_off(encoded) else "well"


def _first(faults: Sequence[str], words: str) -> list[str]:
    """Some of many faults of one kind, and how many there are."""
    return abridged(faults, f"{len(faults):,} {words} in all")
