"""The images of the run before, for runs that follow one another."""

from collections.abc import Callable

from ltbench.data.dataset import Dataset


class LastDataset:
    """Keeps the images of one run for the next ones, which often have the same."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._data: Dataset | None = None

    def get(self, key: str, load: Callable[[], Dataset]) -> Dataset:
        """The images.

        Args:
            key: of the settings that they follow from; see ``data_key``.
            load: reads them.
        """
        if self._data is None or self._key != key:
            self._data = None  # before others are read: the memory may be too small for both
            self._data, self._key = load(), key
        return self._data
