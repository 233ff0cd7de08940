"""How fast ltbench is: contests with a reference loop, benchmarks, and how cost grows."""

KINDS = ("step", "epoch", "run", "evaluation", "augmentation", "loading", "metrics")
"""Kinds of contests."""
