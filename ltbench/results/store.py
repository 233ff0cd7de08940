"""The result of a run and the folder of results: one JSON file a run, written whole, readable without ltbench."""

import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.files.atomic import write_text
from ltbench.files.lock import exclusive
from ltbench.files.paths import dataset_folder
from ltbench.printable import printable_name
from ltbench.results.schema import Result

LARGEST_FILE = 64 * 2**20
"""Bytes of a result file; ImageNet-21k with ten experts takes 10 MB."""
_MESSAGE_AFTER = 60.0
"""Seconds of waiting for others that save a result, without a message: a crowd of them takes its time."""
LOCK = ".lock"
"""Name of the lock file of a results folder, held while a result is saved."""


class Store:
    """A folder of results: ``<data set>/<method>/<run id>.json``.

    Args:
        folder: its root; made when the first result is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, config: RunConfig, run_id: str) -> Path:
        """The path of a run's result."""
        return self.folder / dataset_folder(config.dataset) / config.method / f"{run_id}.json"

    def get(self, config: RunConfig, run_id: str) -> Result | None:
        """The stored result, whatever its status; None if there is none."""
        path = self.path(config, run_id)
        return read(path) if path.exists() else None

    def save(self, result: Result, *, replace: bool = True) -> Path:
        """Write a result, unless a better one of the same run is stored.

        To look at what is there and to write is one step: other processes that save into this folder wait. Where a
        network folder takes locks and ignores them, a first result that is not done still replaces none that is.

        Args:
            result: of any status. One that is not done never replaces one that is.
            replace: whether it replaces one that is done, if it is done itself. If not, it does so only where the
                stored one has other settings or no figures of the test set: what is done is written once.
        """
        path = self.path(result.config, result.run_id)
        hint = "make the folder writable or choose another with --out"
        with exclusive(self.folder / LOCK, "saving a result", message_after=_MESSAGE_AFTER, hint=hint):
            may_replace = result.status == "done" or path.exists()
            if _gives_way(path, result, replace):
                write(path, result, replace=may_replace)
        return path

    def check_writable(self) -> None:
        """Fail before the work rather than after it.

        Raises:
            LtbenchError: if results cannot be saved here.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise LtbenchError(
                f"results cannot be saved: {error.strerror}",
                where=self.folder.absolute(),
                hint="make the folder writable or choose another with --out",
            ) from None


def _gives_way(path: Path, new: Result, replace: bool) -> bool:
    """Whether what is stored at a path, if anything, is to be replaced by a result."""
    if not path.exists() or (new.status == "done" and replace):
        return True
    try:
        stored = read(path)
    except LtbenchError:
        if new.status == "done":  # damaged since the run began: better than to lose what has been trained
            return True
        raise
    if stored.status != "done" or new.status != "done":
        return stored.status != "done"
    return stored.config != new.config or (stored.test is None and new.test is not None)


def replace_unchanged(path: Path, before: bytes, result: Result) -> None:
    """Write a result in the place of the one that it was made of.

    Args:
        path: of both.
        before: the content of the file, as it was read.
        result: what takes its place.

    Raises:
        LtbenchError: if the file has other content now, e.g. since the run has been carried out again.
    """
    folder = folder_of(path, result.config)
    hint = "make the folder writable"
    with exclusive(folder / LOCK, "saving a result", message_after=_MESSAGE_AFTER, hint=hint):
        if content_of(path) != before:
            raise LtbenchError("the result has changed meanwhile", where=path, hint="give the command again")
        write(path, result)


def folder_of(path: Path, config: RunConfig) -> Path:
    """The folder that a result was saved under, ``<data set>/<method>/<run id>.json`` below it; else that of the file.

    Args:
        path: of the result.
        config: of its run.
    """
    return path.parents[2] if path.parts[-3:-1] == (dataset_folder(config.dataset), config.method) else path.parent


def write(path: Path, result: Result, *, replace: bool = True) -> bool:
    """Write a result file, whole or not at all; not over another one if it must not ``replace`` it."""
    return write_text(path, result.model_dump_json(indent=1) + "\n", replace=replace)


def read(path: Path) -> Result:
    """Read a result file.

    Raises:
        LtbenchError: if it is damaged, contradicts itself, is of another schema, or no result at all.
    """
    return parsed(content_of(path), path)


def parsed(content: bytes, path: Path, without: Sequence[str] = ()) -> Result:
    """The result that a file has; see ``read``.

    Args:
        content: of the file.
        path: of the file, for messages.
        without: fields to leave at their defaults; to skip ``curve`` and ``shift`` saves a quarter of the time and
            half of the memory.
    """
    try:
        if without:
            with suppress(ValidationError):  # perhaps ltbench has not written it: then it is read whole
                return Result.model_validate_json(_cut(content, without))
        return Result.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:_LONGEST]
        message = first["msg"].removeprefix("Value error, ")
        raise LtbenchError(
            printable_name(f"not a valid result: {place or 'the file'}: {message}"),
            where=path,
            hint="restore the file, or delete it and run again",
        ) from None


def read_field(path: Path, name: str) -> Any:
    """The value of one field of a result file, the rest of which is not looked at where ltbench has written it.

    Raises:
        LtbenchError: see ``read``.
    """
    content = content_of(path)
    if (place := _place(content, name)) is not None:
        with suppress(ValidationError):
            return _field(name).validate_json(
                content[place.start + len(_opening(name)) : place.stop].removesuffix(b",")
            )
    return getattr(parsed(content, path), name)


@cache
def _field(name: str) -> TypeAdapter[Any]:
    annotation: Any = Result.model_fields[name].annotation
    return TypeAdapter(annotation)


def _cut(content: bytes, fields: Sequence[str]) -> bytes:
    """The JSON of a result without the values of some fields, if it has the lines that ``write`` makes of it."""
    for name in fields:
        if (place := _place(content, name)) is not None:
            content = content[: place.start] + content[place.stop :]
    return content


def _place(content: bytes, name: str) -> slice | None:
    """Where a field of a result stands in its JSON, the comma after it included; None for the last one, and if unknown.

    A field of the result begins a line after one space, as ``write`` makes it. No text holds such a beginning of a
    line: within JSON's strings, a line break is written as an escape.
    """
    start = content.find(_opening(name))
    end = content.find(b'\n "', start + 1) if start >= 0 else -1
    return slice(start, end) if end >= 0 else None


def _opening(name: str) -> bytes:
    return b'\n "%s": ' % name.encode()


_LONGEST = 200
"""Largest number of characters of a place in a file that a message names."""


def content_of(path: Path) -> bytes:
    """The bytes of a result file, which must be a regular one: a pipe might keep the reader waiting for ever.

    Raises:
        LtbenchError: if it cannot be read, is no regular file, or is too large for a result.
    """
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            kind = "Is a directory" if stat.S_ISDIR(about.st_mode) else "Not a regular file"
            raise LtbenchError(f"cannot read the result: {kind}", where=path)
        if about.st_size > LARGEST_FILE:
            size = f"{about.st_size / 2**20:.0f} MiB, more than {LARGEST_FILE // 2**20}"
            raise LtbenchError(f"not a valid result: the file has {size}", where=path)
        content = os.read(handle, about.st_size + 1)
        while len(content) < about.st_size and (more := os.read(handle, about.st_size)):
            content += more
        return content
    except OSError as error:
        raise LtbenchError(f"cannot read the result: {error.strerror}", where=path) from None
    finally:
        if handle is not None:
            os.close(handle)
