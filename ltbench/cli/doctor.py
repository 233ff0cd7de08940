"""ltbench doctor: the state of the installation."""

from pathlib import Path

from ltbench.cli.options import DataDir, data_folder
from ltbench.cli.output import echo, getting_ready
from ltbench.printable import printable_name


def doctor(data_dir: DataDir = None) -> None:
    """Print the state of the installation.

    It has versions, the device, folders, and which data sets are available.
    """
    for name, about in health(data_folder(data_dir)):
        echo(printable_name(f"{name:<25} {about}"))


def health(folder: Path) -> list[tuple[str, str]]:
    """Versions, device, folders, and which data sets are there."""
    with getting_ready("doctor"):
        import torch

        from ltbench import registry
        from ltbench.data.datasets.base import Source
        from ltbench.data.datasets.from_torchvision import PREFIX
        from ltbench.data.loading import resize_cache
        from ltbench.data.prepare.download import in_gb
        from ltbench.files import paths
        from ltbench.results import provenance

    lines = [(name, str(found or "not installed")) for name, found in provenance.versions().items()]
    name = "cuda" if torch.cuda.is_available() else "cpu"
    machine = provenance.hardware(torch.device(name))
    lines.append(("device", f"{name}: {machine.get('accelerator') or machine['processor']}"))
    known = machine.get("instruction_sets")
    none = f"none of {' '.join(provenance.INSTRUCTION_SETS)}"
    lines.append(("instruction sets", "not known" if known is None else " ".join(known) or none))
    lines.append(("cores, threads", f"{machine['cores']}, {machine['threads']}"))
    lines.append(("cache folder", f"{paths.cache_dir()} (set $LTBENCH_CACHE to move it)"))
    try:
        for side, files, size in resize_cache.contents():
            lines.append((f"images scaled to {side}", f"{files:,}, {in_gb(size)}, in {resize_cache.folder() / side}"))
    except PermissionError as error:
        lines.append(("images scaled", f"not readable: {error.filename}"))
    lines.append(("data folder", str(folder.absolute())))
    registry.loadable(registry.method_names(), registry.method)  # warns of those that do not load
    absent = 0
    for known, source in registry.loadable(registry.dataset_names(), registry.dataset).items():
        has_preparation = type(source).prepare is not Source.prepare
        missing = f"ltbench data prepare {known}" if has_preparation else "give its folder with --data-dir"
        try:
            if known.startswith(PREFIX) and not source.available(folder):  # there are many
                absent += 1
                continue
            lines.append((known, "ready" if source.available(folder) else f"not there; {missing}"))
        except OSError as error:
            lines.append((known, f"not readable: {error.filename}"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of another package's data set, which may call sys.exit
            lines.append((known, f"faulty: {type(error).__name__}: {error}"))
    lines.append((f"{PREFIX}...", f"{absent} more are not there; ltbench list datasets '{PREFIX}*' names them"))
    return lines
