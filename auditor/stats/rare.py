"""Paired 0/1 scores where few pairs differ: an interval that allows for what was not seen.

A bootstrap never draws what the data do not hold. Where no pair, or hardly any, got worse, its lower end hangs on the pairs that got better, and says
with 95 % confidence that nothing is ever lost: too much for a claim that a loss stays within a margin. The difference of paired 0/1 scores is
the share of gains minus the share of losses; where one of the two is rare, the end on its side is moved out to what the exact limits of both
shares allow, joined by squares.

Shapes: N pairs, G clusters.

References
[1] Newcombe (1998), Improved confidence intervals for the difference between binomial proportions based on paired data. Statistics in Medicine 17.
[2] Zou & Donner (2008), Construction of confidence limits about effect measures: a general approach. Statistics in Medicine 27. (MOVER: d −
    √((p₁ − l₁)² + (u₂ − p₂)²) for a difference of estimates with limits l, u)
[3] Clopper & Pearson (1934), Biometrika 26.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from auditor.schema import ConfidenceInterval
from auditor.stats.intervals import EXACT_BELOW, EXACT_BELOW_CLUSTERED, Floats, clopper_pearson_bounds, cluster_sums


def allow_unseen(ci: ConfidenceInterval, differences: ArrayLike, clusters: ArrayLike | None = None) -> ConfidenceInterval:
    """The interval of a mean of paired differences in {−1, 0, 1} (N,), never narrower, with ends that allow for rare gains and losses.

    A side is rare below 13 pairs (below 5 where pairs are clustered), the rule of proportion_interval. Unchanged where a difference has another
    value, or where neither side is rare.
    """
    values_N = np.asarray(differences, dtype=float)
    if not len(values_N) or not np.isin(values_N, (-1.0, 0.0, 1.0)).all():
        return ci
    _, sizes_G = cluster_sums(values_N, clusters)
    rare = EXACT_BELOW if (sizes_G == 1).all() else EXACT_BELOW_CLUSTERED
    gains, losses = int((values_N > 0).sum()), int((values_N < 0).sum())
    low, high = unseen_ends(gains / len(values_N), losses / len(values_N), sizes_G, ci.level)
    ends = min(ci.low, float(low)) if losses < rare else ci.low, max(ci.high, float(high)) if gains < rare else ci.high
    if ci.low - ends[0] < 1e-12 and ends[1] - ci.high < 1e-12:
        return ci
    return replace(ci, low=ends[0], high=ends[1], method=f"{ci.method}, widened for changes too rare to be seen")


def unseen_ends(gains_R: ArrayLike, losses_R: ArrayLike, sizes_G: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """(low, high) of gains − losses from their shares, (R,) each or scalars: exact limits [3] joined by squares [2].

    Each cluster counts as one draw (n over the mean size weighted by itself), as wherever nothing was seen to tell how alike its rows are.
    """
    gain, loss = np.asarray(gains_R, dtype=float), np.asarray(losses_R, dtype=float)
    size = sizes_G.sum() ** 2 / (sizes_G**2).sum()
    (gain_low, gain_high), (loss_low, loss_high) = (clopper_pearson_bounds(share, size, level) for share in (gain, loss))
    low = gain - loss - np.sqrt((gain - gain_low) ** 2 + (loss_high - loss) ** 2)
    high = gain - loss + np.sqrt((gain_high - gain) ** 2 + (loss - loss_low) ** 2)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)
