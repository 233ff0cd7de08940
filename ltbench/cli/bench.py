"""ltbench bench."""

import sys
from typing import Annotated

import typer

from ltbench.cli.options import Device
from ltbench.cli.output import echo_stderr


def bench(
    only: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated list of step, epoch, run, evaluation, augmentation, loading, metrics  "
            "[default: all but run]"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of interleaved repetitions; the shortest time counts")] = 5,
    device: Device = "auto",
) -> None:
    """Compare ltbench's speed with a typical research training loop: shortest times and their ratios."""
    from ltbench.errors import unknown
    from ltbench.training.device import choose_device
    from ltbench_speed.contests import KINDS, carry_out, contests, render

    kinds = only.split(",") if only else [kind for kind in KINDS if kind != "run"]
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("benchmark", kind, KINDS, where="--only")
    chosen = choose_device(device)
    measured = []
    for contest in contests(kinds, chosen):
        echo_stderr(f"{contest.name} ...")
        measured.append(carry_out(contest, rounds))
    sys.stdout.write(render(measured, rounds, chosen))
