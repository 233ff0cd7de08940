"""Source: the interface that every data set implements."""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ltbench.data.images import RawData
from ltbench.data.prepare.command import data_command
from ltbench.errors import LtbenchError
from ltbench.files import paths

if TYPE_CHECKING:
    from ltbench.data.datasets.label_table import LabelTable


@contextmanager
def explain_permission_errors(folder: Path) -> Iterator[None]:
    """Turn a PermissionError in --data-dir or in the cache into an error that says what to do.

    Raises:
        LtbenchError: naming the file or folder.
    """
    try:
        yield
    except PermissionError as error:
        where = Path(error.filename or folder).absolute()
        if where.is_relative_to(paths.cache_dir().absolute()):
            hint = "make it readable and writable, or set $LTBENCH_CACHE to another folder"
            raise LtbenchError("permission denied in the cache folder", where=where, hint=hint) from None
        raise LtbenchError(
            "permission denied in the data folder",
            where=where,
            hint=f"make it readable: chmod -R u+rX {shlex.quote(str(folder))}; ltbench data prepare also writes there",
        ) from None


class Source(ABC):
    """A data set by name. Third parties register subclasses under the entry point ``ltbench.datasets``."""

    name: ClassVar[str]
    summary: ClassVar[str]
    recipe_table: ClassVar[str]
    """Name of its table in a recipe file."""
    backbone: ClassVar[str]
    image_size: ClassVar[int]
    any_size: ClassVar[bool] = True
    """Whether images can be read in another size than ``image_size``."""
    imbalance_ratio: ClassVar[float | None] = None
    """Imbalance ratio imposed unless the run asks for another; None: the data as they are."""
    largest: ClassVar[int | None] = None
    """Number of images of the largest class where the benchmark fixes it; None: as many as the classes allow."""
    held_out_test: ClassVar[bool] = False
    """Whether the data set has no test images of its own and a fifth of each class is held out."""
    statistics: ClassVar[tuple[tuple[float, ...], tuple[float, ...]] | None] = None
    """Published channel means and standard deviations of pixels in [0, 1]; None: measured on train, or ImageNet's for
    image files."""

    @abstractmethod
    def load(self, folder: Path, image_size: int) -> RawData:
        """Read the data.

        Args:
            folder: the user's --data-dir.
            image_size: side in pixels.

        Raises:
            LtbenchError: if data are missing or damaged: what was looked for, where, and how to get them.
        """

    def load_keeping_untested(self, folder: Path, image_size: int) -> RawData:
        """Read the data with classes that have no test images, which are trained on all the same.

        Raises:
            LtbenchError: as `load`; or if the data set has no such classes.
        """
        raise LtbenchError(
            f"every class of {self.name} has test images",
            where="--keep-classes-without-test-images",
            hint="leave the option out; it is for folder-lt",
        )

    def load_labelled(self, folder: Path, image_size: int, labels: "LabelTable", *, keep_untested: bool) -> RawData:
        """Read a folder of images whose labels are in a table.

        Args:
            folder: the user's --data-dir.
            image_size: side in pixels.
            labels: the table.
            keep_untested: whether classes may lack test images.

        Raises:
            LtbenchError: as `load`; or if the data set has labels of its own.
        """
        raise LtbenchError(
            f"{self.name} has labels of its own",
            where="--labels",
            hint="leave the option out; it is for --dataset folder-lt",
        )

    def folder_name(self, folder: Path) -> str | None:
        """The name of the user's own folder of images, for tables; None for a data set that has a name of its own."""
        return None

    def prepare(self, folder: Path) -> str:
        """Download or set up the data as far as a program may; returns what was done, in a sentence."""
        return f"{self.name} needs no preparation"

    def available(self, folder: Path) -> bool:
        """Whether ``load`` would find its files; a quick check, by which runs are refused before they begin.

        Raises:
            PermissionError: if the folder may not be read.
        """
        return True

    def command(self, verb: str, folder: Path) -> str:
        """``ltbench data VERB`` for this data set, to be pasted into a shell."""
        return data_command(verb, self.name, folder)

    def fixed_size(self, image_size: int) -> None:
        """Refuse an image size other than the data set's own.

        Raises:
            LtbenchError: if it differs.
        """
        if image_size != self.image_size:
            raise LtbenchError(
                f"{self.name} has images of {self.image_size} pixels, not {image_size}",
                where="--image-size",
                hint="leave the option out",
            )
