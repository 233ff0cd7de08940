"""Who is told how a run is getting on: the caller's listener, the heartbeat file, TensorBoard."""

from types import TracebackType

from ltbench.files.paths import dataset_folder
from ltbench.progress import ProgressUpdate
from ltbench.results.schema import Result
from ltbench.results.store import Store
from ltbench.runs.monitor.heartbeat import FILE, HeartbeatWriter
from ltbench.runs.monitor.tensorboard import TensorBoardWriter
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import PlannedRun


class RunListeners:
    """The listeners of one run, told by its main process alone. As a context, they are open while it trains."""

    def __init__(self, planned: PlannedRun, options: RunOptions) -> None:
        self._options = options
        self.heartbeat = HeartbeatWriter(planned.folder / FILE, planned.run_id, planned.config, options.out)
        folder = options.tensorboard if options.group.is_main else None
        if folder is not None:
            folder = folder / dataset_folder(planned.config.dataset) / planned.config.method / planned.run_id
        self.tensorboard = TensorBoardWriter(folder)
        self._stored_at = Store(options.out).path(planned.config, planned.run_id)

    def __call__(self, update: ProgressUpdate) -> None:
        """Pass on how far training is: a progress listener."""
        if not self._options.group.is_main:
            return
        self._options.listener(update)
        if update.history is not None:
            self.heartbeat.write(update.fraction, update.message, update.history)
            self.tensorboard.write_curve(update.history.curve)

    def recalled(self, result: Result) -> None:
        """Note a stored result that was found instead of training."""
        self.tensorboard.write_stored(result, self._stored_at)

    def ended(self, result: Result) -> None:
        """Note the result of the training."""
        self.tensorboard.write_result(result)

    def __enter__(self) -> "RunListeners":
        self.tensorboard.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.tensorboard.__exit__(kind, error, at)
