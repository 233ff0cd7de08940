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

    Left to themselves are runs on several data sets, of which others go on where one is not there; runs that read one
    in several ways, which each have their own reason; and data sets of other packages, which may fetch what they load.

    Args:
        configs: of the runs.
        folder: --data-dir.

    Raises:
        LtbenchError: that of the data set.
    """
    ways = {
        (one.dataset, one.labels, one.image_size, one.train, one.keep_classes_without_test_images) for one in configs
    }
    config = configs[0]
    if len(ways) > 1 or config.labels is not None or not registry.is_own_dataset(config.dataset):
        return
    source = registry.dataset(config.dataset)
    with explain_permission_errors(folder):
        if source.available(folder) or exported.find(folder, source.name) is not None:
            return
        load = source.load_keeping_untested if config.keep_classes_without_test_images else source.load
        size = None if config.train == "head" and not source.any_size else config.image_size
        load(folder, size or source.image_size)  # which says what is not there
