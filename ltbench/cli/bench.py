"""ltbench bench: ltbench beside the way research code trains."""

import sys
from typing import Annotated

import typer

from ltbench.cli.options import Device, say


def bench(
    only: Annotated[
        str | None,
        typer.Option(
            help="By commas: step, epoch, run, evaluation, augmentation, loading, metrics  [default: all but run]"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often both sides take turns")] = 5,
    device: Device = "auto",
) -> None:
    """Measure ltbench beside the way research code trains: one table, shortest times and their ratios."""
    from ltbench.errors import unknown
    from ltbench.training.device import choose_device
    from ltbench_speed.contests import KINDS, carry_out, contests, render

    kinds = only.split(",") if only else [kind for kind in KINDS if kind != "run"]
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of measurement", kind, KINDS, where="--only")
    where = choose_device(device)
    outcomes = []
    for contest in contests(kinds, where):
        say(f"{contest.name} ...")
        outcomes.append(carry_out(contest, rounds))
    sys.stdout.write(render(outcomes, rounds, where))
