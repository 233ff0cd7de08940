"""A long-tailed draw that ``ltbench data export`` has written: the images of one data set, in their order."""

import io
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from pydantic import ValidationError

from ltbench.config import RunConfig
from ltbench.config.format_settings import format_imbalance
from ltbench.config.validation import Frozen
from ltbench.data.datasets.duplicates import stamp
from ltbench.data.datasets.folder_listing import ClassFiles, Listing
from ltbench.data.datasets.image_folder import FolderParts, load
from ltbench.data.datasets.table_files import embedded_images, require_pyarrow, without_images
from ltbench.data.datasets.unpacked import unpack
from ltbench.data.images import ImageFiles, LabelledImages, RawData
from ltbench.data.long_tail import fingerprint, fingerprint_files
from ltbench.errors import LtbenchError, first_line
from ltbench.files.paths import cache_dir

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "ltbench-export.json"
TABLE = "images.csv"
PARTS = ("train", "validation", "test")


class Manifest(Frozen):
    """What an export says of itself."""

    dataset: str
    imbalance_ratio: float | None
    imbalance: Literal["exp", "step"]
    class_order: Literal["label", "drawn"]
    data_seed: int
    keep_classes_without_test_images: bool
    image_size: int
    """Side of the images in pixels; of files, that at which the data set is used."""
    stored: Literal["pixels", "files"]
    """Whether images are the decoded ones, or the data set's own files."""
    format: Literal["folder", "parquet"]
    classes: tuple[str, ...]
    images: dict[str, int]
    """Part -> number of images."""
    fingerprints: dict[str, str]
    """Part -> fingerprint of its images: of pixels, or of the files' names, sizes and labels."""
    ltbench: str
    """The version that has written it."""

    @property
    def draw(self) -> str:
        """The draw in words, e.g. "IR 100, data seed 0"."""
        words = format_imbalance(self.imbalance_ratio, self.imbalance, self.class_order)
        return f"{words}, data seed {self.data_seed}"


@dataclass(frozen=True)
class Export:
    """An export in a folder."""

    folder: Path
    manifest: Manifest

    def load(self, config: RunConfig, image_size: int) -> RawData:
        """The images, as the data set itself would have given them to a run with these settings.

        Raises:
            LtbenchError: if the run asks for another draw, or an image is missing or is not what has been written.
        """
        self._check_draw(config)
        if self.manifest.stored == "pixels" and image_size != self.manifest.image_size:
            raise LtbenchError(
                f"the export has images of {self.manifest.image_size} pixels, not {image_size}",
                where="--image-size",
                hint="leave the option out, or give the folder of the whole data set with --data-dir",
            )
        rows = self._rows()
        own = {part: rows[rows["split"] == part] for part in PARTS if (rows["split"] == part).any()}
        for part, count in self.manifest.images.items():
            if part not in own or len(own[part]) != count:
                found = len(own[part]) if part in own else 0
                raise self._changed(f"{found:,} {part} images are listed, {count:,} have been written")
        labels = {part: one["label"].to_numpy(np.int64) for part, one in own.items()}
        names = {part: tuple(one["source"].astype(str)) for part, one in own.items()}
        duplicates = own["train"]["duplicates"].to_numpy(np.int64) if "duplicates" in rows.columns else None
        if self.manifest.stored == "pixels":
            images = {part: LabelledImages(self._pixels(part, own[part]), labels[part]) for part in own}
            self._check({part: fingerprint(one.images, one.labels) for part, one in images.items()})
            raw = RawData(images["train"], images["test"], self.manifest.classes, validation=images.get("validation"))
        else:
            root, files = self._files(own)
            self._check(
                {
                    part: fingerprint_files(ImageFiles(root, np.array(paths), labels[part]))
                    for part, paths in files.items()
                }
            )
            listed = {part: ClassFiles([root / one for one in paths], labels[part]) for part, paths in files.items()}
            raw = load(FolderParts(Listing(root, self.manifest.classes, listed), listed, {}), image_size)
        return replace(
            raw,
            test_names=names["test"],
            train_names=names["train"],
            validation_names=names.get("validation", ()),
            duplicates=duplicates,
            drawn=True,
        )

    def _check_draw(self, config: RunConfig) -> None:
        drawn = [] if self.manifest.imbalance_ratio is None else ["data_seed"]
        names = ("imbalance_ratio", "imbalance", "class_order", *drawn, "keep_classes_without_test_images")
        differing = [name for name in names if getattr(config, name) != getattr(self.manifest, name)]
        if differing:
            raise LtbenchError(
                f"the folder is an export of one draw ({self.manifest.draw}), and the run asks for another",
                where=", ".join(f"--{name.replace('_', '-')}" for name in differing),
                hint="ask for the draw of the export, or give the folder of the whole data set with --data-dir",
            )

    def _rows(self) -> "pd.DataFrame":
        """One row an image: split, label, source, and its path or bytes."""
        import pandas as pd  # not above: names of data sets are listed without it

        try:
            if self.manifest.format == "folder":
                rows = pd.read_csv(self.folder / TABLE, keep_default_na=False, dtype={"source": str, "path": str})
                for path in map(PurePosixPath, rows["path"]):
                    if path.is_absolute() or ".." in path.parts:
                        raise self._changed(f"a path leads out of the folder: {path}")
            else:
                require_pyarrow(self.folder)
                tables = [without_images(self.folder / f"{part}.parquet")[0] for part in self.manifest.images]
                frames: list[pd.DataFrame] = [one.to_pandas() for one in tables]
                rows = pd.concat(frames, ignore_index=True)
                rows["path"] = [str(one["path"]) for one in rows["image"]]
            if lacking := sorted({"split", "label", "source"} - set(rows.columns)):
                raise self._changed(f"its list of images has no column {', '.join(lacking)}")
            numbers = [name for name in ("label", "duplicates") if name in rows.columns]
            return rows.astype(dict.fromkeys(numbers, "int64"))
        except (OSError, ValueError, KeyError) as error:
            reason = first_line(error)
            raise self._changed(f"its list of images cannot be read: {reason}") from None

    def _contents(self, part: str, rows: "pd.DataFrame") -> Iterator[bytes]:
        """The bytes of each image of a part."""
        if self.manifest.format == "parquet":
            try:
                for content in embedded_images(self.folder / f"{part}.parquet"):
                    yield content or b""
            except (OSError, ValueError) as error:
                reason = first_line(error)
                raise self._changed(f"the images of {part}.parquet cannot be read: {reason}") from None
            return
        for name in rows["path"]:
            try:
                yield (self.folder / name).read_bytes()
            except OSError as error:
                raise self._changed(f"an image cannot be read: {name}: {error.strerror}") from None

    def _pixels(self, part: str, rows: "pd.DataFrame") -> np.ndarray[Any, np.dtype[np.uint8]]:
        """(N, channels, H, W) of images that are stored as pixels, without loss."""
        found: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        for position, (name, content) in enumerate(zip(rows["path"], self._contents(part, rows), strict=False)):
            try:
                with Image.open(io.BytesIO(content)) as image:
                    pixels = np.asarray(image)
            except (OSError, ValueError, SyntaxError):
                raise self._changed(f"an image is damaged: {name}") from None
            one = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
            if found is None:
                found = np.empty((len(rows), *one.shape), dtype=np.uint8)
            if one.shape != found.shape[1:]:
                raise self._changed(f"an image has another size: {name}")
            found[position] = one
        assert found is not None
        return found

    def _files(self, own: "dict[str, pd.DataFrame]") -> tuple[Path, dict[str, list[str]]]:
        """The folder of images that are stored as files, and their paths in it by part."""
        if self.manifest.format == "folder":
            return self.folder, {part: rows["path"].tolist() for part, rows in own.items()}
        packed = [self.folder / f"{part}.parquet" for part in own]
        root = cache_dir() / "unpacked" / stamp(packed)
        files: dict[str, list[str]] = {}
        for part, rows in own.items():
            paths = [root / part / f"{position:07}" / Path(name).name for position, name in enumerate(rows["path"])]
            try:
                unpack(paths, self._contents(part, rows))
            except ValueError:
                raise self._changed(f"{part}.parquet has another number of images") from None
            files[part] = [path.relative_to(root).as_posix() for path in paths]
        return root, files

    def _check(self, fingerprints: dict[str, str]) -> None:
        """Refuse images that are not those which have been written."""
        for part, expected in self.manifest.fingerprints.items():
            if fingerprints.get(part) != expected:
                found = fingerprints.get(part, "none")
                raise self._changed(f"the fingerprint of {part} is {found}, that of the export was {expected}")

    def _changed(self, what: str) -> LtbenchError:
        return LtbenchError(
            f"the export is not as it was written: {what}",
            where=self.folder.absolute(),
            hint="fetch or export it again",
        )


def find(folder: Path, dataset: str) -> Export | None:
    """The export of a data set in a folder; None where there is none of it.

    Raises:
        LtbenchError: if the file that describes an export cannot be read.
    """
    file = folder / MANIFEST
    if not file.is_file():
        return None
    try:
        manifest = Manifest.model_validate(json.loads(file.read_bytes()))
    except (OSError, ValueError, ValidationError, RecursionError):
        raise LtbenchError(
            "the description of an export cannot be read", where=file.absolute(), hint="fetch or export it again"
        ) from None
    return Export(folder, manifest) if manifest.dataset == dataset else None


def same_file(path: str) -> str:
    """Text that two paths share which are one file where the file system ignores case and forms of Unicode."""
    return unicodedata.normalize("NFC", path).casefold()


def folder_names(classes: Sequence[str]) -> list[str]:
    """(C,) a folder for each class, which sort as the labels do: names as they are where they do, else numbered."""
    plain = [re.sub(r"[^\w ().-]", "_", name).strip(" .") for name in classes]
    if list(classes) == plain == sorted(set(plain)) and len(set(map(same_file, plain))) == len(plain):
        return plain
    width = len(str(len(classes) - 1))
    return [f"{label:0{width}}-{name}" for label, name in enumerate(plain)]
