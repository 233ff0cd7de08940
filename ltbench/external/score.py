"""Anybody's predictions as a result: logits or probabilities from a file become a row, without porting the method."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ltbench import registry
from ltbench.config import RunConfig, canonical_json, run_id
from ltbench.data import dataset
from ltbench.data.dataset import Dataset
from ltbench.data.images import named
from ltbench.data.long_tail import IntArray, ShotRule
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.evaluation.measure import measure, of_images
from ltbench.evaluation.predict import Predictions
from ltbench.evaluation.result_parts import data_record
from ltbench.external.alignment import column_order, renumbering, row_order, warn_of_two_orders
from ltbench.external.prediction_file import TRANSPOSED, Given, PredictionFile, open_predictions, read_counts
from ltbench.external.rows import OR_COUNTS, check_row, check_word, declared_recipe, refuse_twice
from ltbench.files import paths
from ltbench.files.paths import DEFAULT_RESULTS, storable_name
from ltbench.results import provenance
from ltbench.results.external import EXTERNAL, SCORED
from ltbench.results.records import DataRecord, MethodRecord
from ltbench.results.schema import Result
from ltbench.results.store import Store


def score(
    file: Path,
    config: RunConfig,
    *,
    data_dir: Path | None = None,
    train_counts: Path | None = None,
    logit_prior: float | None = None,
    transductive: bool = False,
    out: Path = DEFAULT_RESULTS,
) -> tuple[Result, Path]:
    """Measure predictions that were made elsewhere, and store them as a run is stored.

    Args:
        file: NumPy archive, see ``prediction_file.open_predictions``. Classes and images that it names may be in any
            order.
        config: what they are of. ``method`` is the row's name and no registered method's; ``recipe`` is "external", or
            names the recipe that the user says the model was trained under.
        data_dir: folder of the data set.
        train_counts: for a data set that ltbench does not know: its training images by class. The file must have
            labels then.
        logit_prior: exponent of the training prior that is left in the logits (1 for cross entropy, 0 for balanced
            ones); None leaves corrections for other test priors out.
        transductive: whether the model has seen the test images, without labels.
        out: folder of results.

    Returns:
        The result, and where it is stored. Scoring a file again replaces it.

    Raises:
        LtbenchError: if the file is not what it should be, does not fit the data set, or if the name is taken.
    """
    check_row(config.method, logit_prior)
    store = Store(out)
    store.check_writable()
    opened = open_predictions(file)
    if opened.unread:
        known = "logits, probabilities, experts, labels, classes and files"
        message = f"{file.name}: {', '.join(opened.unread)} are not read; what is known: {known}"
        warnings.warn(message, LtbenchWarning, stacklevel=2)
    if train_counts is None:
        config, loaded = _known(config, data_dir or paths.data_dir())
        data, labels = data_record(loaded), loaded.test.labels
        _check_sizes(opened, len(labels), len(data.classes), config.dataset)
        given, alignment = _aligned(
            opened.read(), data.classes, lambda: named(loaded.test, loaded.test_names).names.tolist()
        )
        _check_labels(given, labels, data.classes, config.dataset)
    else:
        given, names, counts = _with_counts(opened, config, train_counts)
        given, alignment = _aligned(given, names, None)
        config, data, labels = _unknown(config, given, names, counts, train_counts)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    checked = "of the file" if train_counts else "not given" if given.labels is None else "equal to the data set's"
    predictions = Predictions(torch.from_numpy(given.logits), torch.from_numpy(given.experts), torch.from_numpy(labels))
    result = Result(
        run_id=run_id(config, f"{SCORED} {digest}", canonical_json(data.fingerprints)),
        status="done",
        config=config,
        data=data,
        method=MethodRecord(revision=SCORED, logit_prior=logit_prior, transductive=transductive, uses={}),
        metrics={"test": measure(predictions.logits, predictions.labels, predictions.experts, data.groups)},
        **of_images(predictions, data, logit_prior=logit_prior, transductive=transductive),
        provenance={
            SCORED: {"file": storable_name(file.name), "sha256": digest, "labels": checked, **alignment}
            | ({"train_counts": storable_name(train_counts.name)} if train_counts else {}),
            "versions": provenance.versions(),
            "git": provenance.git_state(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    refuse_twice(store, config, result.run_id, data.fingerprints)
    predictions.save(paths.cache_dir() / "runs" / result.run_id / "test.npz", run_id=result.run_id)
    return result, store.save(result)


def _known(config: RunConfig, folder: Path) -> tuple[RunConfig, Dataset]:
    """Settings with what the data set fills in, and the data set."""
    source = registry.dataset(config.dataset, where=OR_COUNTS)
    config = config.replace(
        imbalance_ratio=source.imbalance_ratio if config.imbalance_ratio is None else config.imbalance_ratio,
        image_size=config.image_size or source.image_size,
        recipe=declared_recipe(config.recipe, source.recipe_table),
    )
    data = dataset.load(source, config, folder)
    return dataset.effective(config, data), data


def _with_counts(opened: PredictionFile, config: RunConfig, file: Path) -> tuple[Given, list[str], IntArray]:
    """Predictions for a data set that is known by its training counts: they, its classes and its counts."""
    check_word(config.dataset, "--dataset")
    if config.dataset in registry.dataset_names():
        raise LtbenchError(
            f"ltbench has the data set '{config.dataset}' and counts its images itself",
            where="--train-counts",
            hint="leave the option out, or give a data set of your own another name",
        )
    of_data = (
        "labels",
        "label_columns",
        "keep_classes_without_test_images",
        "imbalance_ratio",
        "imbalance",
        "class_order",
        "image_size",
        "data_seed",
    )
    if any(getattr(config, name) != RunConfig.model_fields[name].default for name in of_data):
        raise LtbenchError(
            "the counts say what the data set is", where="--train-counts", hint="leave the other data options out"
        )
    if "labels" not in opened.headers:
        raise LtbenchError(
            f"there are no labels, which ltbench does not have for '{config.dataset}'",
            where=opened.file,
            hint="store them as well: np.savez(FILE, logits=..., labels=...)",
        )
    if isinstance(config.recipe, str) and config.recipe != EXTERNAL and not config.recipe.endswith(".toml"):
        raise LtbenchError(
            "the recipes of ltbench are for its own data sets", where="--recipe", hint="give the recipe as a TOML file"
        )
    names, counts = read_counts(file)
    images, classes = opened.shape
    if classes < len(counts):
        _check_sizes(opened, images, len(counts), config.dataset)
    given = opened.read()
    assert given.labels is not None
    if given.labels.max() >= len(counts):
        raise LtbenchError(
            f"label {given.labels.max()} for {len(counts)} counts, which are of 0 to {len(counts) - 1}", where=file
        )
    _check_sizes(opened, images, len(counts), config.dataset)
    return given, names, counts


def _unknown(
    config: RunConfig, given: Given, names: list[str], counts: IntArray, file: Path
) -> tuple[RunConfig, DataRecord, IntArray]:
    """Settings, record and labels of a data set that is known by its training counts and by the labels in the file."""
    assert given.labels is not None
    shots = ShotRule()
    data = DataRecord(
        fingerprints={"train": _fingerprint(counts), "test": _fingerprint(given.labels)},
        classes=names,
        counts=counts.tolist(),
        trained_on=counts.tolist(),
        shots={"many": shots.many, "few": shots.few},
        groups=shots.groups(counts),
        without_validation=[],
    )
    return config.replace(recipe=declared_recipe(config.recipe, "")), data, given.labels


def _check_sizes(opened: PredictionFile, images: int, classes: int, name: str) -> None:
    """Refuse predictions for other numbers of images and classes, before they are read."""
    theirs, columns = opened.shape
    if (theirs, columns) == (classes, images) and images != classes:
        raise LtbenchError(
            f"predictions for {theirs} images and {columns} classes, but {name} has {images} test images and "
            f"{classes} classes",
            where=opened.file,
            hint=TRANSPOSED,
        )
    if theirs != images:
        raise LtbenchError(
            f"predictions for {theirs} images, but {name} has {images} test images",
            where=opened.file,
            hint=f"predict those that this prints: ltbench data order {name}",
        )
    if columns != classes:
        raise LtbenchError(
            f"{columns} classes, but {name} has {classes}",
            where=opened.file,
            hint="store one column for each of its classes, and none for any other, such as background",
        )


def _aligned(
    given: Given, classes: Sequence[str], images: Callable[[], Sequence[str]] | None
) -> tuple[Given, dict[str, str]]:
    """Predictions in the order of the data set, by the names that the file gives, and what was done with them.

    Args:
        given: the predictions.
        classes: of the data set, in its order.
        images: the names of its test images, in their order; None where they are not known.
    """
    alignment = {}
    columns = rows = None
    if given.classes is not None:
        columns = column_order(given.classes, classes, where=f"{given.file}: classes")
        alignment["classes"] = "as in the data set" if columns is None else "put in the data set's order"
    if given.images is not None:
        if images is None:
            message = "the names of the images are not read: ltbench has none for this data set"
            warnings.warn(message, LtbenchWarning, stacklevel=3)
        else:
            rows = row_order(given.images, images(), where=f"{given.file}: names of the images")
            alignment["images"] = "as in the data set" if rows is None else "put in the data set's order"
    for what, order, first in (("columns", columns, given.classes), ("rows", rows, given.images)):
        if order is not None and first is not None:
            message = f"{given.file.name}: its {what} are in another order than the data set's (the first: {first[0]}) "
            warnings.warn(message + "and were put in that order by their names", LtbenchWarning, stacklevel=3)
    # Labels show the order of the columns where ltbench has labels, too, but not whether counts have the same order.
    unchecked = given.labels is None or (images is None and list(classes) != [str(i) for i in range(len(classes))])
    if given.classes is None and unchecked:
        warn_of_two_orders(classes, given.file, "store classes=..., the names in the columns' order")
    return (given if columns is None and rows is None else given.take(rows=rows, columns=columns)), alignment


def _check_labels(given: Given, labels: IntArray, classes: Sequence[str], name: str) -> None:
    """Refuse predictions whose labels are not those of the data set's test images in their order."""
    if given.labels is None or np.array_equal(given.labels, labels):
        return
    first = int(np.flatnonzero(given.labels != labels)[0])
    theirs, ours = int(given.labels[first]), int(labels[first])
    where = f"{given.file}: image {first} is of class '{classes[theirs]}' (label {theirs}) there, and of class "
    where += f"'{classes[ours]}' (label {ours}) in {name}"
    numbers = renumbering(given.labels, labels)
    if numbers is not None and given.classes is None:
        raise LtbenchError(
            f"the classes are in another order than in {name}: what the file calls {theirs} is class '{classes[ours]}'",
            where=where,
            hint="store the names in the order of the columns: np.savez(FILE, logits=..., labels=..., classes=...)",
        )
    if numbers is not None:
        raise LtbenchError(
            "the labels do not count the classes as the file's own list of classes does",
            where=where,
            hint="store as labels the columns of the true classes",
        )
    same = np.array_equal(np.sort(given.labels), np.sort(labels))
    raise LtbenchError(
        f"the labels are those of {name}'s test images in another order"
        if same
        else f"the labels are not those of {name}'s test images",
        where=where,
        hint=f"predict in the order that this prints: ltbench data order {name}; or store files=..., its images' names",
    )


def _fingerprint(values: NDArray[np.int64]) -> str:
    return hashlib.blake2b(values.astype("<i8").tobytes(), digest_size=8).hexdigest()
