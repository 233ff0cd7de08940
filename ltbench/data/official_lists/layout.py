"""Where the images of a data set lie in the data folder, and how lists write their paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltbench.data.official_lists.split_list import SplitList

PROBES = 9
"""Number of images of a list that are looked for to find their layout."""


@dataclass(frozen=True)
class ImageLayout:
    """The path templates of a data set's images. Subclasses know how its class folders are named."""

    templates: Mapping[str, tuple[str, ...]]
    """Set of images -> templates of its paths in the data folder, the official one first.

    ``{folder}`` is the folder of the class, ``{flat}`` the same as a single name, ``{image}`` the file.
    """
    roots: Mapping[str, str]
    """First folder of a path in a list -> the set of images that it stands for."""

    def class_folder(self, written: str) -> str:
        """The official folder of a class, from how a list may write it."""
        return written

    def flat_name(self, folder: str) -> str:
        """The folder of a class as a single name."""
        return folder

    def label_of(self, folder: str) -> int | None:
        """The label that the official folder of a class tells, if it does."""
        return None

    def official(self) -> dict[str, str]:
        """The template of each set of images that the official lists use."""
        return {image_set: known[0] for image_set, known in self.templates.items()}

    def paths(self, one: SplitList, class_folders: Sequence[str], templates: Mapping[str, str]) -> list[str]:
        """(N,) the paths of a list's images.

        Args:
            one: the list.
            class_folders: (C,) official folders of the classes.
            templates: the template of each set of images.
        """
        flat = [self.flat_name(folder) for folder in class_folders]
        return [
            templates[image_set].format(folder=class_folders[label], flat=flat[label], image=image)
            for image_set, label, image in zip(one.image_sets, one.labels.tolist(), one.images, strict=True)
        ]

    def detect(self, folder: Path, lists: Mapping[str, SplitList], class_folders: Sequence[str]) -> dict[str, str]:
        """The template that each set of images follows; a set of which nothing is found is left out.

        A few images of each set are looked for, spread over its lists, since some may be missing.
        """
        chosen = {}
        for image_set, templates in self.templates.items():
            probes = [_spread(one, image_set) for one in lists.values()]
            found = {
                template: sum(
                    (folder / path).is_file()
                    for some in probes
                    for path in self.paths(some, class_folders, {image_set: template})
                )
                for template in templates
            }
            best = max(templates, key=found.__getitem__)
            if found[best]:
                chosen[image_set] = best
        return chosen

    def has_folder(self, folder: Path, image_set: str) -> bool:
        """Whether there is a folder for a set of images, in one of its layouts, that is not empty."""
        candidates = (folder / template.partition("{")[0] for template in self.templates[image_set])
        return any(candidate.is_dir() and any(candidate.iterdir()) for candidate in candidates)

    def describe(self, image_set: str) -> str:
        """Where the images of a set may lie, for people."""
        return " or ".join(
            template.format(folder="<class>", flat="<class>", image="<image>") for template in self.templates[image_set]
        )


def _spread(one: SplitList, image_set: str) -> SplitList:
    """Some of the images of a list that belong to a set, from its beginning to its end."""
    own = np.flatnonzero(np.array(one.image_sets) == image_set)
    return one.take(own[np.linspace(0, len(own) - 1, PROBES).astype(int)] if len(own) else own)
