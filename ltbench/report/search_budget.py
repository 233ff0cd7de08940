"""The search that chose the settings of a run, in words."""

from collections.abc import Mapping
from typing import Any


def search_budget(tuning: Mapping[str, Any] | None) -> str:
    """How many trials a search had, how they were drawn and pruned, and for what; empty where there was none.

    Args:
        tuning: the record in a result; older ones say less.
    """
    if not tuning:
        return ""
    best = tuning.get("best_trial")
    counts = [f"{tuning[name]} {name}" for name in ("failed", "pruned") if tuning.get(name)]
    parts = [
        f"{tuning.get('trials')} trials" + (f" ({', '.join(counts)})" if counts else ""),
        f"sampler {tuning['sampler']}" if "sampler" in tuning else "",
        f"pruner {tuning['pruner']}" if tuning.get("pruner", "none") != "none" else "",
        f"for {tuning['objective']}" if "objective" in tuning else "",
        f"trial {best + 1}, one of {len(tuning['front'])} of the Pareto front"  # people count from 1
        if isinstance(best, int) and isinstance(tuning.get("front"), list)
        else "",
    ]
    return ", ".join(filter(None, parts))
