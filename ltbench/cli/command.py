"""The class of all commands: what it refuses, how help groups options, and that only ltbench ends the process."""

import math
import traceback
from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand

from ltbench.errors import LtbenchError


class Command(TyperCommand):
    """A command that refuses empty values and numbers that are not finite, and that other code cannot end."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line.

        Raises:
            typer.BadParameter: also for an empty value, which as a path would mean the current folder, and for NaN and
                infinity.
        """
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for param in self.params:
            if "" in _several(given.get(str(param.name))):
                raise _refusal(ctx, param.opts, "it is empty; leave it out, or write . for the current folder")
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # pydantic's words, which say nothing
            raise
        for param in self.params:
            for value in _several(ctx.params.get(str(param.name))):
                if isinstance(value, float) and not math.isfinite(value):
                    raise _refusal(ctx, param.opts, f"{value} is no finite number")
        return list(rest)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options into the help, options in their groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            usual = "Arguments" if param.param_type_name == "argument" else "Options"
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def invoke(self, ctx: Any) -> Any:
        """Carry out the command.

        Raises:
            LtbenchError: also where code that ltbench calls, a method file's perhaps, wants to end the process.
        """
        try:
            return super().invoke(ctx)
        except SystemExit as ended:
            last = traceback.extract_tb(ended.__traceback__)[-1]
            raise LtbenchError(
                f"code that ltbench calls wants to end the process: sys.exit({ended.code!r})",
                where=f"{last.filename}, line {last.lineno}",
                hint="raise an error there instead",
            ) from None


def _refusal(ctx: Any, names: list[str], words: str) -> typer.BadParameter:
    return typer.BadParameter(words, ctx=ctx, param_hint=f"'{'/'.join(names)}'")


def _several(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else (value,)
