"""ltbench evaluate, score and data order: figures from logits, a run's or anybody's."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ltbench.cli.options import (
    DataDir,
    DataSeed,
    ImageSize,
    KeepUntested,
    MethodsDir,
    Ratio,
    ResultFolders,
    add_methods,
    data_folder,
    emit,
    given,
    say,
    tell,
)
from ltbench.errors import LtbenchError, unknown

if TYPE_CHECKING:
    from ltbench.cli.evaluation_table import Row
    from ltbench.data.label_shift import LabelShift
    from ltbench.data.long_tail import ShotRule
    from ltbench.results.schema import Result

Found = tuple[Path, "Result"] | LtbenchError


def evaluate(
    runs: Annotated[list[str] | None, typer.Argument(help="Run ids, first digits of them, or result files")] = None,
    results: ResultFolders = None,
    every: Annotated[bool, typer.Option("--all", help="Every finished run of the results folders")] = False,
    bins: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Of the calibration errors  [default: 15]")
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(metavar="MANY,FEW", help="More training images are many-shot, fewer few-shot  [default: 100,20]"),
    ] = None,
    temperature: Annotated[
        bool,
        typer.Option(
            "--temperature",
            help="Scale logits by the temperature fitted on validation images for the test set's class frequencies; "
            "those of a drawn one count only as far as --prior says",
        ),
    ] = False,
    test_prior: Annotated[
        str | None,
        typer.Option(help="Test set to draw: uniform, or forward- or backward- with 50, 25, 10, 5, 2  [default: all]"),
    ] = None,
    prior: Annotated[
        Literal["unknown", "known", "estimated"],
        typer.Option(help="What is known of the test set's class frequencies; predictions are corrected for them"),
    ] = "unknown",
    store: Annotated[
        bool, typer.Option("--store", help="Fill in what older results lack; their figures stay as they are")
    ] = False,
    style: Annotated[Literal["text", "md", "csv", "json"], typer.Option("--format", help="Of the output")] = "text",
    methods_dir: MethodsDir = None,
) -> None:
    """Evaluate stored runs again from their logits, without training: other bins, shots, temperature, test priors."""
    from ltbench.cli import evaluation_table
    from ltbench.evaluation import reevaluate

    add_methods(methods_dir)
    view = reevaluate.View(
        **({} if bins is None else {"bins": bins}),
        shots=_shot_rule(shots),
        temperature=temperature,
        distribution=_distribution(test_prior),
        prior=prior,
    )
    if store and (view != reevaluate.View() or style != "text"):
        raise LtbenchError(
            "a result keeps the figures that a run stores itself, and no others",
            where="--store",
            hint="leave out the options that change or print figures",
        )
    rows: list[Row] = []
    failures: dict[str, list[str]] = defaultdict(list)
    count = filled = 0
    for name, found in _chosen(runs or [], results or [Path("results")], every):
        count += 1
        try:
            if isinstance(found, LtbenchError):
                raise found
            if store:
                filled += _fill_in(found[0])
            else:
                rows.append(evaluation_table.row(found[1], reevaluate.evaluate(*found, view), view))
        except LtbenchError as error:
            failures[str(error)].append(name)
    failed = sum(map(len, failures.values()))
    if store:
        tell(f"{filled} of {count} results filled in, {count - filled - failed} lacked nothing")
    elif rows:
        _print(rows, style)
    for message, names in failures.items():
        say(f"not evaluated: {', '.join(names)}: {message}")
    if failed:
        raise LtbenchError(f"{failed} of {count} runs could not be evaluated; see above")
    if not count:
        raise LtbenchError("there is no finished run to evaluate", where="--all", hint="see --results")


def score(
    file: Annotated[
        Path,
        typer.Argument(
            help="NumPy archive: logits or probabilities (N, C); perhaps labels (N,), experts (M, N, C), and the names "
            "classes (C,) and files (N,), by which columns and rows are put in order"
        ),
    ],
    name: Annotated[str, typer.Option(help="Of the row; no method of ltbench")],
    dataset: Annotated[str, typer.Option(help="Data set; one that ltbench does not have needs --train-counts")],
    imbalance_ratio: Ratio = None,
    data_dir: DataDir = None,
    data_seed: DataSeed = None,
    image_size: ImageSize = None,
    keep_classes_without_test_images: KeepUntested = None,
    train_counts: Annotated[
        Path | None, typer.Option(help="Training images by class, a line or JSON entry a class in label order")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="Recipe or TOML file that it was trained under, to stand beside rows of that recipe")
    ] = "external",
    seed: Annotated[int, typer.Option(help="Of the training run, to tell its repetitions apart")] = 0,
    logit_prior: Annotated[
        float | None,
        typer.Option(
            help="Exponent of the training prior left in the logits, 1 for cross entropy, 0 balanced; "
            "without it no figures with a corrected prior"
        ),
    ] = None,
    transductive: Annotated[
        bool, typer.Option("--transductive", help="It has seen the test images, without their labels")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of results")] = Path("results"),
) -> None:
    """Make a row of predictions that ltbench has not made. The order of images: ltbench data order."""
    from ltbench.cli import console
    from ltbench.config import RunConfig, validated
    from ltbench.external.score import score as measured

    settings = given(
        imbalance_ratio=imbalance_ratio, data_seed=data_seed, image_size=image_size,
        keep_classes_without_test_images=keep_classes_without_test_images,
    )  # fmt: skip
    config = validated(RunConfig, {**settings, "method": name, "dataset": dataset, "recipe": recipe, "seed": seed})
    result, path = measured(
        file, config, data_dir=data_folder(data_dir), train_counts=train_counts, logit_prior=logit_prior,
        transductive=transductive, out=out,
    )  # fmt: skip
    about = result.provenance["scored"]
    if about["labels"] == "not given" and "images" not in about:
        say("ltbench: note: the file has neither labels nor names of images: their order could not be checked")
    console.out.print(console.line(result, path))


def order(
    name: str,
    part: Annotated[
        Literal["test", "train", "validation"],
        typer.Option(help="Images to list; train: the long-tailed ones; validation: those that --validation holds out"),
    ] = "test",
    data_dir: DataDir = None,
    imbalance_ratio: Ratio = None,
    data_seed: DataSeed = None,
    image_size: ImageSize = None,
    keep_classes_without_test_images: KeepUntested = None,
    output: Annotated[Path | None, typer.Option(help="File to write  [default: standard output]")] = None,
) -> None:
    """Print the images of a data set in the order that ltbench score takes: label, class, image, as CSV."""
    from ltbench.external.image_order import image_order

    if part == "test" and (imbalance_ratio is not None or data_seed is not None):
        raise LtbenchError(
            "the test images do not depend on the imbalance of the training images",
            where="--imbalance-ratio, --data-seed",
            hint="leave them out, or add --part train",
        )
    found = image_order(
        name,
        data_folder(data_dir),
        image_size,
        part,
        imbalance_ratio,
        data_seed or 0,
        keep_untested=bool(keep_classes_without_test_images),
    )
    text = found.to_csv(index=False, lineterminator="\n")
    emit(text, output)


def _chosen(names: list[str], folders: list[Path], every: bool) -> Iterator[tuple[str, Found]]:
    """The runs that are asked for by name, each with what is wrong where it cannot be read."""
    from ltbench.report.collection import collect, shown
    from ltbench.report.find import find_run

    if every == bool(names):
        raise LtbenchError("name the runs to evaluate, or give --all for every one", where="ltbench evaluate")
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
    """Add to a result file what it lacks; whether there was anything."""
    from ltbench.evaluation import reevaluate
    from ltbench.results.store import read, write

    result = read(path)  # as it is, and not as a report shows it
    whole, added = reevaluate.filled_in(result, reevaluate.load(path, result))
    if added:
        write(path, whole)
        tell(f"{path}: added {', '.join(added)}")
    return bool(added)


def _print(rows: "list[Row]", style: str) -> None:
    from ltbench.cli import evaluation_table
    from ltbench.report.terminal import Terminal

    if style == "text":
        evaluation_table.show(rows, Terminal())
    else:
        emit(evaluation_table.render(rows, style), None)


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
            f"'{shown}' is no shot rule", where="--shots", hint="write MANY,FEW, e.g. 100,20: many > 100, few < 20"
        )
    return ShotRule(many, few)


def _distribution(name: str | None) -> "LabelShift | None":
    from ltbench.data.label_shift import DISTRIBUTIONS

    known = {distribution.name: distribution for distribution in DISTRIBUTIONS}
    if name is not None and name not in known:
        raise unknown("test prior", name, known, where="--test-prior")
    return known[name] if name is not None else None
