"""ltbench data verify for a user's folder: what a run will use, by class, what it will not, and why."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltbench.data.datasets.folder_split import split_file
from ltbench.data.datasets.image_folder import FolderParts, find_parts, load
from ltbench.data.datasets.label_table import LabelTable
from ltbench.data.loading.decode import (
    TRUNCATED,
    UnreadableImageError,
    UnreadableImagesError,
    decode_rgb,
    has_frames,
    is_cut_off,
    open_image,
    read_bytes,
)
from ltbench.data.prepare.download import in_gb
from ltbench.data.verify.files import AT_ONCE, Verification
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.progress import ProgressListener, ProgressUpdate

NAMED = 20
"""Number of files of one kind that are named."""
NO_CLASS = "(in no class)"


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    kind: str
    frames: bool


def verify_folder(
    folder: Path,
    image_size: int,
    *,
    keep_untested: bool,
    decode: bool,
    listener: ProgressListener,
    labels: LabelTable | None = None,
) -> Verification:
    """Look at everything in a folder of images as a run does.

    Args:
        folder: --data-dir.
        image_size: side in pixels that a run would use; images in memory are decoded to it.
        keep_untested: whether a class may lack test images.
        decode: decode images whole that a run keeps as files; otherwise their headers are read.
        listener: hears of the progress, in images.
        labels: table of the labels, if the user tells one.

    Returns:
        Lines about the whole, a row for each class, and a fault for each file that is no usable image.

    Raises:
        LtbenchError: where a run would refuse the folder as a whole.
    """
    folder_parts = find_parts(folder, keep_untested=keep_untested, labels=labels)
    faults, headers = _read(folder_parts, _header, listener, "reading headers")
    streamed = folder_parts.is_streamed(image_size)
    if not streamed:
        try:
            with warnings.catch_warnings(action="ignore", category=LtbenchWarning):  # what it notes is told below
                load(folder_parts, image_size)
        except UnreadableImagesError as error:
            faults |= {fault.file: fault.reason for fault in error.faults}
    elif decode:
        faults |= _read(folder_parts, _decoded, listener, "decoding")[0]
    found = Verification(remedy="replace what is damaged, or remove it")
    found.faults = _named([f"damaged: {folder_parts.listing.shown(file)}: {reason}" for file, reason in faults.items()])
    count = len(folder_parts.files)
    state = f"{count - len(faults):,} of {count:,} {'decode' if decode else 'have a header'}, and stay files"
    if not streamed:
        state = "are kept in memory, decoded; --decode adds nothing"
    found.lines = [
        *_about(folder_parts),
        ("images", state),
        *_about_images(folder_parts, headers),
        *_notes(folder_parts),
    ]
    found.columns, found.rows = _by_class(folder_parts, set(faults))
    return found


def _read(
    folder_parts: FolderParts, read: Callable[[Path], _Header | None], listener: ProgressListener, words: str
) -> tuple[dict[Path, str], list[tuple[Path, _Header]]]:
    """Files that cannot be used with the reason, and what is known of the others."""
    faults: dict[Path, str] = {}
    headers = []

    def one(file: Path) -> _Header | UnreadableImageError | None:
        try:
            return read(file)
        except UnreadableImageError as error:
            return error
        except LtbenchError as error:
            return UnreadableImageError(file, str(error).partition("\n")[0])

    files = folder_parts.files
    with ThreadPoolExecutor() as pool:
        for begin in range(0, len(files), AT_ONCE):
            some = files[begin : begin + AT_ONCE]
            for file, state in zip(some, pool.map(one, some), strict=True):
                if isinstance(state, UnreadableImageError):
                    faults[file] = state.reason
                elif state is not None:
                    headers.append((file, state))
            listener(ProgressUpdate(words, begin + len(some), len(files)))
    return faults, headers


def _header(file: Path) -> _Header:
    with open_image(file, file) as image:
        return _Header(image.width, image.height, f"{image.format} {image.mode}", has_frames(image))


def _decoded(file: Path) -> None:
    encoded = read_bytes(file)
    decode_rgb(encoded, file)
    if is_cut_off(encoded):
        raise UnreadableImageError(file, TRUNCATED)


def _about(folder_parts: FolderParts) -> Iterator[tuple[str, str]]:
    found = folder_parts.listing
    yield "folder", str(found.root.absolute())
    made = [f"{part} set" for part in ("test", "validation") if part in found.parts]
    if "test" not in found.parts:
        yield "test set", f"a fifth of each class, stored in {split_file(found).absolute()}"
    yield "given by you", ", ".join(made) or "classes"


def _about_images(folder_parts: FolderParts, headers: Sequence[tuple[Path, _Header]]) -> Iterator[tuple[str, str]]:
    if not headers:
        return
    smallest, largest = (pick(headers, key=lambda one: one[1].width * one[1].height)[1] for pick in (min, max))
    size = sum(file.stat().st_size for file in folder_parts.files)
    yield (
        "sizes",
        f"{smallest.width} x {smallest.height} to {largest.width} x {largest.height} pixels, {in_gb(size)} in all",
    )
    kinds = Counter(header.kind for _, header in headers)
    yield "kinds", ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    if several := [folder_parts.listing.shown(file) for file, header in headers if header.frames]:
        yield (
            "several frames",
            f"images of which the first frame is used: {len(several)}, " + ", ".join(_named(several)),
        )
    repeated = sum(int(folder_parts.repeated(part).sum()) for part in folder_parts.parts)
    yield "copies", f"images that have the bytes of another image of their class and part: {repeated}"


def _notes(folder_parts: FolderParts) -> Iterator[tuple[str, str]]:
    for note in [*folder_parts.listing.notes, *folder_parts.duplicate_notes(), *folder_parts.untested_notes()]:
        yield "note", note
    reasons = Counter(reason for _, reason in folder_parts.listing.skipped)
    for reason, count in reasons.items():
        names = [folder_parts.listing.shown(path) for path, why in folder_parts.listing.skipped if why == reason]
        yield "not used", f"{count} {reason}: {', '.join(_named(names))}"


def _by_class(folder_parts: FolderParts, bad: set[Path]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The heads of the columns and a row for each class."""
    found, parts = folder_parts.listing, folder_parts.parts
    names = {part: part.capitalize() for part in ("train", "validation", "test") if part in parts}
    columns: dict[str, Counter[str]] = {
        head: Counter() for head in (*names.values(), "Copies", "Unreadable", "Not used")
    }
    for part, head in names.items():
        labels = parts[part].labels
        for position in np.flatnonzero(folder_parts.repeated(part)):
            columns["Copies"][found.classes[labels[position]]] += 1
        for file, label in zip(parts[part].files, labels.tolist(), strict=True):
            columns[head][found.classes[label]] += 1
            columns["Unreadable"][found.classes[label]] += file in bad
    known = set(found.classes)
    for path, _ in found.skipped:
        name = found.class_of(path)
        columns["Not used"][name if name in known else NO_CLASS] += 1
    rows = [*found.classes, *([NO_CLASS] if NO_CLASS in columns["Not used"] else [])]
    table = [(name, *(str(counts[name]) for counts in columns.values())) for name in rows]
    totals = ("all", *(str(counts.total()) for counts in columns.values()))
    return ("Class", *columns), [*table, totals]


def _named(names: list[str]) -> list[str]:
    return [*names[:NAMED], *([f"and {len(names) - NAMED} more"] if len(names) > NAMED else [])]
