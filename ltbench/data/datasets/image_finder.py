"""Image files by what a table writes: a path, or a name with or without an ending."""

import errno
import os
from pathlib import Path

from ltbench.data.datasets.folder_listing import SHOWN, files_below
from ltbench.data.datasets.image_names import is_named_like_an_image
from ltbench.errors import LtbenchError


class ImageFinder:
    """Finds the file that a table names: by its path or the end of it, or by its name with or without an ending.

    Args:
        root: the folder of all images, which paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.walked: dict[str, list[Path]] | None = None

    def all(self) -> set[Path]:
        """Every image file in the folder."""
        return {file for files in self._walk().values() for file in files}

    def __call__(self, written: str, table: Path) -> Path | None:
        """The file; None where there is none.

        Raises:
            LtbenchError: for a path outside the folder, or a name that several files have.
        """
        place = table.parent.resolve()
        inner = place if place.is_relative_to(self.root) else self.root
        for base in dict.fromkeys((inner, self.root)):
            path = Path(os.path.normpath(base / written.replace("\\", "/")))
            if not path.is_relative_to(self.root):
                raise LtbenchError(
                    f"a path leads out of the folder: {written}",
                    where=table.absolute(),
                    hint=f"paths are relative to {self.root}; give another --data-dir, or move the images",
                )
            try:
                if path.is_file():
                    return path
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:  # then it is none
                    raise
        written = written.replace("\\", "/")
        walked = self._walk()
        found = walked.get(Path(written).name) or walked.get(f"{Path(written).name}\0stem") or []
        if "/" in written:
            found = [one for one in found if self._fits(one, written)]
        if len(found) > 1:  # Kaggle's train.csv is about train/
            found = [one for one in found if table.stem in one.relative_to(self.root).parts[:-1]] or found
        if len(found) > 1:
            shown = ", ".join(one.relative_to(self.root).as_posix() for one in sorted(found)[:SHOWN])
            raise LtbenchError(
                f"{len(found)} files are called '{written}': {shown}",
                where=table.absolute(),
                hint="write the path from the folder, not the name alone",
            )
        return found[0] if found else None

    def _fits(self, file: Path, written: str) -> bool:
        """Whether the end of a path that was written is that of a file, or the other way round, by whole parts.

        The table may be of a folder above or below. A file of the same name in another folder is another image.
        """
        place, words = file.relative_to(self.root), Path(written).parts
        return any(one.parts[-len(words) :] == words[-len(one.parts) :] for one in (place, place.with_suffix("")))

    def _walk(self) -> dict[str, list[Path]]:
        if self.walked is None:
            self.walked = {}
            for file in filter(is_named_like_an_image, files_below(self.root, lambda path, reason: None)):
                self.walked.setdefault(file.name, []).append(file)
                self.walked.setdefault(f"{file.stem}\0stem", []).append(file)
        return self.walked
