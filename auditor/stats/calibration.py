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
from numpy.typing import ArrayLike

from auditor.errors import InputError
from auditor.stats.bootstrap import Statistic
from auditor.stats.intervals import Floats

BINS = 10


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
