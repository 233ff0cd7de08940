"""Anybody's predictions as a result: logits or probabilities from a file become a row, without porting the method."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ltbench import places, provenance, registry
from ltbench.config import RunConfig, canonical_json, run_id
from ltbench.data import dataset
from ltbench.data.longtail import Labels, ShotRule
from ltbench.errors import LtbenchError, unknown
from ltbench.evaluate.measure import measure, of_images
from ltbench.evaluate.predict import Predictions
from ltbench.external.prediction_file import Given, read_counts, read_predictions
from ltbench.external.rows import EXTERNAL, SCORED, check_row, check_word, declared_recipe, refuse_twice
from ltbench.records import data_record
from ltbench.store import DataRecord, MethodRecord, Result, Store


def score(
    file: Path,
    config: RunConfig,
    *,
    data_dir: Path | None = None,
    train_counts: Path | None = None,
    logit_prior: float | None = None,
    transductive: bool = False,
    out: Path = Path("results"),
) -> tuple[Result, Path]:
    """Measure predictions that were made elsewhere, and store them as a run is stored.

    Args:
        file: NumPy archive, see ``prediction_file.read_predictions``.
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
    given = read_predictions(file)
    if train_counts is None:
        config, data, labels = _known(config, data_dir or places.data_dir())
        _check_order(given, labels, config.dataset)
    else:
        config, data, labels = _unknown(config, given, train_counts)
    if given.logits.shape[1] != len(data.classes):
        raise LtbenchError(f"{given.logits.shape[1]} classes, but {config.dataset} has {len(data.classes)}", where=file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
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
            SCORED: {"file": file.name, "sha256": digest, "labels": checked}
            | ({"train_counts": train_counts.name} if train_counts else {}),
            "versions": provenance.versions(),
            "git": provenance.git_state(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    refuse_twice(store, config, result.run_id, data.fingerprints)
    predictions.save(places.cache_dir() / "runs" / result.run_id / "test.npz", run_id=result.run_id)
    return result, store.save(result)


def _known(config: RunConfig, folder: Path) -> tuple[RunConfig, DataRecord, Labels]:
    """Settings with what the data set fills in, its record, and the labels of its test images."""
    if config.dataset not in registry.dataset_names():
        where = "--dataset (for one that ltbench does not have, give --train-counts FILE too)"
        raise unknown("data set", config.dataset, registry.dataset_names(), where=where)
    source = registry.dataset(config.dataset)
    config = config.replace(
        imbalance_ratio=source.imbalance_ratio if config.imbalance_ratio is None else config.imbalance_ratio,
        image_size=config.image_size or source.image_size,
        recipe=declared_recipe(config.recipe, source.recipe_table),
    )
    data = dataset.load(source, config, folder)
    return dataset.effective(config, data), data_record(data), data.test.labels


def _unknown(config: RunConfig, given: Given, file: Path) -> tuple[RunConfig, DataRecord, Labels]:
    """The same for a data set that is known by its training counts and by the labels in the file."""
    check_word(config.dataset, "--dataset")
    if config.dataset in registry.dataset_names():
        raise LtbenchError(
            f"ltbench has the data set '{config.dataset}' and counts its images itself",
            where="--train-counts",
            hint="leave the option out, or give a data set of your own another name",
        )
    if config.imbalance_ratio is not None or config.image_size is not None or config.data_seed:
        raise LtbenchError(
            "the counts say what the data set is", where="--train-counts", hint="leave the other data options out"
        )
    if given.labels is None:
        raise LtbenchError(
            f"there are no labels, which ltbench does not have for '{config.dataset}'",
            where=given.file,
            hint="store them as well: np.savez(FILE, logits=..., labels=...)",
        )
    if isinstance(config.recipe, str) and config.recipe != EXTERNAL and not config.recipe.endswith(".toml"):
        raise LtbenchError(
            "ltbench's recipes are for its own data sets", where="--recipe", hint="give the recipe as a TOML file"
        )
    names, counts = read_counts(file)
    if given.labels.max() >= len(counts):
        raise LtbenchError(
            f"label {given.labels.max()} for {len(counts)} counts, which are of 0 to {len(counts) - 1}", where=file
        )
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


def _check_order(given: Given, labels: Labels, name: str) -> None:
    """Refuse predictions that are not of the data set's test images in their order."""
    if len(given.logits) != len(labels):
        raise LtbenchError(
            f"predictions for {len(given.logits)} images, but {name} has {len(labels)} test images", where=given.file
        )
    if given.labels is None or np.array_equal(given.labels, labels):
        return
    first = int(np.flatnonzero(given.labels != labels)[0])
    same = np.array_equal(np.sort(given.labels), np.sort(labels))
    raise LtbenchError(
        f"the labels are those of {name}'s test images in another order"
        if same
        else f"the labels are not those of {name}'s test images",
        where=f"{given.file}: image {first} is of class {given.labels[first]} here and of class {labels[first]} there",
        hint=f"predict in the order that this prints: ltbench data order {name}",
    )


def _fingerprint(values: NDArray[np.int64]) -> str:
    return hashlib.blake2b(values.astype("<i8").tobytes(), digest_size=8).hexdigest()
