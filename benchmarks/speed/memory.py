"""What it saves on a CPU with glibc to keep the memory that tensors free: a table.

    python -m ltbench_speed.memory [ROUNDS]

Plain PyTorch steps of 64 random photographs, in processes that take turns: as ``ltbench.training.memory`` sets the C
library, and with the thresholds that it comes to by itself.
"""

import json
import os
import resource
import subprocess
import sys
import time

from tabulate import tabulate

ROWS = ("tf_efficientnet_lite0", "mobilenetv3_large_100", "convnext_atto", "resnet50")
"""Networks of timm, at 224 pixels in float32."""
BATCH, STEPS = 64, 3
BY_ITSELF = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}
"""The largest thresholds that glibc takes by itself, which it does when blocks of this size have been freed."""
TITLES = ("network", "given back, s a step", "kept, s a step", "ratio", "given back, GiB", "kept, GiB")


def measure(backbone: str) -> tuple[float, float]:
    """The shortest step, seconds of processor time, and the peak of memory, GiB."""
    import timm
    import torch

    from ltbench.training.device import choose_device

    device = choose_device("cpu")
    network = timm.create_model(backbone, num_classes=100).train().to(device, memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(STEPS):
        start = time.process_time()
        network(images).logsumexp(1).mean().backward()
        network.zero_grad()
        seconds.append(time.process_time() - start)
    return min(seconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--row"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows = []
    for backbone in ROWS:
        found: dict[str, list[tuple[float, float]]] = {"given back": [], "kept": []}
        for _ in range(rounds):
            for name, variables in (("given back", BY_ITSELF), ("kept", {})):
                command = [sys.executable, "-m", "ltbench_speed.memory", "--row", backbone]
                environment = {**os.environ, **variables}
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                found[name].append(json.loads(done.stdout))
        (before, peak_before), (after, peak_after) = (map(min, zip(*one, strict=True)) for one in found.values())
        numbers = (before, after, before / after, peak_before, peak_after)
        rows.append([backbone, *(f"{number:.2f}" for number in numbers)])
        print(rows[-1], file=sys.stderr)
    print(f"shortest of {STEPS} steps of {BATCH} images in {rounds} processes each, which took turns\n")
    print(tabulate(rows, TITLES, "github", disable_numparse=True))


if __name__ == "__main__":
    main()
