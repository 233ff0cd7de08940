"""Pruning: a trial that does worse on validation images than earlier ones did at its age ends early.

What is decided depends on the trials whose outcome was known when the trial was chosen, and on its own curve. So the
same search prunes the same trials whichever process is faster, and one that was killed where it would have been.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.pruners import HyperbandPruner, MedianPruner
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ltbench.runs.search_settings import SearchSettings

STARTUP = 5
"""Number of complete trials before the median prunes."""


@dataclass(frozen=True)
class Pruning:
    """What decides whether a trial ends early; it can be sent to the process that carries the trial out."""

    settings: SearchSettings
    trials: tuple[FrozenTrial, ...]
    """All trials before it; those that were under way when it was chosen have neither curve nor outcome."""

    @property
    def objective(self) -> str:
        """The metric that is measured while it trains."""
        return self.settings.objectives[0]

    def ends(self, values: Mapping[int, float], first: int, epochs: int) -> bool:
        """Whether a trial ends after the last of its values; not after the last epoch of all.

        Args:
            values: of the objective, by number of epochs trained; those of an earlier call included.
            first: number of epochs of the first value.
            epochs: of all stages.
        """
        trial, prunes = self._trial, False
        hyperband = self.settings.pruner == "hyperband"
        # What hyperband shares out is the training from the first value on: brackets that look earlier see noise.
        spared = first - 1 if hyperband else 0
        trial.study.pruner = _hyperband(epochs - spared) if hyperband else MedianPruner(n_startup_trials=STARTUP)
        there = trial.study.trials[-1].intermediate_values
        for number, value in values.items():
            if number - spared not in there:
                trial.report(value, number - spared)
                prunes = trial.should_prune()
        return prunes

    def reason(self, values: Mapping[int, float]) -> str:
        """Why a trial has ended, in a line."""
        epochs, value = list(values.items())[-1]
        return f"after {epochs} epochs: {self.objective} {value:.2f} on validation images"

    @property
    def notes(self) -> dict[str, Any]:
        """What the pruner has noted of the trial, for later ones: its value at each rung."""
        return dict(self._trial.study.trials[-1].system_attrs)

    @cached_property
    def _trial(self) -> Trial:
        """The trial, in a study of its own: storages of others need not be asked while it trains."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(study_name="ltbench", directions=self.settings.directions)
        study.add_trials(self.trials)
        study.add_trial(create_trial(state=TrialState.RUNNING))
        return Trial(study, study.trials[-1]._trial_id)


def _hyperband(epochs: int) -> HyperbandPruner:
    """Hyperband (Li et al., JMLR 2018) with its authors' reduction factor, 3."""
    return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)


def pruning_for(settings: SearchSettings, number: int, trials: list[FrozenTrial], known: int) -> Pruning | None:
    """What decides on a trial; None where no trial is pruned.

    Args:
        settings: of the search.
        number: of the trial.
        trials: of the search so far, by number.
        known: number of trials, from the first one, whose outcome it may depend on.
    """
    if settings.pruner == "none":
        return None
    finished = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    before = tuple(
        one if one.number < known and one.state in finished else create_trial(state=TrialState.RUNNING)
        for one in trials[:number]
    )
    return Pruning(settings, before)
