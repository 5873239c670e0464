"""Agreement between raters: shares, κ, α, the human ceiling, and the alternative-annotator test.

Functions named ``fn(columns, weights (R, N)) -> (R,)`` fit MetricBuilder.statistic. Shapes: N items, K raters, V values,
R resamples. Preferences are coded 1 (first better), 0 (second better), 0.5 (tie); a gap is NaN.

References
[1] Cohen (1960), A coefficient of agreement for nominal scales. Educational and Psychological Measurement 20.
[2] Krippendorff (2011), Computing Krippendorff's alpha-reliability. University of Pennsylvania.
[3] Zheng et al. (2023), Judging LLM-as-a-judge with MT-bench and Chatbot Arena. NeurIPS. (both conventions for ties)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from auditor.errors import InputError
from auditor.stats.bootstrap import Statistic
from auditor.stats.intervals import Estimate, Floats, mean_interval

Level = Literal["nominal", "ordinal", "interval"]
Ties = Literal["counted", "excluded", "half"]
TIE = 0.5


def agreement_with_ties(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Share of items with the same label, a tie being a label of its own, (R,) [3, setup with ties]."""
    return np.asarray(weights_RN @ (columns[0] == columns[1]) / weights_RN.sum(1))


def agreement_without_ties(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Share of the same label among items on which neither rater says tie, (R,); NaN when there is none [3, setup without ties]."""
    decided_N = (columns[0] != TIE) & (columns[1] != TIE)
    return _ratio(weights_RN @ (decided_N & (columns[0] == columns[1])), weights_RN @ decided_N)


def agreement_half_credit(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Mean of 1 − |a − b|, (R,): a tie against a preference counts half."""
    return np.asarray(weights_RN @ (1 - np.abs(columns[0] - columns[1])) / weights_RN.sum(1))


def cohen_kappa(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """κ = (p_o − p_e)/(1 − p_e) of two raters' labels, any numbers, (R,) [1]. NaN where both use one and the same label."""
    total_R = weights_RN.sum(1)
    observed_R = weights_RN @ (columns[0] == columns[1]) / total_R
    labels = np.unique(np.concatenate(columns))
    expected_R = sum((weights_RN @ (columns[0] == label)) * (weights_RN @ (columns[1] == label)) for label in labels) / total_R**2
    return _ratio(observed_R - expected_R, np.where(expected_R < 1 - 1e-12, 1 - expected_R, 0.0))


def krippendorff_alpha(level: Level = "nominal") -> Statistic:
    """The statistic α = 1 − D_o/D_e [2] for one column a rater (K ≥ 2, gaps NaN): ``krippendorff_alpha("ordinal")(columns, weights)``.

    Items with fewer than two ratings carry no pair and are ignored. NaN where the ratings do not vary. Raises InputError for
    another level.
    """
    if level not in ("nominal", "ordinal", "interval"):
        raise InputError(f"unknown level {level!r}: pass 'nominal', 'ordinal' or 'interval'")

    def alpha(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
        ratings_NK = np.stack(columns, axis=1)
        pairable_N = (~np.isnan(ratings_NK)).sum(1) >= 2
        ratings_NK, weights = ratings_NK[pairable_N], weights_RN[:, pairable_N]
        if level == "interval":
            return _interval_alpha(ratings_NK, weights)
        values_V = np.unique(ratings_NK[~np.isnan(ratings_NK)])
        counts_NV = (ratings_NK[:, :, None] == values_V).sum(1).astype(float)
        return _alpha(counts_NV, weights, level == "ordinal")

    return alpha


def _alpha(counts_NV: Floats, weights_RN: Floats, ordinal: bool) -> Floats:
    """α from each item's count of each value. o_ck = Σ_u n_uc·(n_uk − [c = k])/(m_u − 1), e_ck = n_c·(n_k − [c = k])/(n − 1) [2]."""
    per_item_NV = counts_NV / (counts_NV.sum(1, keepdims=True) - 1)
    marginal_RV = weights_RN @ counts_NV
    total_R = marginal_RV.sum(1)
    observed_R, expected_R = np.zeros(len(weights_RN)), np.zeros(len(weights_RN))
    for c in range(counts_NV.shape[1]):
        for k in range(c + 1, counts_NV.shape[1]):
            distance_R = _ordinal_distance(marginal_RV, c, k) if ordinal else np.ones(len(weights_RN))
            observed_R += distance_R * (weights_RN @ (per_item_NV[:, c] * counts_NV[:, k]))
            expected_R += distance_R * marginal_RV[:, c] * marginal_RV[:, k]
    return 1 - _ratio(observed_R * (total_R - 1), expected_R)


def _ordinal_distance(marginal_RV: Floats, c: int, k: int) -> Floats:
    """Squared number of ratings between values number c < k, (R,) [2, section D]."""
    return np.asarray((marginal_RV[:, c:k + 1].sum(1) - (marginal_RV[:, c] + marginal_RV[:, k]) / 2) ** 2)


def _interval_alpha(ratings_NK: Floats, weights_RN: Floats) -> Floats:
    """α for squared differences, from sums of squares: Σ_pairs (x − y)² = m·Σx² − (Σx)², so no list of values is needed."""
    number_N, sum_N, square_N = (~np.isnan(ratings_NK)).sum(1), np.nansum(ratings_NK, axis=1), np.nansum(ratings_NK**2, axis=1)
    total_R = weights_RN @ number_N
    observed_R = weights_RN @ ((number_N * square_N - sum_N**2) / (number_N - 1))
    expected_R = total_R * (weights_RN @ square_N) - (weights_RN @ sum_N) ** 2
    return 1 - _ratio(observed_R * (total_R - 1), np.where(expected_R > 1e-12 * total_R**2, expected_R, 0.0))


def pairwise_agreement(ratings_KN: ArrayLike, ties: Ties = "counted") -> Floats:
    """Each item's mean agreement over the pairs of raters who labelled it, (N,); NaN where there is no such pair.

    ``ties``: "counted" as a label, "excluded" (pairs with a tie do not count), or "half" credit.
    """
    ratings = np.asarray(ratings_KN, dtype=float)
    agreed_N, pairs_N = np.zeros(ratings.shape[1]), np.zeros(ratings.shape[1])
    for i in range(len(ratings)):
        for j in range(i + 1, len(ratings)):
            credit_N, valid_N = _credit(ratings[i], ratings[j], ties)
            agreed_N += np.where(valid_N, credit_N, 0.0)
            pairs_N += valid_N
    return _ratio(agreed_N, pairs_N)


def human_ceiling(ratings_KN: ArrayLike, clusters: ArrayLike | None = None, ties: Ties = "counted") -> Estimate | None:
    """Human–human agreement: the mean of :func:`pairwise_agreement` over items with at least two labels, with its interval.

    The most that agreement with a single human can be expected to reach on the same items. None when no item has two labels.
    """
    per_item_N = pairwise_agreement(ratings_KN, ties)
    kept_N = ~np.isnan(per_item_N)
    return mean_interval(per_item_N[kept_N], None if clusters is None else np.asarray(clusters)[kept_N], (0.0, 1.0))


def _credit(one_N: Floats, other_N: Floats, ties: Ties) -> tuple[Floats, np.ndarray]:
    valid_N = ~np.isnan(one_N) & ~np.isnan(other_N)
    if ties == "half":
        return 1 - np.abs(one_N - other_N), valid_N
    if ties == "excluded":
        valid_N &= (one_N != TIE) & (other_N != TIE)
    elif ties != "counted":
        raise InputError(f"unknown convention {ties!r} for ties: pass 'counted', 'excluded' or 'half'")
    return (one_N == other_N).astype(float), valid_N


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """Top over bottom, NaN where the bottom is 0."""
    return np.asarray(np.where(bottom != 0, top / np.where(bottom != 0, bottom, 1.0), np.nan))
