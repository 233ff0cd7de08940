"""How a search goes about it: objectives, sampler and pruner.

The command line's ``--help`` needs it, so that pydantic and optuna are imported where they are used.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from ltbench.errors import LtbenchError, unknown

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from ltbench.method.search_space import Choice, Range

Sampler = Literal["tpe", "random", "cmaes"]
Direction = Literal["minimize", "maximize"]
Pruner = Literal["none", "median", "hyperband"]
_IN_WORDS = {"macro": "macro accuracy", "ece": "ECE", "mce": "MCE", "nll": "NLL", "brier": "Brier score"}
"""What metrics are called, if not by their names."""


@dataclass(frozen=True)
class SearchSettings:
    """What a search optimises, and how."""

    objectives: tuple[str, ...] = ("macro",)
    """Metrics on the validation part; of several, a search finds the Pareto front."""
    sampler: Sampler = "tpe"
    pruner: Pruner = "none"

    def check(self, space: "Mapping[str, Range | Choice]") -> None:
        """Refuse what does not go together.

        Args:
            space: what is searched.

        Raises:
            LtbenchError: for an unknown metric, a sampler that cannot draw from the space or is not installed, or
                pruning with several objectives.
        """
        if not self.objectives:
            raise LtbenchError("no metric is named", where="--objectives", hint="write macro, or macro,ece")
        known = metrics()
        for name in self.objectives:
            if name not in known:
                raise unknown("metric", name, known, where="--objectives")
        if len(set(self.objectives)) < len(self.objectives):
            raise LtbenchError("a metric is named twice", where="--objectives")
        if self.sampler == "cmaes":
            self._check_cmaes(space)
        if self.pruner != "none" and len(self.objectives) > 1:
            raise LtbenchError(
                "a trial that is behind in one objective may be ahead in another, so none can end early",
                where="--pruner",
                hint="leave it out, or name one objective",
            )

    def _check_cmaes(self, space: "Mapping[str, Range | Choice]") -> None:
        from ltbench.method.search_space import Choice

        choices = [name for name, option in space.items() if isinstance(option, Choice)]
        reason = hint = None
        if choices:
            reason = f"CMA-ES draws numbers, and {', '.join(choices)} is chosen from a list"
            hint = f"fix it (--set {choices[0]}=...), give it a range (--space), or take --sampler tpe"
        elif len(space) < 2:
            reason = f"CMA-ES learns how numbers vary together, and {next(iter(space), 'nothing')} alone is searched"
            hint = "take --sampler tpe"
        elif len(self.objectives) > 1:
            reason, hint = "CMA-ES has one objective", "take --sampler tpe, or name one objective"
        elif importlib.util.find_spec("cmaes") is None:
            reason, hint = "CMA-ES takes a package that is not installed", "python -m pip install 'ltbench[cmaes]'"
        if reason is not None:
            raise LtbenchError(reason, where="--sampler cmaes", hint=hint)

    @property
    def lower(self) -> list[bool]:
        """Whether less is better, of each objective."""
        from ltbench.results.records import LOWER_IS_BETTER

        return [name in LOWER_IS_BETTER for name in self.objectives]

    @property
    def directions(self) -> list[Direction]:
        """The directions of the objectives, as optuna calls them."""
        return ["minimize" if lower else "maximize" for lower in self.lower]

    @property
    def in_words(self) -> str:
        """What a search optimises."""
        names = " and ".join(_IN_WORDS.get(name, name) for name in self.objectives)
        return f"{names} on the validation part of train"

    def named(self, values: Sequence[float | None]) -> str:
        """Values of the objectives in words; percentages with their sign."""
        words = [
            f"{_IN_WORDS.get(name, name)} {value:.2f}" + (" %" if name not in ("nll", "brier") else "")
            for name, value in zip(self.objectives, values, strict=True)
            if value is not None
        ]
        return ", ".join(words)

    @property
    def unusual(self) -> dict[str, Any]:
        """The settings that are not the default ones, which studies of older versions do not know of."""
        facts = {"objectives": list(self.objectives), "sampler": self.sampler, "pruner": self.pruner}
        return {name: value for name, value in facts.items() if in_words(value) != in_words(getattr(USUAL, name))}

    def make_sampler(self, *, seed: int, draw: Sequence[int], liar: bool) -> "BaseSampler":
        """What draws a trial.

        Args:
            seed: of the search.
            draw: which draw it is.
            liar: whether trials that are under way count as bad ones, so that others keep away from them.
        """
        import optuna

        from ltbench import rng  # takes numpy, which --help need not wait for

        key = rng.key(seed, self.sampler, *draw) % 2**32
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=key)
        if self.sampler == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=key, warn_independent_sampling=False)
        return optuna.samplers.TPESampler(seed=key, constant_liar=liar)


USUAL = SearchSettings()
"""What searches of older versions had."""


def metrics() -> list[str]:
    """The metrics of validation images that a search may optimise."""
    from ltbench.results.records import Metrics

    fields = Metrics.model_fields.items()
    return [name for name, field in fields if float in (field.annotation, *get_args(field.annotation))]


def in_words(value: str | Sequence[str]) -> str:
    """A setting of a search in words."""
    return value if isinstance(value, str) else ",".join(value)
