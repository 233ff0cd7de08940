"""What a suite lacks in a folder of results, as a table, with the command that fills it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ltbench.cli.reproduce import folder_options
from ltbench.config import RunConfig
from ltbench.files.paths import DEFAULT_RESULTS
from ltbench.report.commands import seeds_text
from ltbench.report.table import Command, Table
from ltbench.runs.resolve import resolve
from ltbench.runs.run_list import expand, read_runs
from ltbench.runs.run_names import RunNames
from ltbench.runs.suite import Cell, distinct, suite_file


def suite_runs(suite: str) -> list[RunConfig]:
    """The runs of a suite.

    Args:
        suite: its name, or a file.
    """
    path = suite_file(suite)
    described, _ = read_runs(path)
    return distinct(expand(described, {}, where=path))


def missing_sentence(suite: str, found: Sequence[Cell]) -> str:
    """How many cells a suite has and how many of them lack runs.

    Args:
        suite: its name, or a file.
        found: its cells.
    """
    open_cells = [cell for cell in found if cell.missing]
    runs = sum(len(cell.missing) for cell in found)
    if not open_cells:
        return f"{suite}: all {len(found)} cells are complete."
    whole = sum(len(cell.seeds) for cell in found)
    return f"{suite}: {len(open_cells)} of {len(found)} cells lack {runs} of {whole} runs."


def missing_table(suite: str, found: Sequence[Cell], folders: Sequence[Path]) -> Table | str:
    """The cells of a suite that lack runs, and the command that carries these out; a sentence where none does.

    Args:
        suite: its name, or a file.
        found: its cells.
        folders: of results, of which the first takes the new ones.
    """
    open_cells = [cell for cell in found if cell.missing]
    if not open_cells:
        return missing_sentence(suite, found)
    names = RunNames(resolve(cell.config, find_weights=False).config for cell in found)
    common = f" All: {names.common}." if names.common else ""
    rows, header = [_row(cell, names) for cell in open_cells], ["Cell", "Seeds done", "Seeds missing", "Failed"]
    shown = len(header) if any(cell.failed for cell in open_cells) else len(header) - 1
    return Table(
        f"Missing runs of {suite}",
        header[:shown],
        [row[:shown] for row in rows],
        above=[missing_sentence(suite, found) + common, Command(fill_command(suite, found, folders))],
    )


def fill_command(suite: str, found: Sequence[Cell], folders: Sequence[Path]) -> str:
    """The command that carries out what a suite lacks."""
    folder = [word for cell in found for word in folder_options(cell.config)]
    pairs = dict.fromkeys(zip(folder[::2], folder[1::2], strict=True))  # each once
    out = [] if not folders or folders[0] == DEFAULT_RESULTS else ["--out", str(folders[0])]
    heads = any(cell.config.train == "head" and cell.config.weights is None for cell in found)
    unnamed = any(cell.config.backbone is None for cell in found)
    weights = [*(["--backbone", "NAME"] if unnamed else []), "--weights", "FILE"] if heads else []
    data = [word for pair in pairs for word in pair]
    return shlex.join(["ltbench", "run", "--suite", suite, *data, *weights, *out])


def _row(cell: Cell, names: RunNames) -> list[str]:
    name = names.setting(resolve(cell.config, find_weights=False).config)
    failed = "; ".join(f"seed {seed}: {reason}" for seed, reason in sorted(cell.failed.items()))
    return [name, seeds_text(cell.done) if cell.done else "none", seeds_text(cell.missing), failed]
