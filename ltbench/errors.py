"""The errors and warnings that a user sees: what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable

from ltbench.printable import printable, printable_name


class LtbenchError(Exception):
    """An error in the user's input or environment. The command line prints it and exits with code 2.

    Control characters, e.g. in a file's name, are printed as escapes.

    Args:
        what: what is wrong, in one sentence.
        where: the file, folder or option at fault.
        hint: what to do about it.
    """

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        lines = [what]
        if where is not None:
            lines.append(f"  where: {printable_name(str(where))}")
        if hint is not None:
            lines.append(f"  to do: {hint}")
        super().__init__(printable("\n".join(lines)))


class SaveError(LtbenchError):
    """A file cannot be written: what stops one run stops the others of a sweep, too."""


class HeldError(LtbenchError):
    """Another process holds a lock."""


class UnsuitableMethodError(LtbenchError):
    """A method cannot be carried out with such settings; ``--method all`` leaves it out."""


def out_of_memory(error: Exception) -> LtbenchError:
    """The error for work that does not fit into the memory of a device."""
    return LtbenchError(
        "out of memory",
        where=next(iter(str(error).splitlines()), None),
        hint="use --checkpoint-activations, --accumulate 2, --shard in several processes, or a smaller --batch-size",
    )


class TrainingFailedError(Exception):
    """Training cannot go on, e.g. the loss is not finite. The run is stored as failed with this reason."""


class _Printable(UserWarning):
    """A message whose control characters, e.g. in a file's name, are printed as escapes."""

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class LtbenchWarning(_Printable):
    """Something legal that the user will probably want to know."""


class LtbenchNotice(_Printable):
    """Something that ltbench has done and the user will want to know, e.g. a file that it has written beside theirs."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class where the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def unknown(kind: str, name: str, known: Iterable[str], *, where: object = None) -> LtbenchError:
    """The error for an unknown name, with the nearest known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.65)
    listed = ", ".join(names[:60]) + (", ..." if len(names) > 60 else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {listed or 'none'}"
    return LtbenchError(f"unknown {kind} '{printable_name(name)}'", where=where, hint=hint)
