"""Weights that others have trained, as a result: a published checkpoint becomes a row, evaluated as it is."""

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path

from ltbench import registry
from ltbench.config import RunConfig, run_id
from ltbench.data import dataset
from ltbench.data.dataset import Dataset
from ltbench.deploy.predictor import Card, build, checkpoint_of
from ltbench.errors import LtbenchError
from ltbench.evaluation.measure import measure, of_images
from ltbench.evaluation.predict import Predictions, predict
from ltbench.evaluation.result_parts import data_record, experts_record, multiply_adds, peak_memory
from ltbench.external.alignment import warn_of_two_orders
from ltbench.external.rows import check_row, declared_recipe, refuse_twice
from ltbench.files import paths
from ltbench.files.paths import DEFAULT_RESULTS
from ltbench.method import Method
from ltbench.models.published_resnets import Architecture, read_network
from ltbench.models.state_file import read_state
from ltbench.results import provenance
from ltbench.results.external import IMPORTED
from ltbench.results.records import Cost, MethodRecord
from ltbench.results.schema import Result
from ltbench.results.store import Store
from ltbench.training.device import choose_device

_OVERFLOW = "its training has diverged, or the file is damaged: take another checkpoint"


def import_checkpoint(
    file: Path,
    config: RunConfig,
    *,
    data_dir: Path,
    logit_prior: float | None = None,
    device: str = "auto",
    out: Path = DEFAULT_RESULTS,
) -> tuple[Result, Path, Architecture]:
    """Evaluate the network in a checkpoint of a published CIFAR ResNet, and store it as a run is stored.

    Its weights and predictions go to the cache, so that it can be evaluated again, predict and be exported. Images
    are normalised by the data set's published mean and deviation, or by those measured on its training images.

    Args:
        file: see ``read_state`` and ``read_network``.
        config: what it is of; ``method`` is the row's name and no registered method's. ``recipe`` is "external", or
            names the recipe that the user says the network was trained under. The network is read off the file.
        data_dir: folder of the data set.
        logit_prior: exponent of the training prior that is left in the mean of the experts' logits (1 for cross
            entropy, 0 for balanced losses); None leaves corrections for other test priors out.
        device: auto, cpu or cuda.
        out: folder of results.

    Returns:
        The result, where it is stored, and what the network is. Importing a file again replaces it.

    Raises:
        LtbenchError: if the file is not what it should be, does not fit the data set, or if the name is taken.
    """
    started, where = datetime.now(UTC), choose_device(device)
    check_row(config.method, logit_prior)
    store = Store(out)
    store.check_writable()
    architecture, network = read_network(read_state(file), file)
    config, data = _filled_in(config, architecture, data_dir)
    _check_fit(architecture, data, file, config.dataset)
    warn_of_two_orders(data.classes, file, "see how the code that trained it numbers the classes")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    card = _card(config, data, run_id(config, f"{IMPORTED} {digest}", data.fingerprint), logit_prior)
    refuse_twice(store, config, card.run_id, data.fingerprints)
    method = build(card).method
    method.network.load_state_dict(network.state_dict())
    checkpoint_of(card).save({"method": method.state_dict(), "optimiser": None})
    predictions, cost = _predict(method.to(where), data, card)
    wrong = predictions.fault()
    if wrong is not None:
        raise LtbenchError(wrong, where=file, hint=_OVERFLOW)
    predictions.save(paths.cache_dir() / "runs" / card.run_id / "test.npz", run_id=card.run_id)
    record = data_record(data)
    result = Result(
        run_id=card.run_id,
        status="done",
        config=config,
        data=record,
        method=MethodRecord(revision=IMPORTED, logit_prior=logit_prior, transductive=False, uses={}),
        metrics={"test": measure(predictions.logits, predictions.labels, predictions.experts, record.groups)},
        **of_images(predictions, record, logit_prior=logit_prior, transductive=False),
        experts=experts_record(network),
        cost=cost,
        provenance={
            IMPORTED: {"file": paths.storable_name(file.name), "sha256": digest, "network": str(architecture)},
            **provenance.provenance(where, started),
        },
    )
    return result, store.save(result), architecture


def _filled_in(config: RunConfig, found: Architecture, folder: Path) -> tuple[RunConfig, Dataset]:
    """Settings with what the data set and the network fill in, and the data."""
    source = registry.dataset(config.dataset)
    config = config.replace(
        imbalance_ratio=source.imbalance_ratio if config.imbalance_ratio is None else config.imbalance_ratio,
        image_size=config.image_size or source.image_size,
        backbone=found.backbone,
        recipe=declared_recipe(config.recipe, source.recipe_table),
        hyperparameters={"experts": found.experts, "width": found.width, "head": found.head},
    )
    data = dataset.load(source, config, folder)
    return dataset.effective(config, data), data


def _check_fit(found: Architecture, data: Dataset, file: Path, name: str) -> None:
    channels = data.shape[0]
    for what, network, images in (
        ("classes", found.classes, len(data.classes)),
        ("image channels", found.channels, channels),
    ):
        if network != images:
            raise LtbenchError(
                f"the network is for {network} {what}, but {name} has {images}",
                where=file,
                hint="give the data set that it was trained for: --dataset, --data-dir",
            )


def _card(config: RunConfig, data: Dataset, name: str, logit_prior: float | None) -> Card:
    return Card(
        run_id=name,
        classes=list(data.classes),
        input=data.shape,
        mean=data.mean,
        std=data.std,
        logit_prior=logit_prior,
        trained_on=data.train_counts.tolist(),
        revision=IMPORTED,
        imported=True,
        config=config,
    )


def _predict(method: Method, data: Dataset, card: Card) -> tuple[Predictions, Cost]:
    """The predictions for the test set, and what the network costs; what its training took is not known."""
    device = method.log_prior.device
    test = data.loader(data.test, device)
    began = time.monotonic()
    predictions = predict(method, test)
    seconds = time.monotonic() - began
    return predictions, Cost(
        parameters=sum(weight.numel() for weight in method.network.parameters()),
        multiply_adds=multiply_adds(method, card.input),
        training_seconds=None,
        training_images_per_second=None,
        evaluation_images_per_second=len(predictions.labels) / seconds,
        evaluation=predictions.execution,
        peak_memory_bytes=peak_memory(device),
        peak_memory_of="device" if device.type == "cuda" else "process",
    )
