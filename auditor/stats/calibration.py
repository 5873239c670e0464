"""Calibration of confidences, as statistics ``fn(columns, weights (R, N)) -> (R,)`` for MetricBuilder.statistic.

Columns are (confidence (N,) in 0..1, correct (N,) in {0, 1}). Shapes: N answers, R resamples, B bins, V distinct confidences.

References
[1] Brier (1950), Verification of forecasts expressed in terms of probability. Monthly Weather Review 78.
[2] Nguyen & O'Connor (2015), Posterior calibration and exploratory analysis for natural language processing models. EMNLP.
    (equal-mass bins)
[3] Hanley & McNeil (1982), The meaning and use of the area under a ROC curve. Radiology 143. (ties count half)
[4] Roelofs et al. (2022), Mitigating bias in calibration error estimation. AISTATS. (the upward bias of a binned error)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval
from auditor.stats.bootstrap import Statistic
from auditor.stats.intervals import Estimate, Floats, cluster_codes, satterthwaite_df, t_quantile

BINS = 10
DRAWS = 2000


def brier(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Mean squared difference of confidence and correctness, (R,) [1]. 0 is perfect; a constant 0.5 gives 0.25."""
    return np.asarray(weights_RN @ (columns[0] - columns[1]) ** 2 / weights_RN.sum(1))


def overconfidence(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Mean confidence − accuracy, (R,): above 0 the model sounds surer than it is."""
    return np.asarray(weights_RN @ (columns[0] - columns[1]) / weights_RN.sum(1))


def auroc(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Probability that a right answer has a higher confidence than a wrong one, ties half, (R,) [3]. NaN without both kinds."""
    order_N = np.argsort(columns[0], kind="stable")
    confidence_N, correct_N = columns[0][order_N], columns[1][order_N]
    starts_V = np.flatnonzero(np.r_[True, confidence_N[1:] != confidence_N[:-1]])
    right_RV = np.add.reduceat(weights_RN[:, order_N] * correct_N, starts_V, axis=1)
    wrong_RV = np.add.reduceat(weights_RN[:, order_N] * (1 - correct_N), starts_V, axis=1)
    below_RV = np.cumsum(wrong_RV, axis=1) - wrong_RV / 2
    pairs_R = right_RV.sum(1) * wrong_RV.sum(1)
    return np.asarray(np.where(pairs_R > 0, (right_RV * below_RV).sum(1) / np.where(pairs_R > 0, pairs_R, 1.0), np.nan))


def adaptive_ece(bins: int = BINS) -> Statistic:
    """The statistic Σ_b mass_b·|mean confidence_b − accuracy_b| over ``bins`` of equal mass [2]; equal confidences share a bin.

    Biased upwards: pure noise gives a positive value, see :func:`ece_noise` [4]. Raises InputError below one bin.
    """
    if bins < 1:
        raise InputError(f"bins={bins}: pass at least 1")

    def ece(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
        order_N = np.argsort(columns[0], kind="stable")
        confidence_N, weights = columns[0][order_N], weights_RN[:, order_N]
        starts_V = np.flatnonzero(np.r_[True, confidence_N[1:] != confidence_N[:-1]])
        mass_RV = np.add.reduceat(weights, starts_V, axis=1)
        gap_RV = np.add.reduceat(weights * (confidence_N - columns[1][order_N]), starts_V, axis=1)
        total_R = mass_RV.sum(1)
        middle_RV = (np.cumsum(mass_RV, axis=1) - mass_RV / 2) / total_R[:, None]
        cells_RV = np.minimum((middle_RV * bins).astype(int), bins - 1) + np.arange(len(weights))[:, None] * bins
        gap_RB = np.bincount(cells_RV.ravel(), weights=gap_RV.ravel(), minlength=len(weights) * bins).reshape(-1, bins)
        return np.asarray(np.abs(gap_RB).sum(1) / total_R)

    return ece


def ece_interval(confidences: ArrayLike, correct: ArrayLike, clusters: ArrayLike | None = None, bins: int = BINS, *, seed: int = 0,
                 level: float = 0.95) -> Estimate | None:
    """:func:`adaptive_ece` of confidences (N,) and correctness (N,) with an interval for the error without noise; None if N = 0.

    A bootstrap would add the noise of a draw to that of the data and miss a calibrated model always. ECE is the sum of B absolute gaps, each
    bin's share of Σ(confidence − correct)/N, whose errors have the cluster-robust covariance Σ on Satterthwaite's degrees of freedom, a bin's
    variance being at least that of calibrated answers, Σ c(1 − c)/N²: few errors, or none, are no sign of precision. The lower end is
    the least multiple of the gaps found whose sum of absolute values, under errors from N(0, Σ)/√(χ²/df), reaches the value found in
    (1 − ``level``)/2 of DRAWS draws, 0 where pure noise does; the upper end is Student's t on the error of the sum at the signs found, which
    noise in the value moves upwards. Coverage is held by simulation. ``ci`` None with fewer than two clusters or where nothing can vary.
    """
    confidence_N, correct_N = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=float)
    n = len(confidence_N)
    if not n:
        return None
    codes_N = cluster_codes(clusters, n)
    g = int(codes_N.max()) + 1
    gaps_GB, sizes_G = np.zeros((g, bins)), np.bincount(codes_N, minlength=g)
    bins_N = _bins(confidence_N, bins)
    np.add.at(gaps_GB, (codes_N, bins_N), confidence_N - correct_N)
    gap_B = gaps_GB.sum(0) / n
    value = float(np.abs(gap_B).sum())
    error_GB = (gaps_GB - sizes_G[:, None] * gap_B) / n * (g / max(g - 1, 1)) ** 0.5
    covariance_BB = error_GB.T @ error_GB
    least_B = np.bincount(bins_N, weights=confidence_N * (1 - confidence_N), minlength=bins) / n**2
    covariance_BB += np.diag(np.maximum(least_B - np.diag(covariance_BB), 0.0))
    if g < 2 or np.trace(covariance_BB) <= 1e-24:
        return Estimate(value=value, ci=None, n=n, n_clusters=g, flag="a single cluster, or nothing that could vary: no interval")
    df = max(satterthwaite_df(sizes_G.astype(float)), 1.0)
    signs_B = np.where(gap_B < 0, -1.0, 1.0)
    high = value + float(t_quantile(df, level)) * float(signs_B @ covariance_BB @ signs_B) ** 0.5
    ci = ConfidenceInterval(low=_least_ece(gap_B, covariance_BB, df, (1 - level) / 2, seed), high=min(high, 1.0), level=level, method="noise-corrected, t")
    return Estimate(value=value, ci=ci, n=n, n_clusters=g, df=df)


def _least_ece(gap_B: Floats, covariance_BB: Floats, df: float, share: float, seed: int) -> float:
    """The smallest θ at which the sum of |θ·gaps/Σ|gaps| + error| reaches Σ|gaps| in a ``share`` of draws, by bisection."""
    rng, value = np.random.default_rng(seed), float(np.abs(gap_B).sum())
    scales_B, axes_BB = np.linalg.eigh(covariance_BB)
    noise_RB = (rng.standard_normal((DRAWS, len(gap_B))) * np.sqrt(np.maximum(scales_B, 0.0))) @ axes_BB.T
    noise_RB *= np.sqrt(df / rng.chisquare(df, DRAWS))[:, None]

    def reached(theta: float) -> bool:
        return bool(np.quantile(np.abs(theta * gap_B / value + noise_RB).sum(1), 1 - share) >= value)

    low, high = 0.0, value
    if value == 0 or reached(low):
        return 0.0
    while high - low > 1e-4 * value:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return low


def _bins(confidence_N: Floats, bins: int) -> NDArray[np.intp]:
    """The bin of each confidence, (N,), as :func:`adaptive_ece` has them at equal weights."""
    _, of_N, counts_V = np.unique(confidence_N, return_inverse=True, return_counts=True)
    middle_V = (np.cumsum(counts_V) - counts_V / 2) / len(confidence_N)
    return np.asarray(np.minimum((middle_V * bins).astype(int), bins - 1)[of_N])


def confident_and_wrong(threshold: float = 0.9) -> Statistic:
    """The statistic: share of all answers that are wrong with a confidence of at least ``threshold``."""

    def share(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
        return np.asarray(weights_RN @ ((columns[0] >= threshold) & (columns[1] == 0)) / weights_RN.sum(1))

    return share


def ece_noise(confidences: ArrayLike, bins: int = BINS, *, seed: int = 0, draws: int = 1000) -> float | None:
    """The adaptive ECE that a perfectly calibrated model with these confidences (N,) shows on average by chance [4]; None if N = 0."""
    confidence_N = np.asarray(confidences, dtype=float)
    if not len(confidence_N):
        return None
    rng, ece, weights = np.random.default_rng(seed), adaptive_ece(bins), np.ones((1, len(confidence_N)))
    drawn = [ece((confidence_N, (rng.random(len(confidence_N)) < confidence_N).astype(float)), weights)[0] for _ in range(draws)]
    return float(np.mean(drawn))
