"""Image files, recognised by name, and where the name does not tell, by their first bytes."""

from functools import cache
from pathlib import Path

from PIL import Image

from ltbench.data.loading.decode import UNREADABLE

_NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow recognises and cannot decode by itself; for EPS it would start Ghostscript."""
_LITTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
_LITTER_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")


@cache
def suffixes() -> frozenset[str]:
    """Endings of the names of image files, in lower case: what Pillow can decode."""
    Image.init()
    kinds = Image.OPEN.keys() - _NOT_DECODED
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds)


def is_named_like_an_image(file: Path) -> bool:
    """Whether a file's name ends as an image's does, in upper or lower case."""
    return file.suffix.lower() in suffixes()


def is_image(file: Path) -> bool:
    """Whether a file is named like an image, or begins like one."""
    if is_named_like_an_image(file):
        return True
    try:
        with Image.open(file) as image:  # reads the header only
            return image.format not in _NOT_DECODED
    except UNREADABLE:
        return False


def is_litter(path: Path) -> bool:
    """Whether a file or folder is hidden, or one that operating systems and archivers leave behind."""
    name = path.name.lower()
    return name.startswith(".") or name in _LITTER or (name in _LITTER_FOLDERS and path.is_dir())
