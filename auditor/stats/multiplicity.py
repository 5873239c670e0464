"""Adjusting p-values for several tests at once (statsmodels' implementations, None kept in place).

References
[1] Holm (1979), A simple sequentially rejective multiple test procedure. Scand. J. Statistics 6.
[2] Benjamini & Hochberg (1995), Controlling the false discovery rate. JRSS B 57.
[3] Benjamini & Yekutieli (2001), The control of the false discovery rate under dependency. Annals of Statistics 29.
"""

from __future__ import annotations

from collections.abc import Sequence

from auditor.errors import InputError


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Family-wise adjusted p-values [1], in the given order; None stays None and is no member of the family."""
    return _adjust(p_values, "holm")


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """False-discovery-rate adjusted p-values [2]; valid under independence or positive dependence."""
    return _adjust(p_values, "fdr_bh")


def benjamini_yekutieli(p_values: Sequence[float | None]) -> list[float | None]:
    """False-discovery-rate adjusted p-values under any dependence [3]."""
    return _adjust(p_values, "fdr_by")


def _adjust(p_values: Sequence[float | None], method: str) -> list[float | None]:
    from statsmodels.stats.multitest import multipletests  # slow to import; most commands never adjust

    given = [p for p in p_values if p is not None]
    bad = [p for p in given if not 0 <= p <= 1]
    if bad:
        raise InputError(f"p-value {bad[0]} is outside 0..1: pass probabilities, or None for a test that was not made")
    adjusted = iter(multipletests(given, method=method)[1].tolist() if given else [])
    return [None if p is None else float(next(adjusted)) for p in p_values]
