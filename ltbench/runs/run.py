"""The spine: RunConfig -> data -> method -> fit -> predict -> metrics -> Result."""

import math
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltbench import paths, registry
from ltbench.config import Recipe, RunConfig, canonical_json, run_id
from ltbench.data import dataset
from ltbench.data.dataset import Dataset
from ltbench.data.datasets.base import Source
from ltbench.data.images import Images
from ltbench.data.loading.base import Loader
from ltbench.errors import LtbenchError, LtbenchWarning, TrainingFailedError, out_of_memory
from ltbench.evaluation.measure import measure, of_images
from ltbench.evaluation.predict import predict
from ltbench.evaluation.records import data_record, experts_record, multiply_adds, peak_memory, shot_groups
from ltbench.files.atomic import remove_abandoned
from ltbench.files.lock import exclusive
from ltbench.method import Method
from ltbench.method.build import build_method
from ltbench.method.claims import paper_record
from ltbench.metrics.temperature import Prior, Training, fit_for_prior
from ltbench.results.provenance import provenance, software
from ltbench.results.schema import BatchSplit, Cost, CurvePoint, ExpertsRecord, MethodRecord, Metrics, Result, Status
from ltbench.results.store import Store
from ltbench.runs.monitor.heartbeat import FILE, HeartbeatWriter
from ltbench.runs.monitor.tensorboard import Board
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve
from ltbench.training.checkpoint import Checkpoint
from ltbench.training.device import choose_device, own_device
from ltbench.training.distributed.batch_norm import check_has_batch_norm, processes_together, synchronise
from ltbench.training.distributed.process_group import check_divisible
from ltbench.training.distributed.sharding import check_shardable
from ltbench.training.history import History
from ltbench.training.trainer import fit, load_trained


def run(config: RunConfig, around: RunOptions | None = None) -> Result:
    """Train and evaluate one run, or return its stored result.

    Args:
        config: what to run; what it leaves out is filled in.
        around: folders, device and the like.

    Returns:
        The result, which is stored as well: done, or failed with a reason.

    Raises:
        LtbenchError: for bad input or surroundings; nothing is stored then.
        KeyboardInterrupt: passed on, once the run is stored as interrupted.
    """
    return run_or_recall(config, around)[0]


def run_or_recall(config: RunConfig, around: RunOptions | None = None) -> tuple[Result, bool]:
    """Like ``run``; also says whether the result was stored already."""
    one = _Run(resolve(config), around or RunOptions())
    one.check_alike()
    stored = one.group.broadcast_object(one.stored)  # machines need share no folder of results
    return (stored, True) if stored is not None else (one.result(), False)


def record_failure(config: RunConfig, around: RunOptions, reason: str) -> Result:
    """Store a run as failed whose process has died."""
    one = _Run(resolve(config), around)
    result = one._record(None, "failed", reason=reason)
    one.store.save(result)
    one.heart.stop()
    return result


class _Run:
    """One run under way."""

    def __init__(self, config: RunConfig, around: RunOptions) -> None:
        self.config, self.around = config, around
        assert isinstance(config.recipe, Recipe)
        self.recipe = config.recipe
        self.store = Store(around.out)
        self.store.check_writable()
        self.group = around.group
        self.device = own_device(choose_device(around.device), self.group.size)
        self.source: Source = registry.dataset(config.dataset)
        self.cls = registry.method(config.method)
        check_divisible(self.cls, config.method, self.recipe.batch_size, self.group, around.accumulate)
        if around.shard:
            check_shardable(self.group)
        images, ways = config.batch_norm_images, (self.recipe.batch_size, self.group, around.accumulate)
        self.norms_together = processes_together(images, *ways) if images else 1  # processes that share statistics
        self.data: Dataset = dataset.load(self.source, config, around.data_dir)
        self.config = config = dataset.effective(config, self.data)
        self.revision = registry.revision(self.cls)
        self.id = run_id(config, self.revision, self.data.fingerprint)
        self.folder = paths.cache_dir() / "runs" / self.id
        # A run id leaves defaults out; the whole settings guard against a default that has changed since.
        settings = canonical_json(config.model_dump(mode="json"))
        self.checkpoint = Checkpoint(self.folder / "checkpoint.pt", around.checkpoint_every, settings, self.group)
        self.heart = HeartbeatWriter(self.folder / FILE, self.id, config, around.out)
        board = around.tensorboard if self.group.is_main else None
        self.board = Board(board / config.dataset / config.method / self.id if board is not None else None)
        self.started = datetime.now(UTC)
        self.used: dict[str, str] = {}
        self.used_seconds = 0.0

    def check_alike(self) -> None:
        """Refuse processes, on other machines perhaps, that would carry out something else and mix the two."""
        if self.group.size > 1:
            names = ("accumulate", "checkpoint_activations", "shard", "rerun")
            options = {f"--{name.replace('_', '-')}": getattr(self.around, name) for name in names}
            facts = {"revision of the method": self.revision, "data": self.data.fingerprint, **options, **software()}
            facts["device"] = self.device.type
            self.group.check_alike(self.config.model_dump(mode="json") | facts)

    def result(self) -> Result:
        """The stored result, or that of training now; waits for another process that trains this run."""
        stored = self.group.broadcast_object(self.stored)
        if stored is not None:
            return stored
        built = self._built()
        with self._held():
            stored = self.group.broadcast_object(self.stored)
            if stored is not None:
                return stored
            with self.board:
                result = self._new_result(built)
                self.board.conclude(result)
            return result

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the run, on behalf of all of its processes."""
        if not self.group.is_main:
            yield
            return
        with exclusive(self.folder / "lock", f"the {self.config.method} run {self.id}"), self.heart:
            for folder in (self.folder, self.store.path(self.config, self.id).parent):
                remove_abandoned(folder)
            yield

    def _built(self) -> Method | Exception | SystemExit:
        """The untrained method, or what went wrong in its own code; bad input is raised and leaves no trace."""
        try:
            return self.make_method()
        except (LtbenchError, Warning):
            raise
        except (Exception, SystemExit) as error:
            return error

    def _new_result(self, method: Method | Exception | SystemExit) -> Result:
        """Train and evaluate, and store what comes of it; what goes wrong in this run alone is a result, too."""
        if self.around.rerun:
            self.checkpoint.delete()
        try:
            if not isinstance(method, Method):
                raise method
            self._start_from(method)
            result = self._trained_and_measured(method)
        except (TrainingFailedError, torch.OutOfMemoryError) as error:
            if self.group.size > 1 and isinstance(error, torch.OutOfMemoryError):
                raise out_of_memory(error) from None  # not stored: the others know nothing of it
            self.checkpoint.delete()
            result = self._record(None, "failed", reason=str(error).splitlines()[0])
        except (LtbenchError, Warning):  # a warning is raised for whoever has asked Python for that
            raise
        except (Exception, SystemExit) as error:  # a method may do anything, and the others of a sweep are to go on
            if self.group.size > 1:
                raise  # not stored: the others know nothing of it
            result = self._record(None, "failed", reason=_reason(error, self.cls))
        except KeyboardInterrupt:
            self._save(self._record(None, "interrupted", reason="stopped by the user"))
            raise
        return self._save(result)

    def _save(self, result: Result) -> Result:
        """Store a result; gives the one that counts, which may be another process's that was there first."""
        if not self.group.is_main:
            return result
        self.store.save(result, replace=self.around.rerun or self._outdated())
        stored = self.store.get(self.config, self.id) if result.status == "done" else None
        return stored or result

    def _outdated(self) -> bool:
        """Whether what is stored, though done, is of another network than this run trains today."""
        try:
            stored = self.store.get(self.config, self.id)
        except LtbenchError:  # damaged while the run was under way; saving replaces it
            return False
        return stored is not None and not self._has_network_of(stored)

    def make_method(self) -> Method:
        """The untrained method, on the device."""
        try:
            return build_method(self.config, self.data.train_counts.tolist(), self.data.shape, self.device)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error) from None

    def trained(self) -> Method:
        """The trained method, trained now if its weights are not in the cache."""
        method = self.make_method()
        if not load_trained(method, self.checkpoint, self.device):
            result = _Run(self.config, self._around(rerun=True)).result()
            if result.status != "done" or not load_trained(method, self.checkpoint, self.device):
                raise TrainingFailedError(f"the {self.config.method} run {self.id} it starts from: {result.reason}")
        return method

    def _around(self, *, rerun: bool) -> RunOptions:
        """The surroundings of a run that this one starts from."""
        return replace(self.around, rerun=rerun, tuning=None)

    def stored(self) -> Result | None:
        """The stored result, if it is done and will serve; then it is on the board as well."""
        stored = self.store.get(self.config, self.id)
        if self.around.rerun or stored is None or stored.status != "done" or stored.config != self.config:
            return None  # equal names, other settings: a default has changed since
        if (stored.test is None and self.around.test) or not self._has_network_of(stored):
            return None
        self.board.recall(stored, self.store.path(self.config, self.id))
        return stored

    def _has_network_of(self, stored: Result) -> bool:
        """Whether a run today would train the network of a stored result, and not one that is divided otherwise.

        A result that is older than its division on record is known by its number of parameters.
        """
        figures, cost = stored.test or next(iter(stored.metrics.values()), None), stored.cost
        if figures is None or cost is None or len(figures.expert_mean_probability) < 2:
            return True
        settings = self.config.replace(seed=0, pretrained=False).model_dump_json()
        experts, parameters = _network(settings, self.revision, tuple(self.data.train_counts.tolist()), self.data.shape)
        return parameters == cost.parameters if stored.experts is None else experts == stored.experts

    def _start_from(self, method: Method) -> None:
        runs: dict[str, Method] = {}
        for name, config in self.cls.uses(self.config).items():
            other = _Run(resolve(config), self._around(rerun=False))
            result = other.result()
            if result.status != "done":
                raise TrainingFailedError(f"the {config.method} run {other.id} it starts from: {result.reason}")
            runs[name], self.used[name] = other.trained(), other.id
            self.used_seconds += (result.cost and result.cost.training_seconds) or 0.0
        if runs:
            method.start_from(runs)

    def _loader(self, part: Images, *, labelled: bool = True) -> Loader:
        def watch(words: str, done: int, of: int) -> None:
            self.around.watch(done / of, words)

        return self.data.loader(part, self.device, labelled=labelled, workers=self.around.workers, watch=watch)

    def _trained_and_measured(self, method: Method) -> Result:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        held_out = self.data.validation
        validation = self._loader(held_out) if held_out is not None else None
        test = self._loader(self.data.test) if self.around.test else None
        adapts = (self.data.test if self.around.test else held_out) if self.cls.transductive else None
        if self.config.batch_norm_images:
            check_has_batch_norm(method)
            synchronise(method, self.group, self.norms_together)
        history = fit(
            method,
            self._loader(self.data.train),
            self.recipe,
            seed=self.config.seed,
            checkpoint=self.checkpoint,
            precision=self.config.precision,
            compiled=self.around.compiled,
            validation=validation,
            unlabelled=self._loader(adapts, labelled=False) if adapts is not None else None,
            watch=self._watch,
            group=self.group,
            accumulate=self.around.accumulate,
            recompute=self.around.checkpoint_activations,
            shard=self.around.shard,
        )
        self._watch(1.0, "evaluation", history)
        return self._measured(method, history, validation, test)

    def _watch(self, share: float, words: str, history: History) -> None:
        if not self.group.is_main:
            return
        self.around.watch(share, words)
        self.heart.beat(share, words, history)
        self.board.follow(history.curve)

    def _measured(self, method: Method, history: History, validation: Loader | None, test: Loader | None) -> Result:
        metrics: dict[str, Metrics] = {}
        about_images: dict[str, Any] = {}
        held_out: tuple[Tensor, Tensor] | None = None
        images, seconds, how = 0, 0.0, ""
        for name, part in {"validation": validation, "test": test}.items():
            if part is None:
                continue
            began = time.monotonic()
            predictions = predict(method, part, self.config.precision, self.group)
            seconds += time.monotonic() - began
            wrong = self.group.broadcast_object(predictions.fault)  # which alone has the predictions
            if wrong is not None:
                raise TrainingFailedError(f"{name}: {wrong}")
            if not self.group.is_main:
                continue
            images, how = images + len(predictions.labels), predictions.how
            predictions.save(self.folder / f"{name}.npz", run_id=self.id)
            logits, labels = predictions.logits, predictions.labels
            record, logit_prior = data_record(self.data), self._logit_prior(method)
            temperature = None
            if name == "validation":
                held_out = logits, labels
            if held_out is not None:  # of the other part nothing but its class frequencies may choose a temperature
                prior = Prior.of_labels(labels, logits.shape[1])
                prior = replace(prior, name=name) if name == "validation" else prior
                training = Training(torch.tensor(record.trained_on, dtype=torch.float64), logit_prior)
                temperature = fit_for_prior(*held_out, prior, training)
            metrics[name] = measure(
                logits, labels, predictions.experts, shot_groups(self.data),
                temperature.value if temperature else None, fitted_for=temperature.fitted_for if temperature else None,
            )  # fmt: skip
            if name == "test":
                about_images = of_images(
                    predictions, record, logit_prior=logit_prior, transductive=self.cls.transductive
                )
        cost = self._cost(method, history, images / seconds if images else 0.0, how)
        result = self._record(method, "done", metrics=metrics, about_images=about_images, history=history, cost=cost)
        return self.group.broadcast_object(lambda: result)

    @staticmethod
    def _logit_prior(method: Method) -> float | None:
        prior = method.logit_prior if method.config.keeps_prior else None
        return prior if prior is not None and math.isfinite(prior) else None

    def _record(
        self,
        method: Method | None,
        status: Status,
        *,
        reason: str | None = None,
        metrics: dict[str, Metrics] | None = None,
        about_images: Mapping[str, Any] | None = None,
        history: History | None = None,
        cost: Cost | None = None,
    ) -> Result:
        return Result(
            run_id=self.id,
            status=status,
            reason=reason,
            config=self.config,
            data=data_record(self.data),
            method=MethodRecord(
                revision=self.revision,
                logit_prior=self._logit_prior(method) if method is not None else None,
                transductive=self.cls.transductive,
                track=self.cls.comparison_group,
                uses=self.used,
                selected=history.selected if history else {},
                paper=paper_record(self.cls, self.config, self.source.recipe_table),
            ),
            metrics=metrics or {},
            **(about_images or {}),
            experts=experts_record(method.network) if method is not None else None,
            curve=[CurvePoint.model_validate(one, from_attributes=True) for one in (history.curve if history else ())],
            cost=cost,
            tuning=dict(self.around.tuning) if self.around.tuning else None,
            provenance=provenance(self.device, self.started),
        )

    def _cost(self, method: Method, history: History, evaluation_rate: float, evaluation: str) -> Cost:
        return Cost(
            parameters=sum(weight.numel() for weight in method.network.parameters()),
            multiply_adds=multiply_adds(method, self.data.shape),
            training_seconds=history.seconds + self.used_seconds,
            training_images_per_second=history.images / history.seconds if history.seconds else None,
            evaluation_images_per_second=evaluation_rate,
            training=history.how,
            evaluation=evaluation,
            divisions=[BatchSplit.model_validate(one, from_attributes=True) for one in history.divisions],
            peak_memory_bytes=peak_memory(self.device),
            peak_memory_of="device" if self.device.type == "cuda" else "process",
        )


@lru_cache
def _network(
    settings: str, revision: str, counts: tuple[int, ...], shape: tuple[int, int, int]
) -> tuple[ExpertsRecord | None, int]:
    """How experts divide the network of a run, and its number of parameters; worked out once for all seeds.

    Args:
        settings: of the run, as JSON text.
        revision: of its method, which others of the same name do not share.
        counts: (C,) images of each class to train on.
        shape: of an image: channels, height, width.
    """
    with warnings.catch_warnings(action="ignore", category=LtbenchWarning):
        network = build_method(RunConfig.model_validate_json(settings), counts, shape, torch.device("cpu")).network
    return experts_record(network), sum(weight.numel() for weight in network.parameters())


def _reason(error: BaseException, cls: type[Method]) -> str:
    """Why a run has failed, in a line, with the place in the method's own code, or else where the error came up."""
    lines = str(error).strip().splitlines()
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = registry.error_location(error, cls) or f"{Path(last.filename).name}, line {last.lineno}"
    return f"{type(error).__name__}{': ' + lines[0] if lines else ''} ({place})"
