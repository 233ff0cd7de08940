"""Training curves and figures of runs as event files of TensorBoard, which is an optional dependency."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ltbench.config import RunConfig
from ltbench.config.format_settings import format_value
from ltbench.errors import LtbenchError
from ltbench.results.schema import Result
from ltbench.training.history import EpochRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENT_FILES = "events.out.tfevents.*"
FLUSH_SECONDS = 5
FIGURES = {"top1": "top-1", "macro": "macro", "many": "many", "medium": "medium", "few": "few", "ece": "ECE"}


def check_installed() -> None:
    """Fail before the work rather than after it.

    Raises:
        LtbenchError: if TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise LtbenchError(
            "TensorBoard is not installed",
            where="--tensorboard",
            hint="python -m pip install 'ltbench[tensorboard]', or leave the option out",
        )


class TensorBoardWriter:
    """The event file of one run. As a context, it is opened for a training and closed after it.

    It always holds the whole curve, also of a run that was stopped and goes on, and each epoch once: whoever takes a
    run up writes the file anew. Steps are epochs, counted from 1 through all stages.

    Args:
        folder: of the event file and of no other run's; None for no file.

    Raises:
        LtbenchError: by all methods, if the file cannot be written.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writer: SummaryWriter | None = None
        self._epochs = 0

    def __enter__(self) -> "TensorBoardWriter":
        if self.folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            with self._faults():
                for file in self._files():
                    file.unlink()
                self._writer, self._epochs = SummaryWriter(self.folder, flush_secs=FLUSH_SECONDS), 0
        return self

    def write_curve(self, curve: Sequence[EpochRecord]) -> None:
        """Write what the curve has gained."""
        if self._writer is None or len(curve) == self._epochs:
            return
        with self._faults():
            for point in curve[self._epochs :]:
                self._epochs += 1
                self._scalar("train/loss", point.loss)
                self._scalar("train/learning rate", point.lr)
                self._scalar("train/images per second", point.images_per_second)

    def write_result(self, result: Result) -> None:
        """Write the rest of a finished run: figures on the test or validation images, settings."""
        if self._writer is None or result.status != "done":
            return
        from torch.utils.tensorboard.summary import hparams

        self.write_curve([EpochRecord(**asdict(point)) for point in result.curve])
        with self._faults():
            for part, metrics in result.metrics.items():
                for field, name in FIGURES.items():
                    self._scalar(f"{part}/{name}", getattr(metrics, field))
            # Its first part would be what TensorBoard knows of the settings of all runs; without, it looks at each.
            _, settings, end = hparams(_settings(result.config), {})  # type: ignore[no-untyped-call]
            events = self._writer._get_file_writer()  # type: ignore[no-untyped-call]
            events.add_summary(settings)
            events.add_summary(end)

    def write_stored(self, result: Result, path: Path) -> None:
        """Write a stored run, unless it is on the board already.

        Args:
            result: of the run.
            path: of the result's file; an older event file is not of the whole run.
        """
        stored = path.stat().st_mtime
        if self.folder is None or any(file.stat().st_mtime >= stored for file in self._files()):
            return
        with self:
            self.write_result(result)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            with self._faults():
                self._writer.close()
            self._writer = None

    def _files(self) -> list[Path]:
        return list(self.folder.glob(EVENT_FILES)) if self.folder is not None else []

    def _scalar(self, tag: str, value: float | None) -> None:
        if self._writer is not None and value is not None:
            self._writer.add_scalar(tag, value, self._epochs)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LtbenchError(
                f"training curves cannot be saved: {error.strerror}",
                where=self.folder and self.folder.absolute(),
                hint="make the folder writable, free some disk space, or choose another with --tensorboard",
            ) from error


def _settings(config: RunConfig) -> dict[str, Any]:
    """What tells runs apart, as TensorBoard takes it."""
    recipe = config.full_recipe
    settings = {
        **config.model_dump(mode="json", exclude={"recipe", "hyperparameters"}, exclude_none=True),
        "recipe": recipe.name,
        **recipe.model_dump(mode="json", include={"epochs", "batch_size", "lr"}),
        **config.hyperparameters,
    }
    return {
        name: format_value(value) if isinstance(value, list | tuple | dict) else value
        for name, value in settings.items()
    }
