"""Conformance checks: what every method must do, checked on a tiny network in seconds.

``ltbench check my_method.py`` runs them over a user's file, and ltbench's own tests over every registered method. Each
file has one kind of check: of what a class declares, of losses, of training, of prediction.
"""

from ltbench.conformance import declaration, loss, prediction, training  # noqa: F401  (they add their checks)
from ltbench.conformance.checks import CHECKS as CHECKS
from ltbench.conformance.checks import Outcome as Outcome
from ltbench.conformance.checks import run as run
from ltbench.conformance.tiny_task import COUNTS as COUNTS
from ltbench.conformance.tiny_task import RECIPE as RECIPE
from ltbench.conformance.tiny_task import Subject as Subject
