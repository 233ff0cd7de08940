"""What training on ImageNet-LT takes on this machine, by network: a table.

    python -m ltbench_speed.throughput [ROUNDS]

Every row is measured in a process of its own, whose peak memory is that of the row. Steps are of random images in
memory (``ltbench.runs.estimate``); ``ltbench bench --only loading`` measures what decodes them.
"""

import json
import subprocess
import sys

from tabulate import tabulate

from ltbench.config import RunConfig
from ltbench.results.provenance import hardware
from ltbench.runs.estimate import estimate
from ltbench.runs.options import RunOptions

ROWS = (
    ("resnet50", "ce", "fp32"),
    ("resnet50", "ce", "bf16"),
    ("resnet50", "balpoe", "fp32"),
    ("resnet50", "balpoe", "bf16"),
    ("resnext50_32x4d", "balpoe", "bf16"),
    ("convnext_tiny", "balpoe", "bf16"),
    ("vit_small_patch16_224", "balpoe", "bf16"),
)
"""Network, method, precision; BalPoE has three experts."""
TITLES = (
    "network", "method", "precision", "M parameters", "G multiply-adds", "s a step of 64", "images/s", "GiB",
    "evaluation, images/s", "180 epochs, days",
)  # fmt: skip


def row(backbone: str, method: str, precision: str, rounds: int) -> list[str]:
    """A row of the table."""
    config = RunConfig.model_validate(
        {"method": method, "dataset": "imagenet-lt", "backbone": backbone, "precision": precision}
    )
    found = estimate(config, RunOptions(), rounds=rounds)
    (share,) = found.processes
    seconds = [second for stage in share.stages for second in stage.seconds]
    return [
        backbone, method, precision, f"{found.parameters / 1e6:.1f}", f"{found.multiply_adds / 1e9:.2f}",
        f"{min(seconds):.2f} to {max(seconds):.2f}", f"{share.images_per_second:.1f}",
        f"{(share.peak_memory or 0) / 2**30:.1f}", f"{found.sizes.test_images / found.evaluation_seconds:.0f}",
        f"{share.seconds / 86400:.0f}",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--row"]:
        backbone, method, precision, rounds = sys.argv[2:]
        print(json.dumps(row(backbone, method, precision, int(rounds))))
        return
    rounds = sys.argv[1] if len(sys.argv) > 1 else "3"
    rows = []
    for one in ROWS:
        command = [sys.executable, "-m", "ltbench_speed.throughput", "--row", *one, rounds]
        rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(rows[-1], file=sys.stderr)
    import torch

    from ltbench.training.device import choose_device

    about = hardware(choose_device("auto"))
    print(f"{about.get('accelerator', about['processor'])}, {about['threads']} threads, torch {torch.__version__}")
    print(f"shortest and longest of {rounds} steps; in all: the shortest\n")
    print(tabulate(rows, TITLES, "github", disable_numparse=True))


if __name__ == "__main__":
    main()
