"""Adjusting p-values for several tests at once, None kept in place. False-discovery rates are scipy's; Holm's three lines are our own, since statsmodels
collects all garbage at every call, a tenth of a second in a large process, and takes two to import.

References
[1] Holm (1979), A simple sequentially rejective multiple test procedure. Scand. J. Statistics 6.
[2] Benjamini & Hochberg (1995), Controlling the false discovery rate. JRSS B 57.
[3] Benjamini & Yekutieli (2001), The control of the false discovery rate under dependency. Annals of Statistics 29.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from auditor.errors import InputError


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Family-wise adjusted p-values [1], in the given order; None stays None and is no member of the family.

    The k-th smallest of m is multiplied by m − k + 1 and is no smaller than the one before it.
    """
    return _adjust(p_values, _holm)


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """False-discovery-rate adjusted p-values [2]; valid under independence or positive dependence."""
    return _adjust(p_values, lambda p_M: _false_discovery(p_M, "bh"))


def benjamini_yekutieli(p_values: Sequence[float | None]) -> list[float | None]:
    """False-discovery-rate adjusted p-values under any dependence [3]."""
    return _adjust(p_values, lambda p_M: _false_discovery(p_M, "by"))


def _holm(p_M: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(p_M, kind="stable")
    adjusted = np.empty_like(p_M)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_M[order] * np.arange(len(p_M), 0, -1)), 1.0)
    return adjusted


def _false_discovery(p_M: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    from scipy.stats import false_discovery_control  # slow to import; most commands never adjust by it

    return np.asarray(false_discovery_control(p_M, method=method))


def _adjust(p_values: Sequence[float | None], adjust: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> list[float | None]:
    given = np.array([p for p in p_values if p is not None], dtype=float)
    bad = given[~((given >= 0) & (given <= 1))]
    if len(bad):
        raise InputError(f"p-value {bad[0]} is outside 0..1: pass probabilities, or None for a test that was not made")
    adjusted = iter(adjust(given).tolist() if len(given) else [])
    return [None if p is None else float(next(adjusted)) for p in p_values]
