"""What is published about a data set of official lists: sizes, archives, checksums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ltbench.data.official_lists.layout import ImageLayout


@dataclass(frozen=True)
class PublishedPart:
    """One part of a data set: train, validation or test."""

    lists: tuple[str, ...]
    """File names of its list; any one of them will do."""
    image_set: str
    """The set of images that its paths are about unless they say otherwise."""
    size: int
    """Number of images."""
    per_class: int | None = None
    """Number of images of every class, where it is the same for all."""
    blob: str | None = None
    """Git's object name of the list's content."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Git's object names of other files that hold the same list, and what each of them is, in words."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A published file that images or a list are unpacked from."""

    file: str
    size: int
    """Approximate size in bytes."""
    md5: str
    page: str
    """The web page where a person finds it."""
    url: str | None = None
    """None where the download needs an account."""
    image_set: str | None = None
    """The set of images that is in it."""
    part: str | None = None
    """The part whose list is in it."""
    into: str = "."
    """Folder for its contents, in the data folder."""
    nested: bool = False
    """Whether it holds an archive for each class."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A data set of official lists."""

    name: str
    class_count: int
    shot_groups: tuple[int, int, int]
    """Number of many-, medium- and few-shot classes."""
    train_counts: tuple[int, ...] | None
    """(C,) number of training images of every class; None if only their sum is known."""
    parts: Mapping[str, PublishedPart]
    """train, test, and validation where there is one."""
    layout: ImageLayout
    archives: tuple[Archive, ...]
    list_folders: tuple[str, ...]
    """Folders in the data folder that may hold the lists, besides the data folder itself."""
    list_archives: tuple[str, ...] = ()
    """Zip files of lists as their authors hand them out."""
    list_page: str
    """Where a person finds the lists."""

    def counts(self, part: str) -> Sequence[int] | None:
        """(C,) the published number of images of every class in a part; None if only their sum is known."""
        if part == "train":
            return self.train_counts
        each = self.parts[part].per_class
        return [each] * self.class_count if each else None
