"""Tables as files: CSV, JSON lines or parquet, as text, with the images that a parquet file embeds."""

import csv
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltbench.errors import LtbenchError, first_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_DELIMITERS = ",;\t|"
EMBEDDED = "\0names of embedded images"
"""A column that no table has of its own."""
_TOGETHER = 64
"""Images of a parquet file that are in memory at a time."""


def rows_of(file: Path) -> "pd.DataFrame":
    """The rows of a table as text, one row an image.

    Of images that a parquet file embeds the column ``EMBEDDED`` has the names; ``embedded_images`` gives the bytes.

    Raises:
        LtbenchError: if it cannot be read, or has no rows.
    """
    try:
        rows = _parquet(file) if file.suffix == ".parquet" else _text(file)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        reason = first_line(error)
        raise LtbenchError(
            f"the table cannot be read: {reason}",
            where=file.absolute(),
            hint="give CSV in UTF-8 with a first line of column names, JSON lines or parquet",
        ) from None
    if not len(rows):
        raise LtbenchError("the table has no rows", where=file.absolute(), hint="give a line for each image")
    return rows


def _text(file: Path) -> "pd.DataFrame":
    """The rows of CSV or JSON lines as text."""
    import pandas as pd  # not above: names of data sets are listed without it

    if file.suffix in (".jsonl", ".ndjson", ".json"):
        lines = file.read_text(encoding="utf-8-sig").split("\n")  # what else ends a line may stand in a string
        found = [json.loads(line) for line in lines if line.strip()]
        if not all(isinstance(one, dict) for one in found):
            raise ValueError("a line is no JSON object")
        rows = [{key: "" if value is None else str(value) for key, value in one.items()} for one in found]
        return pd.DataFrame(rows).fillna("")
    with file.open(encoding="utf-8-sig") as stream:
        head = stream.readline()
    delimiter = max(_DELIMITERS, key=head.count)
    with warnings.catch_warnings(action="ignore", category=pd.errors.ParserWarning):  # of more fields than names
        table = pd.read_csv(
            file,
            sep=delimiter,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
            on_bad_lines="error",
            index_col=False,
        )
    _refuse_surplus(file, delimiter)
    return table


def _refuse_surplus(file: Path, delimiter: str) -> None:
    """Refuse lines with more fields than there are names, unless these are empty, as after a delimiter at the end.

    Raises:
        ValueError: with the number of the line.
    """
    with file.open(encoding="utf-8-sig", newline="") as stream:
        lines = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
        width = len(next(lines, []))
        for line in lines:
            if any(field.strip() for field in line[width:]):
                raise ValueError(
                    f"line {lines.line_num} has {len(line)} fields for {width} columns; a field with a delimiter in it "
                    "stands in quotes"
                )


def _parquet(file: Path) -> "pd.DataFrame":
    """The rows of a parquet file; of embedded images the names, in ``EMBEDDED``."""
    import pandas as pd  # not above: names of data sets are listed without it
    from pyarrow import parquet

    table, image = without_images(file)
    names: dict[str, list[str]] = {}
    described = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    for column, about in described.get("info", {}).get("features", {}).items():
        if isinstance(about, dict) and about.get("_type") == "ClassLabel" and about.get("names"):
            names[column] = list(about["names"])
    columns: dict[str, Any] = {}
    for column in table.schema:
        values = table[column.name]
        if column.name == image:
            columns[EMBEDDED] = [(one or {}).get("path") or "" for one in values.to_pylist()]
        elif column.name in names:
            own = names[column.name]
            columns[column.name] = ["" if one is None or one < 0 else own[one] for one in values.to_pylist()]
        else:
            columns[column.name] = ["" if one is None else str(one) for one in values.to_pylist()]
    if image is not None and EMBEDDED not in columns:  # bytes alone
        columns[EMBEDDED] = [""] * parquet.read_metadata(file).num_rows
    return pd.DataFrame(columns)


def without_images(file: Path) -> "tuple[pyarrow.Table, str | None]":
    """A parquet file without the bytes of the images that it embeds, which may be more than memory holds.

    Returns:
        The table, and the name of the column of images, of which ``path`` alone is left, if it has one; None for none.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        schema = opened.schema_arrow
        image = next((column.name for column in schema if _holds_images(column.type)), None)
        kept = [column.name for column in schema if not _holds_images(column.type)]
        if image is not None and _has_field(schema.field(image).type, "path"):
            kept.append(f"{image}.path")
        return opened.read(columns=kept), image


def embedded_images(file: Path) -> Iterator[bytes | None]:
    """The bytes of the images that a parquet file embeds, row by row, some in memory at a time; None for a row of none.

    Raises:
        OSError, ValueError: if the file cannot be read.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        column = next(one for one in opened.schema_arrow if _holds_images(one.type))
        inner = f"{column.name}.bytes" if _has_field(column.type, "bytes") else column.name
        for batch in opened.iter_batches(batch_size=_TOGETHER, columns=[inner]):
            for one in batch.column(0):
                value = one.as_py()
                yield (value or {}).get("bytes") if inner != column.name else value


def _holds_images(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind) or _has_field(kind, "bytes")


def _has_field(kind: "pyarrow.DataType", name: str) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and name in {one.name for one in kind}


def require_pyarrow(where: object) -> None:
    """Refuse parquet where pyarrow is not installed.

    Raises:
        LtbenchError: saying what to install.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise LtbenchError(
            "parquet files take pyarrow, which is not installed", where=where, hint="pip install 'ltbench[parquet]'"
        ) from None
