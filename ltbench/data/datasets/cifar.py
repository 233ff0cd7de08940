"""cifar10-lt and cifar100-lt, from the official archive or from an image folder."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np

from ltbench.data.datasets import image_folder
from ltbench.data.datasets.base import Source
from ltbench.data.images import LabelledImages, RawData
from ltbench.errors import LtbenchError, first_line


class Cifar(Source):
    """Base class of both data sets."""

    archive: ClassVar[str]
    """The name of torchvision's class."""
    unpacked: ClassVar[str]
    """The folder inside the official archive."""
    packed: ClassVar[str]
    """The official archive as it is downloaded."""
    count: ClassVar[int]
    """Number of classes."""

    recipe_table = "cifar"
    backbone = "cifar_resnet32"
    image_size = 32
    any_size = False
    imbalance_ratio: ClassVar[float | None] = 100.0
    statistics = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))

    def load(self, folder: Path, image_size: int) -> RawData:
        """Read the archive (unpacked or not) or train/<class>/*, test/<class>/* in ``folder``."""
        self.fixed_size(image_size)
        if self._has_archive(folder):
            return self._from_archive(folder)
        if (folder / "train").is_dir():
            return self._complete(image_folder.read(folder, image_size, needs_test=True), folder)
        raise LtbenchError(
            f"{self.name}: no data found",
            where=f"{folder.absolute()} (looked for {self.unpacked}/, {self.packed} and train/<class>/)",
            hint=f"{self.command('prepare', folder)} downloads it; or point --data-dir at a folder that has it",
        )

    def prepare(self, folder: Path) -> str:
        """Download the official archive and check it."""
        from torchvision import datasets

        try:
            folder.mkdir(parents=True, exist_ok=True)
            getattr(datasets, self.archive)(str(folder), train=True, download=True)
        except (OSError, RuntimeError) as error:
            raise LtbenchError(
                f"{self.name}: the download failed: {error}",
                where=folder.absolute(),
                hint=f"fetch the Python version of {self.archive} from its project page and put it there",
            ) from None
        return f"{self.name} is in {folder.absolute()}"

    def available(self, folder: Path) -> bool:
        """Whether the archive or an image folder is there."""
        return self._has_archive(folder) or (folder / "train").is_dir()

    def _has_archive(self, folder: Path) -> bool:
        return (folder / self.unpacked).is_dir() or (folder / self.packed).is_file()

    def _from_archive(self, folder: Path) -> RawData:
        from torchvision import datasets
        from torchvision.datasets.utils import check_integrity

        archive = getattr(datasets, self.archive)
        found = folder / (self.unpacked if (folder / self.unpacked).is_dir() else self.packed)
        parts = []
        for train in (True, False):
            try:  # checks the files against their published MD5 sums before it reads them
                if not (folder / self.unpacked).is_dir():
                    if not check_integrity(str(found), archive.tgz_md5):
                        raise RuntimeError("its MD5 sum is not the published one")
                    self._unpack(folder)
                part = archive(str(folder), train=train)
            except PermissionError as error:
                raise LtbenchError(
                    f"{self.name}: the archive cannot be read or unpacked: {error.strerror}",
                    where=found.absolute(),
                    hint="make the folder writable and its files readable, or unpack the archive in a folder of yours",
                ) from None
            except (OSError, RuntimeError) as error:
                raise LtbenchError(
                    f"{self.name}: the archive is damaged or incomplete: {first_line(error)}",
                    where=found.absolute(),
                    hint=f"delete it and run: {self.command('prepare', folder)}",
                ) from None
            images = np.ascontiguousarray(np.asarray(part.data).transpose(0, 3, 1, 2))
            parts.append(LabelledImages(images, np.asarray(part.targets, dtype=np.int64)))
        return RawData(parts[0], parts[1], tuple(part.classes))

    def _unpack(self, folder: Path) -> None:
        """Unpack the archive; the folder appears whole, since another run may look for it meanwhile."""
        from torchvision.datasets.utils import extract_archive

        with TemporaryDirectory(prefix=f".{self.unpacked}-", dir=folder) as work:
            extract_archive(str(folder / self.packed), work)
            try:
                (Path(work) / self.unpacked).rename(folder / self.unpacked)
            except OSError:
                if not (folder / self.unpacked).is_dir():  # another run was first
                    raise

    def _complete(self, data: RawData, folder: Path) -> RawData:
        if len(data.classes) != self.count:
            raise LtbenchError(
                f"{self.name}: {len(data.classes)} class folders, expected {self.count}",
                where=(folder / "train").absolute(),
                hint="check that the data set was unpacked completely",
            )
        sizes = np.bincount(data.train.labels, minlength=self.count)
        if (sizes != self.largest).any():
            label = int(np.flatnonzero(sizes != self.largest)[0])
            raise LtbenchError(
                f"{self.name}: {sizes[label]} training images of class '{data.classes[label]}', "
                f"expected {self.largest}",
                where=(folder / "train" / data.classes[label]).absolute(),
                hint="check that the data set was unpacked completely",
            )
        return data


class Cifar10(Cifar):
    """10 classes of 5,000 training and 1,000 test images."""

    name = "cifar10-lt"
    summary = "CIFAR-10 made long-tailed, 32 x 32 colour, 10 classes"
    archive = "CIFAR10"
    unpacked = "cifar-10-batches-py"
    packed = "cifar-10-python.tar.gz"
    count = 10
    largest = 5000


class Cifar100(Cifar):
    """100 classes of 500 training and 100 test images."""

    name = "cifar100-lt"
    summary = "CIFAR-100 made long-tailed, 32 x 32 colour, 100 classes"
    archive = "CIFAR100"
    unpacked = "cifar-100-python"
    packed = "cifar-100-python.tar.gz"
    count = 100
    largest = 500
