"""Numbers as all tables of a report show them."""

import math

MISSING = "n/a"


def number(value: float | None, digits: int) -> str:
    """A number to so many digits after the point, with a minus sign and no hyphen; "n/a" for none."""
    return _shown(value, digits, "")


def signed(value: float | None, digits: int) -> str:
    """A number with its sign, e.g. "+1.2"; zero has none."""
    return _shown(value, digits, "+")


def _shown(value: float | None, digits: int, sign: str) -> str:
    if value is None or math.isnan(value):
        return MISSING
    rounded = round(float(value), digits) or 0.0  # not -0.0
    return f"{rounded:{sign if rounded else ''}.{digits}f}".replace("-", "−")


def spread(mean: float | None, deviation: float | None, digits: int = 1) -> str:
    """Mean ± standard deviation, e.g. "63.0 ± 3.6"; one run has no deviation."""
    shown, beside = number(mean, digits), number(deviation, digits)
    return shown if MISSING in (shown, beside) else f"{shown} ± {beside}"


def probability(p: float) -> str:
    """A p value, e.g. ".012"; "n/a" where there was no test."""
    return "<.001" if p < 0.001 else number(p, 3).removeprefix("0")


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it, e.g. "42 s"."""
    if seconds is None or math.isnan(seconds):
        return MISSING
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"
