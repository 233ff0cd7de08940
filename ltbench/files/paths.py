"""The folders that ltbench uses by default: results, data, and the cache (checkpoints, logits, decoded images)."""

import os
from pathlib import Path

import platformdirs

DEFAULT_RESULTS = Path("runs")
"""Where results are stored without --out and looked for without --results."""


def cache_dir() -> Path:
    """The cache folder: $LTBENCH_CACHE, or the user's own by the platform's convention."""
    return Path(os.environ.get("LTBENCH_CACHE") or platformdirs.user_cache_dir("ltbench"))


def data_dir() -> Path:
    """Where data sets are looked for without --data-dir: $LTBENCH_DATA, or ./data."""
    return Path(os.environ.get("LTBENCH_DATA") or "data")


def storable_name(name: str) -> str:
    """A file's name as text that can be stored: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def dataset_folder(name: str) -> str:
    """The folder for the results of a data set: its name, without the colon that some file systems refuse."""
    return name.replace(":", "-")
