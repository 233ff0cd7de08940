"""What a shell completes: names of methods, data sets, networks, recipes, suites and runs, found without torch."""

from collections.abc import Iterable

from ltbench.files.paths import DEFAULT_RESULTS


def methods(incomplete: str) -> list[str]:
    """Methods; the last one of a comma-separated list."""
    from ltbench import registry

    return _of_list(incomplete, [*registry.method_names(), "all"])


def datasets(incomplete: str) -> list[str]:
    """Data sets."""
    from ltbench import registry

    return _of_list(incomplete, registry.dataset_names())


def backbones(incomplete: str) -> list[str]:
    """Networks; most of timm's have a long name, so that a few letters must be there."""
    from ltbench.models import network_names

    return _of_list(incomplete, network_names.backbone_names())


def recipes(incomplete: str) -> list[str]:
    """Recipes that come with ltbench; a shell completes files by itself."""
    from ltbench.config import recipes as known

    return _of_list(incomplete, [*known.names(), known.PAPER])


def suites(incomplete: str) -> list[str]:
    """Suites that come with ltbench; a shell completes files by itself."""
    from ltbench.runs.suite import suite_names

    return _of_list(incomplete, suite_names())


def runs(incomplete: str) -> list[str]:
    """Ids of the runs in the default folder of results."""
    return _of_list(incomplete, sorted(file.stem[-12:] for file in DEFAULT_RESULTS.rglob("*.json")))


def _of_list(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]
