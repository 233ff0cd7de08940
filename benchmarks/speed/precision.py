"""What bf16 changes: runs with and without it, paired by their seed.

    python -m ltbench_speed.precision RESULTS...

The folders hold the same runs in both precisions. Prints, for each data set and method, the mean of the paired
differences bf16 - fp32 in percentage points and its 95 % interval (Student's t with n - 1 degrees of freedom).
"""

import sys

import pandas as pd
from scipy import stats
from tabulate import tabulate

from ltbench.report.frame import load_results

FIGURES = {"top1": "accuracy", "few": "few", "ece": "ECE", "mce": "MCE"}
PAIR = ["dataset", "method", "hyperparameters.mixup", "recipe.epochs", "seed"]


def paired(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a pair: the differences of the figures."""
    done = runs[runs["status"] == "done"].set_index([*PAIR, "precision"]).unstack("precision")
    return pd.DataFrame({name: done[name, "bf16"] - done[name, "fp32"] for name in FIGURES}).dropna()


def interval(values: pd.Series) -> str:
    """Mean and 95 % interval."""
    mean, error = values.mean(), values.sem()
    if len(values) < 2:
        return f"{mean:+.2f}"
    half = stats.t.ppf(0.975, len(values) - 1) * error
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


def main() -> None:
    """Print the table."""
    pairs = paired(load_results(*sys.argv[1:]))
    rows = []
    for key, group in pairs.groupby(PAIR[:-1]):
        dataset, method, mixup, epochs = key
        figures = [interval(group[name]) for name in FIGURES]
        rows.append((f"{dataset}, {epochs} epochs", f"{method}, mixup {mixup:g}", len(group), *figures))
    print(tabulate(rows, ("data", "method", "pairs", *FIGURES.values()), tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
