"""A run that is ready to start: its settings, its images, and the id that they give it."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ltbench import registry
from ltbench.config import ResolvedRun, RunConfig, canonical_json, run_id, settings_text
from ltbench.data import dataset
from ltbench.data.dataset import Dataset
from ltbench.data.datasets.base import Source
from ltbench.errors import out_of_memory
from ltbench.features.frozen import FrozenFeatures
from ltbench.files import paths
from ltbench.method import Method
from ltbench.method.build import build_method
from ltbench.results.provenance import software
from ltbench.results.store import Store
from ltbench.runs.last_dataset import LastDataset
from ltbench.runs.options import RunOptions
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.device import choose_device, local_device
from ltbench.training.distributed.batch_norm import sync_group_size_for
from ltbench.training.distributed.process_group import check_divisible
from ltbench.training.distributed.sharding import check_shardable
from ltbench.training.sharpness import class_shares


@dataclass(frozen=True)
class PlannedRun:
    """A resolved run with its images."""

    resolved: ResolvedRun
    source: Source
    method: type[Method]
    data: Dataset
    device: torch.device
    revision: str
    """Revision of the method's code."""
    run_id: str
    labels: tuple[str | None, str | None]
    """The table of labels and its columns, as the user has given them: no settings, but the data's content follows."""
    sync_group_size: int
    """Processes that share batch norm's statistics; 1: each has its own."""

    @property
    def config(self) -> RunConfig:
        """The settings, everything filled in."""
        return self.resolved.config

    @property
    def folder(self) -> Path:
        """The run's folder in the cache: checkpoint, logits, heartbeat, lock."""
        return paths.cache_dir() / "runs" / self.run_id

    def checkpoint(self, options: RunOptions) -> Checkpoint:
        """The run's checkpoint file."""
        path = self.folder / "checkpoint.pt"
        return Checkpoint(path, options.checkpoint_every, settings_text(self.config), options.group)

    @property
    def features(self) -> FrozenFeatures | None:
        """The frozen features that a head is trained on; None: the whole network is trained on images."""
        weights = self.resolved.weights
        if self.config.train != "head" or weights is None:
            return None
        return FrozenFeatures(self.resolved, weights, self.data, self.device)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of what the method gets: channels, height and width of an image, or D, 1, 1 of its features."""
        return self.data.shape if self.features is None else self.features.shape

    def build_method(self) -> Method:
        """The method with random weights, on the device.

        Raises:
            LtbenchError: if its hyper-parameters or its backbone do not suit the data, or it does not fit the memory.
        """
        try:
            return build_method(
                self.method, self.resolved, self.data.train_counts.tolist(), self.input_shape, self.device
            )
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error) from None


def read_images(run: ResolvedRun, options: RunOptions) -> Dataset:
    """The images of a run: those of the run before if they are the same ones, else from the data set's files."""

    def load() -> Dataset:
        of_weights = run.weights.statistics if run.weights is not None else None
        return dataset.load(registry.dataset(run.config.dataset), run.config, options.data_dir, of_weights)

    return (options.last_dataset or LastDataset()).get(data_key(run), load)


def plan_run(run: ResolvedRun, options: RunOptions, *, saves: bool = True) -> PlannedRun:
    """Load the images of a run and work out its id; refuse what these options cannot carry out.

    Args:
        run: the run.
        options: where and how it is carried out.
        saves: whether its result is going to be saved.

    Raises:
        LtbenchError: for missing or damaged data, settings that do not suit it, a device that is not there, a folder
            that cannot be written to, or processes among which the run cannot be divided.
    """
    config, recipe, group = run.config, run.recipe, options.group
    if saves:
        Store(options.out).check_writable()
    device = local_device(choose_device(options.device), group.size)
    source, method = registry.dataset(config.dataset), registry.method(config.method)
    check_divisible(method, config.method, recipe.batch_size, group, options.accumulate)
    if options.shard:
        check_shardable(group)
    together = 1
    if config.batch_norm_images:
        together = sync_group_size_for(config.batch_norm_images, recipe.batch_size, group, options.accumulate)
    data = read_images(run, options)
    run = replace(run, config=dataset.effective(config, data))
    settings = method.Config.model_validate(run.config.hyperparameters)
    class_shares(settings, torch.from_numpy(data.train_counts))  # refuses a tail that no class belongs to
    revision = registry.revision(method)
    return PlannedRun(
        resolved=run,
        source=source,
        method=method,
        data=data,
        device=device,
        revision=revision,
        run_id=run_id(run.config, revision, fingerprint(run, data)),
        labels=(config.labels, config.label_columns),
        sync_group_size=together,
    )


def fingerprint(run: ResolvedRun, data: Dataset) -> str:
    """Fingerprint of the images as the network gets them: normalised in another way, they are others."""
    own = run.weights.own_statistics if run.weights is not None else None
    return data.fingerprint if own is None else canonical_json([data.fingerprint, *own])


def data_key(run: ResolvedRun) -> str:
    """Text that runs share which have the same images."""
    others = {"method", "hyperparameters", "recipe", "backbone", "precision", "feature_views", "seed"}
    others |= {"batch_norm_images"}
    of_weights = [run.backbone, run.weights.own_statistics] if run.weights is not None else None
    return canonical_json([run.config.model_dump(mode="json", exclude=others), of_weights])


def check_same_run(planned: PlannedRun, options: RunOptions) -> None:
    """Refuse processes, on other machines perhaps, that would carry out something else and mix the two.

    Raises:
        LtbenchError: naming what differs.
    """
    if options.group.size > 1:
        names = ("accumulate", "checkpoint_activations", "shard", "rerun")
        flags = {f"--{name.replace('_', '-')}": getattr(options, name) for name in names}
        facts = {"revision of the method": planned.revision, "data": planned.data.fingerprint, **flags, **software()}
        facts["device"] = planned.device.type
        options.group.check_same_run(planned.config.model_dump(mode="json") | facts)
