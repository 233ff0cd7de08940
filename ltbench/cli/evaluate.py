"""ltbench evaluate."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ltbench.cli.options import MethodsDir, ResultFolders, add_methods
from ltbench.cli.output import echo, echo_stderr, getting_ready, write_output
from ltbench.errors import LtbenchError, unknown
from ltbench.files.paths import DEFAULT_RESULTS

if TYPE_CHECKING:
    from ltbench.cli.evaluate_table import Row
    from ltbench.data.label_shift import LabelShift
    from ltbench.data.long_tail import ShotRule
    from ltbench.results.schema import Result

Found = tuple[Path, "Result"] | LtbenchError


def evaluate(
    runs: Annotated[list[str] | None, typer.Argument(help="Run ids, their first digits, or result files")] = None,
    results: ResultFolders = None,
    every: Annotated[bool, typer.Option("--all", help="Evaluate every finished run of the results folders")] = False,
    bins: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Number of bins of ECE and MCE  [default: 15]")
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            metavar="MANY,FEW",
            help="Shot rule: classes with more training images than MANY are many-shot, with fewer than FEW few-shot  "
            "[default: 100,20]",
        ),
    ] = None,
    temperature: Annotated[
        bool,
        typer.Option(
            "--temperature",
            help="Scale logits by the temperature fitted on validation images for the class prior of the test set",
        ),
    ] = False,
    test_prior: Annotated[
        str | None,
        typer.Option(
            help="Test set of another class prior: uniform, forward-N or backward-N with N = 50, 25, 10, 5, 2  "
            "[default: the whole test set]"
        ),
    ] = None,
    prior: Annotated[
        Literal["unknown", "known", "estimated"],
        typer.Option(
            help="Correct predictions for the test set's class prior: known, or estimated from its unlabelled images"
        ),
    ] = "unknown",
    store: Annotated[
        bool, typer.Option("--store", help="Add metrics that older results lack; existing metrics stay as they are")
    ] = False,
    style: Annotated[Literal["text", "md", "csv", "json"], typer.Option("--format", help="Output format")] = "text",
    methods_dir: MethodsDir = None,
) -> None:
    """Evaluate finished runs again from stored logits.

    Bins, shot rule, temperature and test prior may be others than when the run was stored.
    """
    add_methods(methods_dir)
    rule, distribution = _shot_rule(shots), _distribution(test_prior)
    chosen = list(_chosen(runs or [], results or [DEFAULT_RESULTS], every))
    if not any(isinstance(found, tuple) for _, found in chosen):
        raise _none_found(chosen)
    with getting_ready("evaluate"):
        from ltbench.cli import evaluate_table
        from ltbench.evaluation import reevaluate

    view = reevaluate.EvaluationSettings(
        **({} if bins is None else {"bins": bins}),
        shots=rule,
        temperature=temperature,
        distribution=distribution,
        prior=prior,
    )
    if store and (view != reevaluate.EvaluationSettings() or style != "text"):
        raise LtbenchError(
            "--store adds the metrics that a run stores itself, and no others",
            where="--store",
            hint="leave out the options that change metrics or their format",
        )
    rows: list[Row] = []
    failures: dict[str, list[str]] = defaultdict(list)
    count = filled = 0
    for name, found in chosen:
        count += 1
        try:
            if isinstance(found, LtbenchError):
                raise found
            if store:
                filled += _fill_in(found[0])
            else:
                rows.append(evaluate_table.row(found[1], reevaluate.evaluate(*found, view), view))
        except LtbenchError as error:
            failures[str(error)].append(name)
    if store:
        failed = sum(map(len, failures.values()))
        echo(f"{filled} of {count} results completed, {count - filled - failed} were complete")
    elif rows:
        _print(rows, style)
    if failures:
        raise _not_evaluated(failures, count)


def _none_found(chosen: "list[tuple[str, Found]]") -> LtbenchError:
    failures: dict[str, list[str]] = defaultdict(list)
    for name, found in chosen:
        failures[str(found)].append(name)
    if failures:
        return _not_evaluated(failures, len(chosen))
    return LtbenchError(
        "there is no finished run to evaluate", where="--all", hint="name another folder with --results"
    )


def _not_evaluated(failures: dict[str, list[str]], count: int) -> LtbenchError:
    """Say why runs could not be evaluated.

    Args:
        failures: reason -> names of runs.
        count: number of all runs.
    """
    for message, names in failures.items():
        echo_stderr(f"not evaluated: {', '.join(names)}: {message}")
    failed = sum(map(len, failures.values()))
    return LtbenchError(f"{failed} of {count} runs could not be evaluated; the messages above say why")


def _chosen(names: list[str], folders: list[Path], every: bool) -> Iterator[tuple[str, Found]]:
    """The runs to evaluate, by name; an error in place of one that cannot be read."""
    from ltbench.report.collection import collect, shown
    from ltbench.report.find import find_run

    if every == bool(names):
        raise LtbenchError(
            "either runs or --all must be given",
            where="ltbench evaluate",
            hint="name runs, or give --all for every one",
        )
    if every:
        collection = collect(folders)
        yield from (("a result file", LtbenchError(problem)) for problem in collection.left_out)
        for name, result in collection.results.items():
            if result.test is not None:
                yield name, (collection.paths[name], result)
    for name in names:
        try:
            result, path = find_run(name, folders)
        except LtbenchError as error:
            yield name, error
        else:
            yield result.run_id, (path, shown(result))


def _fill_in(path: Path) -> bool:
    """Add to a result file what it lacks; returns whether anything was added."""
    from ltbench.evaluation import reevaluate
    from ltbench.results.store import content_of, parsed, replace_unchanged

    before = content_of(path)
    result = parsed(before, path)  # as it is, and not as a report shows it
    whole, added = reevaluate.filled_in(result, reevaluate.load(path, result))
    if added:
        replace_unchanged(path, before, whole)
        echo(f"{path}: added {', '.join(added)}")
    return bool(added)


def _print(rows: "list[Row]", style: str) -> None:
    from ltbench.cli import evaluate_table
    from ltbench.report.terminal import Terminal

    if style == "text":
        evaluate_table.show(rows, Terminal())
    else:
        write_output(evaluate_table.render(rows, style), None)


def _shot_rule(text: str | None) -> "ShotRule | None":
    from ltbench.data.long_tail import ShotRule

    if text is None:
        return None
    try:
        many, few = map(int, text.split(","))
    except ValueError:
        many, few = -1, 0
    if not 0 <= few <= many < 2**31:  # more images than any class has
        shown = text if len(text) <= 100 else f"{text[:100]}..."
        raise LtbenchError(
            f"'{shown}' is no shot rule",
            where="--shots",
            hint="write MANY,FEW, e.g. 100,20: many-shot > 100 training images, few-shot < 20",
        )
    return ShotRule(many, few)


def _distribution(name: str | None) -> "LabelShift | None":
    from ltbench.data.label_shift import DISTRIBUTIONS

    known = {distribution.name: distribution for distribution in DISTRIBUTIONS}
    if name is not None and name not in known:
        raise unknown("test prior", name, known, where="--test-prior")
    return known[name] if name is not None else None
