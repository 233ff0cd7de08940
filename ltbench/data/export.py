"""ltbench data export: the images of a long-tailed draw as a folder or as parquet, so that others use the same ones."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from ltbench import __version__
from ltbench.config import RunConfig
from ltbench.data import dataset
from ltbench.data.datasets import exported
from ltbench.data.datasets.base import Source
from ltbench.data.datasets.exported import MANIFEST, TABLE, Manifest, folder_names, same_file
from ltbench.data.datasets.image_folder import files_kept
from ltbench.data.datasets.table_files import require_pyarrow
from ltbench.data.images import ImageFiles, Images, image_read_error, named
from ltbench.data.long_tail import fingerprint, fingerprint_files
from ltbench.errors import LtbenchError
from ltbench.progress import ProgressListener, ProgressUpdate, silent

_ROWS = 1000
"""Images that parquet stores together."""
Format = Literal["folder", "parquet"]
Rows = dict[str, pd.DataFrame]
"""Part -> one row an image."""


def export(
    source: Source,
    config: RunConfig,
    folder: Path,
    output: Path,
    style: Format = "folder",
    listener: ProgressListener = silent,
) -> Manifest:
    """Write the images that a run would train and test on, in their order, with the fingerprints of the draw.

    Images that a data set keeps as arrays become PNG files, which lose nothing; image files are copied.

    Args:
        source: the data set.
        config: of the run: imbalance, data seed, table of labels.
        folder: --data-dir.
        output: folder to write; it must not exist or be empty.
        style: folder: a folder for each part and class, and a table; parquet: a file for each part.
        listener: hears of the progress, in images.

    Returns:
        What has been written.

    Raises:
        LtbenchError: if data are missing or damaged, or the folder cannot be written. Nothing is left behind.
    """
    output = output.absolute()
    if os.path.realpath(output) == os.path.realpath(Path.cwd()):  # Path.resolve() fails for a loop of links
        what = "the export replaces its folder, which cannot be the current one"
        raise LtbenchError(what, where=output, hint="give a new folder with --output")
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise LtbenchError("the output is there already", where=output.absolute(), hint="give a folder that is new")
    if style == "parquet":
        require_pyarrow("--format parquet")
    if exported.find(folder, source.name) is not None:
        hint = "copy the folder; or give that of the whole data set"
        raise LtbenchError("the data folder is an export itself", where=folder.absolute(), hint=hint)
    size = source.image_size
    with files_kept():
        raw = dataset.read(source, config, folder, size)
    train, _, _ = dataset.divide(source, raw, config.replace(validation=False))
    whole = named(raw.train, raw.train_names)
    kept = dataset.drawn(source, raw, config)
    index = np.arange(len(whole)) if kept is None else kept
    parts: dict[str, Images] = {"train": train, "test": raw.test}
    sources = {"train": whole.take(index).names, "test": named(raw.test, raw.test_names).names}
    if raw.validation is not None:
        parts["validation"] = raw.validation
        sources["validation"] = named(raw.validation, raw.validation_names).names
    manifest = Manifest(
        dataset=source.name,
        imbalance_ratio=config.imbalance_ratio,
        imbalance=config.imbalance,
        class_order=config.class_order,
        data_seed=config.data_seed,
        keep_classes_without_test_images=config.keep_classes_without_test_images,
        image_size=size,
        stored="files" if isinstance(train, ImageFiles) else "pixels",
        format=style,
        classes=raw.classes,
        images={part: len(one) for part, one in parts.items()},
        fingerprints={part: _fingerprint(one) for part, one in parts.items()},
        ltbench=__version__,
    )
    rows = {part: pd.DataFrame({"label": one.labels, "source": sources[part]}) for part, one in parts.items()}
    for part, one in rows.items():
        one.insert(1, "class", [raw.classes[label] for label in one["label"]])
        one["split"] = part
        if raw.duplicates is not None:
            one["duplicates"] = raw.duplicates[index] if part == "train" else -1
    unfinished = output.with_name(f".{output.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        (_write_folder if style == "folder" else _write_parquet)(unfinished, manifest, parts, rows, listener)
        (unfinished / MANIFEST).write_text(_text(manifest), encoding="utf-8")
        if output.exists():
            output.rmdir()
        unfinished.rename(output)
    except OSError as error:
        where = Path(error.filename or output).absolute()
        hint = "make the folder writable, or choose another with --output"
        raise LtbenchError(f"cannot export: {error.strerror}", where=where, hint=hint) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def _text(manifest: Manifest) -> str:
    return json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def _fingerprint(part: Images) -> str:
    return fingerprint_files(part) if isinstance(part, ImageFiles) else fingerprint(part.images, part.labels)


def _contents(part: Images) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each image: its file's, or a PNG of its pixels."""
    if isinstance(part, ImageFiles):
        for name in part.names.tolist():
            try:
                yield name.rpartition("/")[2], (part.root / name).read_bytes()
            except OSError as error:
                raise image_read_error(part.root / name, error) from None
        return
    for position, pixels in enumerate(part.images):
        stream = io.BytesIO()
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(stream, "PNG")
        yield f"{position:07}.png", stream.getvalue()


def _told(part: Images, name: str, listener: ProgressListener) -> Iterator[tuple[str, bytes]]:
    for done, one in enumerate(_contents(part), start=1):
        yield one
        if done % _ROWS == 0 or done == len(part):
            listener(ProgressUpdate(f"exporting {name}", done, len(part)))


def _write_folder(
    output: Path,
    manifest: Manifest,
    parts: dict[str, Images],
    rows: Rows,
    listener: ProgressListener,
) -> None:
    folders = folder_names(manifest.classes)
    for part, images in parts.items():
        paths, taken = [], set()  # as file systems that ignore case and forms of Unicode compare names
        contents = _told(images, part, listener)
        for position, ((name, content), label) in enumerate(zip(contents, images.labels.tolist(), strict=True)):
            path = f"{part}/{folders[label]}/{name}"
            if same_file(path) in taken:  # images of one name in other folders of the data set
                path = f"{part}/{folders[label]}/{position:07}/{name}"
            taken.add(same_file(path))
            paths.append(path)
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            (output / path).write_bytes(content)
        rows[part].insert(0, "path", paths)
    pd.concat(rows.values()).to_csv(output / TABLE, index=False, lineterminator="\n")


def _write_parquet(
    output: Path,
    manifest: Manifest,
    parts: dict[str, Images],
    rows: Rows,
    listener: ProgressListener,
) -> None:
    import pyarrow
    from pyarrow import parquet

    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(manifest.classes), "_type": "ClassLabel"},
        **{name: {"dtype": "string", "_type": "Value"} for name in ("class", "source", "split")},
    }
    fields = [
        ("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
        ("label", pyarrow.int64()),
        *((name, pyarrow.string()) for name in ("class", "source", "split")),
    ]
    if "duplicates" in rows["train"].columns:
        fields.append(("duplicates", pyarrow.int64()))
        features["duplicates"] = {"dtype": "int64", "_type": "Value"}
    about = {"huggingface": json.dumps({"info": {"features": features}}), "ltbench": _text(manifest)}
    schema = pyarrow.schema(fields, metadata=about)
    for part, images in parts.items():
        contents = _told(images, part, listener)
        with parquet.ParquetWriter(output / f"{part}.parquet", schema) as writer:
            for begin in range(0, len(images), _ROWS):
                some = rows[part].iloc[begin : begin + _ROWS]
                packed = [{"bytes": content, "path": name} for name, content in islice(contents, len(some))]
                table = {name: packed if name == "image" else some[name].tolist() for name, _ in fields}
                writer.write_table(pyarrow.table(table, schema=schema))
