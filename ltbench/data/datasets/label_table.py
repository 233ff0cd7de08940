"""A table instead of class folders: CSV, JSON lines or parquet with a path or an image, a label and perhaps a part."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ltbench.data.datasets.duplicates import stamp
from ltbench.data.datasets.folder_listing import PART_NAMES, SHOWN, ClassFiles, Listing, refuse_twins, subfolders
from ltbench.data.datasets.image_finder import ImageFinder
from ltbench.data.datasets.image_names import is_litter
from ltbench.data.datasets.table_files import EMBEDDED, ENDINGS, embedded_images, require_pyarrow, rows_of
from ltbench.data.datasets.unpacked import unpack
from ltbench.errors import LtbenchError, first_line, unknown
from ltbench.files.paths import cache_dir

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "path": (
        "path",
        "file_name",
        "filename",
        "file",
        "file_path",
        "filepath",
        "image_path",
        "image",
        "image_name",
        "image_id",
        "img",
        "id",
        "name",
    ),
    "label": ("label", "labels", "class", "class_name", "category", "target", "species", "breed", "y", "class_id"),
    "split": ("split", "part", "partition", "subset", "set", "usage"),
}
"""Names of columns that are looked for, the first one first; upper case, spaces and hyphens do not matter."""
TOLD = "--label-columns path=COLUMN,label=COLUMN,split=COLUMN"
_PART = {name: part for part, names in PART_NAMES.items() for name in names}
_TABLES = ("labels", "metadata", "train")
_LONGEST = 60
"""Number of characters of an embedded image's name that its file keeps, the last ones: systems allow 255 bytes."""


@dataclass(frozen=True)
class LabelTable:
    """What a user says about a table: the file, and the columns where their names do not tell."""

    file: str
    columns: str | None = None


@dataclass
class _Row:
    """An image that a table names."""

    file: Path
    label: str
    part: str


@dataclass
class _Table:
    """A table that has been read."""

    file: Path
    rows: "pd.DataFrame"
    """Text, one row an image."""
    part: str | None = None
    """The part that its place tells; None: a column may tell it."""
    columns: dict[str, str] = field(default_factory=dict)
    """path, label and perhaps split -> name of the column."""


def tables_in(folder: Path) -> list[Path]:
    """The tables that tell the labels of a folder's images: in it, in the folders of its parts, or in data/.

    They are called labels, metadata or train, or are parquet files.
    """
    parts = [one for one in subfolders(folder) if one.name.lower() in _PART]
    for stem in _TABLES:
        for places in ([folder], parts):
            named = [[place / (stem + end) for end in ENDINGS] for place in places]
            there = [next((one for one in names if one.is_file()), None) for names in named]
            if any(there):
                return [one for one in there if one is not None]
    for place in (folder, folder / "data"):
        if place.is_dir() and (found := sorted(one for one in place.glob("*.parquet") if not is_litter(one))):
            return found
    return []


def find_labelled(folder: Path, labels: LabelTable | None, *, keep_untested: bool = False) -> Listing:
    """The images of a folder with the labels of a table.

    Args:
        folder: --data-dir, which paths are relative to; where it is missing, the folder of the table.
        labels: the table; None: that of the folder itself, see ``tables_in``.
        keep_untested: whether classes may lack test images.

    Raises:
        LtbenchError: for a table that cannot be read, columns that are not found, images that are missing, named twice
            or outside the folder, labels that are empty, and classes that one part lacks.
    """
    files = _files(folder, labels)
    root = folder if folder.is_dir() else files[0].parent
    told = _told(labels.columns if labels is not None else None)
    if any(file.suffix == ".parquet" for file in files):
        require_pyarrow(files[0].absolute())
    tables = [_read(file, root) for file in files]
    rows: list[_Row] = []
    listing = Listing(root.resolve())
    for table in tables:
        if EMBEDDED in table.rows.columns:
            listing.root = _unpacked(table, files).resolve()
    finder = ImageFinder(listing.root)
    for table in tables:
        _find_columns(table, told, finder)
        rows += _rows(table, finder)
        named = {kind: name for kind, name in table.columns.items() if name not in (kind, told.get(kind))}
        if named and EMBEDDED not in table.rows.columns:
            words = ", ".join(f"{kind} is the column '{name}'" for kind, name in named.items())
            listing.notes.append(f"{table.file.name}: {words}")
    _refuse_repeated(rows, files[0])
    listing.table = _called(files[0], listing.root, told)
    _fill(listing, rows, files[0], keep_untested)
    refuse_twins(listing)
    if finder.walked is not None or len(files) == 1:
        used = {row.file for row in rows}
        listing.skipped += [(one, f"images that {files[0].name} does not name") for one in finder.all() - used]
    return listing


def _called(table: Path, root: Path, told: dict[str, str]) -> str:
    """The name of a labelling: that of the table, with the folders that it lies in and the column that was told."""
    place = table.resolve()
    inner = place.relative_to(root) if place.is_relative_to(root) else Path(place.name)
    words = [*inner.with_suffix("").parts, *([told["label"]] if "label" in told else [])]
    return "-".join(re.sub(r"[^\w.-]+", "_", word) for word in words)


def _files(folder: Path, labels: LabelTable | None) -> list[Path]:
    """The tables: the given one, looked for in the data folder first, or those that are found."""
    if labels is None:
        return tables_in(folder)
    candidates = [folder / labels.file, Path(labels.file)]
    for one in candidates:
        if one.is_file():
            return [one]
        if one.is_dir() and (found := tables_in(one)):
            return found
    near = sorted(one.name for one in folder.iterdir() if one.suffix in ENDINGS) if folder.is_dir() else []
    raise LtbenchError(
        f"the table of labels is not there: {labels.file}",
        where=f"--labels (looked for {candidates[0].absolute()} and {candidates[1].absolute()})",
        hint=f"tables in the folder: {', '.join(near)}" if near else "give a file of CSV, JSON lines or parquet",
    )


def _told(columns: str | None) -> dict[str, str]:
    """The columns of ``--label-columns``: path=..., label=..., split=..., or their names in this order."""
    told = {}
    for kind, item in zip(NAMES, (columns or "").split(","), strict=False):
        name, equals, value = item.partition("=")
        if equals and name.strip() not in NAMES:
            raise unknown("column", name.strip(), NAMES, where="--label-columns")
        if item.strip():
            told[name.strip() if equals else kind] = (value if equals else item).strip()
    if columns and len(columns.split(",")) > len(NAMES):
        raise LtbenchError("there are three columns at most", where="--label-columns", hint=f"write {TOLD}")
    return told


def _read(file: Path, root: Path) -> _Table:
    place = None
    if file.suffix == ".parquet":  # train-00000-of-00003.parquet
        place = _PART.get(re.split(r"[-_.]", file.stem.lower())[0])
    if place is None and file.parent != root and file.parent.is_relative_to(root):  # train/metadata.csv
        place = _PART.get(file.parent.name.lower())
    return _Table(file, rows_of(file), place)


def _unpacked(table: _Table, files: Sequence[Path]) -> Path:
    """Write the images of a parquet file to the cache, under names that stay the same; the folder of all tables."""
    folder = cache_dir() / "unpacked" / stamp(files)
    alike = sum(file.stem == table.file.stem for file in files) > 1  # train/metadata.parquet, test/metadata.parquet
    own = folder / (table.file.parent.name if alike else "") / table.file.stem
    names = [re.split(r"[\\/]", str(name))[-1][-_LONGEST:] or "image" for name in table.rows[EMBEDDED]]
    paths = [own / f"{position:07}" / name for position, name in enumerate(names)]

    def images() -> Iterator[bytes]:
        for position, content in enumerate(embedded_images(table.file)):
            if not content:
                raise LtbenchError(f"row {position} has no image", where=table.file.absolute(), hint="remove the row")
            yield content

    try:
        unpack(paths, images())
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise LtbenchError(f"the images cannot be read: {reason}", where=table.file.absolute()) from None
    table.rows["path"] = [path.relative_to(folder).as_posix() for path in paths]
    table.columns["path"] = "path"
    return folder


def _find_columns(table: _Table, told: dict[str, str], finder: ImageFinder) -> None:
    """Find which column has what, by what the user tells, by the names, or since there is no other."""
    known = [str(name) for name in table.rows.columns if name != EMBEDDED]
    for kind, name in told.items():
        if name not in known:
            raise unknown("column", name, known, where=f"--label-columns, {table.file.absolute()}")
        table.columns[kind] = name
    plain = {re.sub(r"[ -]+", "_", name.strip().lower()): name for name in reversed(known)}
    for kind, names in NAMES.items():
        found = next((plain[name] for name in names if name in plain), None)
        if kind not in table.columns and found is not None and found not in table.columns.values():
            table.columns[kind] = found
    others = [name for name in known if name not in table.columns.values()]
    if "path" not in table.columns:
        first = table.rows.iloc[0]
        like_files, faults = [], []
        for name in others:
            try:
                like_files += [name] if finder(str(first[name]), table.file) is not None else []
            except LtbenchError as error:  # of a column that may hold something else
                faults.append(error)
        if faults and not like_files:
            raise faults[0]
        if len(like_files) == 1:
            table.columns["path"] = like_files[0]
            others.remove(like_files[0])
    if "label" not in table.columns and "path" in table.columns and len(others) == 1:
        table.columns["label"] = others[0]
    for kind, what in (("path", "paths of images"), ("label", "labels")):
        if kind not in table.columns:
            raise LtbenchError(
                f"no column is known to hold the {what}",
                where=table.file.absolute(),
                hint=f"its columns are {', '.join(known)}; say which is which: {TOLD}",
            )


def _rows(table: _Table, finder: ImageFinder) -> Iterator[_Row]:
    """The images of a table.

    Raises:
        LtbenchError: for empty labels, parts of unknown names, and missing files: how many, and the first ones.
    """
    columns = table.columns
    written, labels = table.rows[columns["path"]].tolist(), table.rows[columns["label"]].str.strip().tolist()
    parts = [table.part or "train"] * len(written)
    if "split" in columns:
        names = table.rows[columns["split"]].str.strip().tolist()
        odd = sorted({name for name in names if name.lower() not in _PART})
        if odd:
            shown = ", ".join(repr(name) for name in odd[:SHOWN])
            raise LtbenchError(
                f"the column '{columns['split']}' has parts of unknown names: {shown}",
                where=table.file.absolute(),
                hint=f"known: {', '.join(_PART)}; or leave the column out for a split by ltbench",
            )
        parts = [_PART[name.lower()] for name in names]
    if empty := [path for path, label in zip(written, labels, strict=True) if not label]:
        raise LtbenchError(
            f"{len(empty)} of {len(written)} images have no label: {_few(empty)}",
            where=table.file.absolute(),
            hint="give them a label, or leave them out",
        )
    files = [finder(path, table.file) if path.strip() else None for path in written]
    if missing := [path for path, file in zip(written, files, strict=True) if file is None]:
        raise LtbenchError(
            f"{len(missing)} of {len(written)} images are missing: {_few(missing)}",
            where=table.file.absolute(),
            hint=f"paths are relative to {finder.root.absolute()}; put the images there, or give another --data-dir",
        )
    for file, label, part in zip(files, labels, parts, strict=True):
        assert file is not None
        yield _Row(file, label, part)


def _refuse_repeated(rows: Sequence[_Row], table: Path) -> None:
    counts = Counter(row.file for row in rows)
    repeated = [file.name for file, count in counts.items() if count > 1]
    if repeated:
        raise LtbenchError(
            f"{len(repeated)} images are named more than once: {_few(repeated)}",
            where=table.absolute(),
            hint="leave one line for each image; a label is one class",
        )


def _fill(listing: Listing, rows: Sequence[_Row], table: Path, keep_untested: bool) -> None:
    """Sort the images into parts and classes."""
    by_part = {part: [row for row in rows if row.part == part] for part in PART_NAMES}
    names = {part: {row.label for row in own} for part, own in by_part.items() if own}
    if "train" not in names:
        raise LtbenchError("no image is for training", where=table.absolute(), hint="give some the part train")
    for part, own in names.items():
        only = own - names["train"]
        lacking = names["train"] - own if part == "test" and not keep_untested else set()
        if only or lacking:
            where = f"{part} only" if only else "training only"
            hint = "give each label images of both parts"
            hint += "" if only else "; or train on these classes without testing them: "
            hint += "" if only else "--keep-classes-without-test-images"
            raise LtbenchError(
                f"{len(only or lacking)} labels are in {where}: {_few(_sorted(only or lacking))}",
                where=table.absolute(),
                hint=hint,
            )
    if len(names["train"]) < 2:
        raise LtbenchError(
            "one label found, at least two are needed", where=table.absolute(), hint="give a label for each image"
        )
    listing.classes = tuple(_sorted(names["train"]))
    number = {name: position for position, name in enumerate(listing.classes)}
    for part in names:
        ordered = sorted(by_part[part], key=lambda row: (number[row.label], row.file.as_posix()))
        labels = np.array([number[row.label] for row in ordered], dtype=np.int64)
        listing.parts[part] = ClassFiles([row.file for row in ordered], labels)


def _sorted(names: Iterable[str]) -> list[str]:
    """Names in order: whole numbers by their size, all else as text."""
    names = sorted(names)  # of equal numbers, such as 1 and 01
    return sorted(names, key=int) if all(re.fullmatch(r"-?\d{1,18}", name) for name in names) else names


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
