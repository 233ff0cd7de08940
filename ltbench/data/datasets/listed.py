"""Data sets of many large images whose parts are given by official lists: the images stay files."""

import json
import warnings
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np

from ltbench.data.datasets.base import Source
from ltbench.data.images import ImageFiles, RawData
from ltbench.data.official_lists import preparation
from ltbench.data.official_lists.lists import class_folders, faults, identity, read_lists
from ltbench.data.official_lists.missing import incomplete, missing, missing_images
from ltbench.data.official_lists.published import Published
from ltbench.errors import LtbenchError, LtbenchWarning
from ltbench.progress import ProgressListener, silent


class ListedSource(Source):
    """Base class of ImageNet-LT, iNaturalist 2018 and Places-LT."""

    published: ClassVar[Published]

    backbone = "resnet50"
    image_size = 224

    def load(self, folder: Path, image_size: int) -> RawData:
        """Read the lists and check them; no image is opened."""
        published, layout = self.published, self.published.layout
        if lacking := missing(published, folder):
            raise incomplete(published, folder, lacking)
        lists = read_lists(published, folder)
        if found := [fault for own in faults(published, lists).values() for fault in own]:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise LtbenchError(
                f"{self.name}: {found[0]}{more}",
                where=folder.absolute(),
                hint=f"{self.command('verify', folder)} lists all faults",
            )
        folders = class_folders(published, lists["train"])
        templates = layout.detect(folder, lists, folders)
        if nowhere := [image_set for image_set in layout.templates if image_set not in templates]:
            raise incomplete(published, folder, missing_images(published, nowhere))
        for part, one in lists.items():
            official, words = identity(published, part, one, folders)
            if not official:
                warnings.warn(f"{one.file.name} is {words}", LtbenchWarning, stacklevel=2)
        images = {
            part: ImageFiles(folder, np.array(layout.paths(one, folders, templates)), one.labels)
            for part, one in lists.items()
        }
        test_names = tuple(layout.paths(lists["test"], folders, layout.official()))
        return RawData(images["train"], images["test"], tuple(folders), test_names, images.get("validation"))

    def prepare(self, folder: Path, listener: ProgressListener = silent) -> str:
        """Download what may be downloaded and unpack it; an interrupted preparation continues.

        Raises:
            LtbenchError: with the steps that are left to the user, or for what went wrong.
        """
        return preparation.prepare(self.published, folder, listener)

    def available(self, folder: Path) -> bool:
        """Whether the lists are there, and a folder for each set of images."""
        return not missing(self.published, folder)


@cache
def _class_counts() -> dict[str, list[int]]:
    stored: dict[str, list[int]] = json.loads((files("ltbench.data.datasets") / "class_counts.json").read_text())
    return stored


def published_counts(name: str) -> tuple[int, ...]:
    """(C,) the published number of training images of every class of a data set."""
    return tuple(_class_counts()[name])
