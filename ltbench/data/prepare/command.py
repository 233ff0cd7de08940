"""The ``ltbench data`` commands that hints tell the user to run."""

import shlex
from pathlib import Path


def data_command(verb: str, name: str, folder: Path) -> str:
    """``ltbench data VERB`` for a data set, to be pasted into a shell."""
    return shlex.join(["ltbench", "data", verb, name, "--data-dir", str(folder)])
