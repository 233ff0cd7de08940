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
from ltbench.runs.suite import SuiteSetting, distinct, suite_file


def suite_runs(suite: str) -> list[RunConfig]:
    """The runs of a suite.

    Args:
        suite: its name, or a file.
    """
    path = suite_file(suite)
    described, _ = read_runs(path)
    return distinct(expand(described, {}, where=path))


def missing_sentence(suite: str, found: Sequence[SuiteSetting]) -> str:
    """How many settings a suite has and how many of them lack runs.

    Args:
        suite: its name, or a file.
        found: its settings.
    """
    incomplete = [setting for setting in found if setting.missing]
    runs = sum(len(setting.missing) for setting in found)
    if not incomplete:
        return f"{suite}: all {len(found)} settings are complete."
    whole = sum(len(setting.seeds) for setting in found)
    return f"{suite}: {len(incomplete)} of {len(found)} settings lack {runs} of {whole} runs."


def missing_table(suite: str, found: Sequence[SuiteSetting], folders: Sequence[Path]) -> Table | str:
    """The settings of a suite that lack runs, and the command that carries these out; a sentence where none does.

    Args:
        suite: its name, or a file.
        found: its settings.
        folders: of results, of which the first takes the new ones.
    """
    incomplete = [setting for setting in found if setting.missing]
    if not incomplete:
        return missing_sentence(suite, found)
    names = RunNames(resolve(setting.config, find_weights=False).config for setting in found)
    common = f" All: {names.common}." if names.common else ""
    rows = [_row(setting, names) for setting in incomplete]
    header = ["Setting", "Seeds done", "Seeds missing", "Failed"]
    shown = len(header) if any(setting.failed for setting in incomplete) else len(header) - 1
    return Table(
        f"Missing runs of {suite}",
        header[:shown],
        [row[:shown] for row in rows],
        above=[missing_sentence(suite, found) + common, Command(fill_command(suite, found, folders))],
    )


def fill_command(suite: str, found: Sequence[SuiteSetting], folders: Sequence[Path]) -> str:
    """The command that carries out what a suite lacks."""
    folder = [word for setting in found for word in folder_options(setting.config)]
    pairs = dict.fromkeys(zip(folder[::2], folder[1::2], strict=True))  # each once
    out = [] if not folders or folders[0] == DEFAULT_RESULTS else ["--out", str(folders[0])]
    heads = any(setting.config.train == "head" and setting.config.weights is None for setting in found)
    unnamed = any(setting.config.backbone is None for setting in found)
    weights = [*(["--backbone", "NAME"] if unnamed else []), "--weights", "FILE"] if heads else []
    data = [word for pair in pairs for word in pair]
    return shlex.join(["ltbench", "run", "--suite", suite, *data, *weights, *out])


def _row(setting: SuiteSetting, names: RunNames) -> list[str]:
    name = names.setting(resolve(setting.config, find_weights=False).config)
    failed = "; ".join(f"seed {seed}: {reason}" for seed, reason in sorted(setting.failed.items()))
    return [name, seeds_text(setting.done) if setting.done else "none", seeds_text(setting.missing), failed]
