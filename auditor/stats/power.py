"""How many samples would settle a question, and how small an effect this many can show.

References
[1] Cohen (1988), Statistical power analysis for the behavioral sciences, ch. 2.
[2] Wilson (1927), JASA 22: the score interval excludes b exactly when |p − b| > z·√(b(1 − b)/n).
[3] Clopper & Pearson (1934), Biometrika 26: at 0 of n the upper end h solves (1 − h)^n = (1 − level)/2.
"""

from __future__ import annotations

import math

from scipy import stats

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval


def n_to_settle(value: float, bound: float, n: int, ci: ConfidenceInterval) -> int | None:
    """Samples at which the interval would exclude ``bound`` if estimate and clustering stayed as they are; at least n + 1.

    The design effect is already in ``ci``: for Wilson the effective size is read back from the interval, and the needed one is
    z²·b(1 − b)/(p − b)² [2]; at 0/n or n/n widths shrink as 1/n [3]; for any other method as 1/√n. None if the
    estimate equals the bound, or no number of samples would do (a bound at which the interval ends for every n).
    """
    distance = abs(value - bound)
    half = ci.high - value if bound > value else value - ci.low
    if distance == 0 or n <= 0 or half <= 0:
        return None
    if ci.method.startswith("Wilson") and 0 < bound < 1:
        growth = _wilson_growth(value, bound, ci)
    elif value in (0.0, 1.0) and 0 < half < 1 and "exact" in ci.method:
        growth = math.log1p(-half) / math.log1p(-distance) if distance < 1 else 0.0
    else:
        growth = (half / distance) ** 2
    return max(n + 1, math.ceil(n * growth)) if math.isfinite(growth) else None


def _wilson_growth(value: float, bound: float, ci: ConfidenceInterval) -> float:
    """Needed over present effective size. For the ends l, h of Wilson's interval l·h = p²·n/(n + z²); used for the larger of p, 1 − p."""
    z2 = float(stats.norm.ppf(0.5 + ci.level / 2)) ** 2
    p, product = (value, ci.low * ci.high) if value >= 0.5 else (1 - value, (1 - ci.low) * (1 - ci.high))
    effective = z2 * product / (p**2 - product)
    return z2 * bound * (1 - bound) / (value - bound) ** 2 / effective


def minimum_detectable_effect(standard_error: float, level: float = 0.95, power: float = 0.8, df: float = math.inf) -> float:
    """Smallest true difference that a two-sided test at 1 − ``level`` finds with ``power``, in the unit of the standard error [1].

    (t_{(1+level)/2} + t_{power})·error, the usual approximation of the non-central t. Raises InputError for a negative error.
    """
    if standard_error < 0:
        raise InputError(f"standard_error={standard_error} is negative: pass the error of the difference")
    return float((stats.t.ppf(0.5 + level / 2, df) + stats.t.ppf(power, df)) * standard_error)


def implied_error(ci: ConfidenceInterval, df: float = math.inf) -> float:
    """The standard error that an interval implies: half its width over Student's t."""
    return (ci.high - ci.low) / (2 * float(stats.t.ppf(0.5 + ci.level / 2, df)))
