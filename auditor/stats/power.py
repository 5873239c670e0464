"""How many samples would settle a question, and how small an effect this many could show.

References
[1] Cohen (1988), Statistical power analysis for the behavioral sciences, ch. 2.
[2] Wilson (1927), JASA 22: the score interval excludes b exactly when |p − b| > z·√(b(1 − b)/n).
"""

from __future__ import annotations

import math

from scipy import stats

from auditor.schema import ConfidenceInterval


def n_to_settle(value: float, bound: float, n: int, ci: ConfidenceInterval, design_effect: float | None = None) -> int | None:
    """Samples (at the same clustering) at which the interval would exclude ``bound`` if the estimate stayed as it is.

    Widths shrink as 1/√n: n·(half-width towards the bound / distance)². A Wilson interval is inverted exactly
    [2]: n = z²·deff·b(1 − b)/(p − b)². Always more than ``n``. None if the estimate equals the bound.
    """
    distance = abs(value - bound)
    if distance == 0 or n <= 0:
        return None
    if ci.method.startswith("Wilson") and 0 < bound < 1:
        z = float(stats.norm.ppf(0.5 + ci.level / 2))
        needed = z**2 * (design_effect or 1.0) * bound * (1 - bound) / distance**2
    else:
        half = ci.high - value if bound > value else value - ci.low
        needed = n * (half / distance) ** 2
    return max(n + 1, math.ceil(needed)) if math.isfinite(needed) else None


def minimum_detectable_effect(standard_error: float, level: float = 0.95, power: float = 0.8, df: float = math.inf) -> float:
    """Smallest true difference that a two-sided test at 1 − ``level`` would find with ``power``, in the unit of the standard error [1]."""
    return float((stats.t.ppf(0.5 + level / 2, df) + stats.t.ppf(power, df)) * standard_error)
