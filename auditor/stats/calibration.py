"""Does confidence mean anything? Measures for rows of (confidence, correct), each usable as the ``fn`` of a clustered bootstrap.

Shapes: N rows, R resamples. ``columns`` = (confidence in 0..1 (N,), correct as 0 or 1 (N,)); ``weights_RN`` (R, N) says how often a
row is in a resample; the result is (R,), NaN where a resample does not define it.

References
[1] Brier (1950), Verification of forecasts expressed in terms of probability. Monthly Weather Review 78.
[2] Nguyen & O'Connor (2015), Posterior calibration and exploratory analysis for NLP models. EMNLP. (bins of equal mass)
[3] Hanley & McNeil (1982), The meaning and use of the area under a ROC curve. Radiology 143.
"""

from __future__ import annotations

import numpy as np

from auditor.stats.intervals import Floats

BINS = 10
Columns = tuple[Floats, ...]


def brier(columns: Columns, weights_RN: Floats) -> Floats:
    """Mean squared distance of confidence from the outcome [1]; 0 best."""
    confidence_N, correct_N = columns
    return weights_RN @ (confidence_N - correct_N) ** 2 / weights_RN.sum(1)


def overconfidence(columns: Columns, weights_RN: Floats) -> Floats:
    """Mean confidence minus accuracy; above 0 it claims more than it delivers."""
    confidence_N, correct_N = columns
    return weights_RN @ (confidence_N - correct_N) / weights_RN.sum(1)


def adaptive_ece(columns: Columns, weights_RN: Floats, bins: int = BINS) -> Floats:
    """Expected calibration error over ``bins`` bins of equal mass [2]: Σ (share of bin)·|accuracy − mean confidence|.

    Bins are cut once, on the whole data, so that resamples differ in their rows and not in their bins. It is biased upwards on few rows.
    """
    confidence_N, correct_N = columns
    order = np.argsort(confidence_N, kind="stable")
    gap_RN = weights_RN[:, order] * (confidence_N - correct_N)[order]
    starts = np.unique(np.linspace(0, len(order), min(bins, len(order)) + 1).astype(int)[:-1])
    return np.abs(np.add.reduceat(gap_RN, starts, axis=1)).sum(1) / weights_RN.sum(1)


def auroc(columns: Columns, weights_RN: Floats) -> Floats:
    """Probability that a right answer has the higher confidence than a wrong one, ties counted half [3]; NaN without both kinds."""
    confidence_N, correct_N = columns
    levels, code_N = np.unique(confidence_N, return_inverse=True)
    sums = np.zeros((2, len(weights_RN), len(levels)))
    for kind, member_N in enumerate((correct_N < 0.5, correct_N >= 0.5)):
        order = np.flatnonzero(member_N)[np.argsort(code_N[member_N], kind="stable")]
        if len(order):
            present, starts = np.unique(code_N[order], return_index=True)
            sums[kind][:, present] = np.add.reduceat(weights_RN[:, order], starts, axis=1)
    wrong, right = sums
    below = np.cumsum(wrong, 1) - wrong / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (right * below).sum(1) / (right.sum(1) * wrong.sum(1))
