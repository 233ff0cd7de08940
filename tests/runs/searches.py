"""What a search has in its folder, and the run that its trials vary."""

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ltbench.config import RunConfig

BASE = RunConfig(method="ce", backbone="cifar_resnet8", epochs=1, batch_size=8, lr=0.03, seed=1000)
"""Learns enough in an epoch that trials differ in their outcome."""


def study_in(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    return optuna.load_study(storage=storage, study_name="ltbench")


def trials_in(folder):
    return study_in(folder).trials


def outcomes(folder):
    return [
        (trial.params, trial.value, trial.user_attrs["ece"])
        for trial in trials_in(folder)
        if trial.state == TrialState.COMPLETE
    ]
