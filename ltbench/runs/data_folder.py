"""What is known of the data of runs before images are read, and whether they are there at all; without torch."""

from collections.abc import Sequence
from pathlib import Path

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.data.datasets import exported
from ltbench.data.datasets.base import explain_permission_errors
from ltbench.data.datasets.listed import ListedSource
from ltbench.data.official_lists.published import Published


def published_sizes(config: RunConfig) -> Published | None:
    """The official lists of a run's data set, whose sizes are known without a file; None where there are none."""
    source = registry.dataset(config.dataset)
    return source.published if isinstance(source, ListedSource) and config.imbalance_ratio is None else None


def check_data_is_there(configs: Sequence[RunConfig], folder: Path) -> None:
    """Refuse runs on one data set that is not there, before anything is imported that takes long.

    Runs on several data sets are left to themselves: the others go on where one is not there.

    Args:
        configs: of the runs.
        folder: --data-dir.

    Raises:
        LtbenchError: that of the data set.
    """
    config = configs[0]
    if any(one.dataset != config.dataset or one.labels is not None for one in configs):
        return
    source = registry.dataset(config.dataset)
    with explain_permission_errors(folder):
        if source.available(folder) or exported.find(folder, source.name) is not None:
            return
        load = source.load_keeping_untested if config.keep_classes_without_test_images else source.load
        size = None if config.train == "head" and not source.any_size else config.image_size
        load(folder, size or source.image_size)  # which says what is not there
