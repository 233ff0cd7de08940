"""ltbench: a benchmark harness for long-tailed recognition.

import ltbench

result = ltbench.run(ltbench.RunConfig(method="balpoe", dataset="digits-lt", seed=0))
frame = ltbench.load_results("runs/")
"""

from typing import TYPE_CHECKING

from ltbench.lazy import lazy_names

if TYPE_CHECKING:
    from ltbench.config import Recipe, RunConfig
    from ltbench.deploy.export import load_predictor
    from ltbench.errors import LtbenchError, LtbenchWarning
    from ltbench.method import Method
    from ltbench.report.frame import load_results
    from ltbench.runs.options import RunOptions
    from ltbench.runs.run import run

__version__ = "0.2.0"
__all__ = [
    "LtbenchError",
    "LtbenchWarning",
    "Method",
    "Recipe",
    "RunConfig",
    "RunOptions",
    "load_predictor",
    "load_results",
    "run",
]

_HOMES = {
    "LtbenchError": "errors",
    "LtbenchWarning": "errors",
    "Method": "method",
    "Recipe": "config",
    "RunConfig": "config",
    "RunOptions": "runs.options",
    "load_predictor": "deploy.export",
    "load_results": "report.frame",
    "run": "runs.run",
}

_RENAMED = {
    "Surroundings": "ltbench.RunOptions",
    "draws": "ltbench.rng",
    "losses": "ltbench.method.losses",
    "second_stage": "ltbench.method.second_stage",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, _RENAMED)  # so that ``import ltbench`` stays fast
