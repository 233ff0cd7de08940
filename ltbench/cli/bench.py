"""ltbench bench."""

import sys
from typing import Annotated

import typer

from ltbench.cli.options import Device
from ltbench.cli.output import echo_stderr, getting_ready


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
    """Compare ltbench's speed with a typical loop.

    The loop is that of typical research code. The table has the shortest times of both, and their ratios.
    """
    from ltbench.errors import unknown
    from ltbench_speed import KINDS

    kinds = only.split(",") if only else [kind for kind in KINDS if kind != "run"]
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("benchmark", kind, KINDS, where="--only")
    with getting_ready("bench"):
        from ltbench.training.device import choose_device
        from ltbench_speed.contests import carry_out, contests, render

    chosen = choose_device(device)
    measured = []
    for contest in contests(kinds, chosen):
        echo_stderr(f"{contest.name} ...")
        measured.append(carry_out(contest, rounds))
    sys.stdout.write(render(measured, rounds, chosen))
