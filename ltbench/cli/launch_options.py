"""Options of ``ltbench run`` for who carries out its runs: this process, one a GPU, SLURM or SkyPilot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ltbench.errors import LtbenchError


@dataclass(frozen=True)
class LaunchOptions:
    """Which launcher carries out the runs of a command, and what it needs; the fields are named after options."""

    launch: Literal["local", "gpus", "slurm"]
    per_gpu: int
    resources: Path | None
    emit_array: bool
    emit_skypilot: bool
    jobs: Path
    """Folder of job folders."""

    @property
    def elsewhere(self) -> bool:
        """Whether other machines carry the runs out, later perhaps."""
        return self.launch == "slurm" or self.emit_array or self.emit_skypilot

    def check(self, *, rerun: bool, shard: bool, parallel: int) -> None:
        """Refuse options that exclude each other.

        Args:
            rerun: whether finished runs are repeated.
            shard: whether parameters are sharded.
            parallel: number of concurrent runs.

        Raises:
            LtbenchError: naming them.
        """
        if self.launch == "gpus" and parallel > 1:
            hint = "use --per-gpu for several runs on each GPU"
            raise LtbenchError("--launch gpus says how many runs there are at once", where="--parallel", hint=hint)
        if self.emit_array and self.emit_skypilot:
            raise LtbenchError(
                "each of the two writes a job of its own", where="--emit-array, --emit-skypilot", hint="give one"
            )
        if self.launch != "local" and (self.emit_array or self.emit_skypilot):
            written = "--emit-array" if self.emit_array else "--emit-skypilot"
            hint = f"leave out --launch or {written}"
            raise LtbenchError("a job is launched or written, not both", where=f"--launch, {written}", hint=hint)
        if self.resources is not None and not self.elsewhere:
            hint = "add --launch slurm, --emit-array or --emit-skypilot"
            raise LtbenchError("only SLURM and SkyPilot are asked for resources", where="--resources", hint=hint)
        if self.per_gpu != 1 and self.launch != "gpus":
            raise LtbenchError("--per-gpu counts runs on each GPU", where="--per-gpu", hint="add --launch gpus")
        here = {"--rerun": rerun, "--shard": shard, "--parallel": parallel > 1}
        if self.elsewhere and any(here.values()):
            raise LtbenchError(
                "each run is a process of its own, which resumes when it is requeued",
                where=", ".join(option for option, is_given in here.items() if is_given),
                hint="leave it out; to train again, remove the results",
            )

    def gpus(self) -> list[str]:
        """The devices of ``--launch gpus``, as often as each has runs; none: every run sees all."""
        if self.launch != "gpus":
            return []
        from ltbench.runs.launchers.gpus import visible_gpus

        return visible_gpus() * self.per_gpu
