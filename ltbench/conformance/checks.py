"""All checks by name, and how they are run over a method."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ltbench import registry
from ltbench.conformance.tiny_task import Check, Subject
from ltbench.errors import LtbenchWarning
from ltbench.method import Method

CHECKS: dict[str, Check] = {}


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check."""

    name: str
    passed: bool
    message: str = ""


def check(function: Check) -> Check:
    """Add a check to those that every method must pass."""
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


def run(cls: type[Method]) -> Iterator[Outcome]:
    """Carry out all checks over a method, on the CPU and on a GPU if there is one."""
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        subject: Subject | None = None
        for name, function in CHECKS.items():
            title = name if device == "cpu" else f"{name} ({device})"
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", LtbenchWarning)
                    subject = subject or Subject(cls, torch.device(device))
                    function(subject)
                yield Outcome(title, passed=True)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a method may call sys.exit
                yield Outcome(title, passed=False, message=_explained(error, cls))


def _explained(error: BaseException, cls: type[Method]) -> str:
    message = f"{type(error).__name__}: {error}" if not isinstance(error, AssertionError) else str(error)
    place = registry.error_location(error, cls)
    return f"{message} ({place})" if place else message
