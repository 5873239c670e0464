"""The true share behind an imperfect classifier, its error carried into the interval.

References
[1] Rogan & Gladen (1978), Estimating prevalence from the results of a screening test. Am. J. Epidemiology 107.
[2] Lang & Reiczigel (2014), Confidence limits for prevalence of disease adjusted for estimated sensitivity and specificity.
    Preventive Veterinary Medicine 113.
[3] Angelopoulos et al. (2023), Prediction-powered inference. Science 382. (the mean)
[4] Angelopoulos, Duchi & Zrnic (2023), PPI++: efficient prediction-powered inference. arXiv 2311.01453. (the weight λ)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval
from auditor.stats.intervals import (
    Estimate,
    Floats,
    cluster_sums,
    cluster_variance,
    effective_size,
    proportion_interval,
    satterthwaite_df,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """A classifier's counts against human labels. Raises InputError for a negative count or without both true classes."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int

    def __post_init__(self) -> None:
        counts = (self.true_positive, self.false_negative, self.true_negative, self.false_positive)
        if min(counts) < 0 or not self.positives or not self.negatives:
            raise InputError(f"confusion counts {counts} (TP, FN, TN, FP): pass counts of at least one true positive and one true negative case")

    @property
    def positives(self) -> int:
        return self.true_positive + self.false_negative

    @property
    def negatives(self) -> int:
        return self.true_negative + self.false_positive

    @property
    def sensitivity(self) -> float:
        return self.true_positive / self.positives

    @property
    def specificity(self) -> float:
        return self.true_negative / self.negatives


def rogan_gladen(flagged: ArrayLike, confusion: Confusion, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate | None:
    """True share of positives among rows of which the classifier flagged ``flagged`` (N,) in {0, 1}.

    (p + Sp − 1)/(Se + Sp − 1), clipped to 0..1 [1]; interval of [2], with p on the effective sample size when rows are clustered.
    Assumes that sensitivity and specificity transport from the confusion counts to these rows. None when there is no row, or when
    Se + Sp ≤ 1 (the classifier tells nothing); ``ci`` None with a single cluster.
    """
    apparent = proportion_interval(flagged, clusters, level)
    youden = confusion.sensitivity + confusion.specificity - 1
    if apparent is None or youden <= 0:
        return None
    value = float(np.clip((apparent.value + confusion.specificity - 1) / youden, 0, 1))
    common = {"value": value, "n": apparent.n, "n_clusters": apparent.n_clusters, "design_effect": apparent.design_effect}
    if apparent.ci is None:
        return Estimate(ci=None, flag=apparent.flag, **common)  # type: ignore[arg-type]
    low, high = lang_reiczigel_bounds(apparent.value, _effective(apparent, flagged, clusters, level), confusion, level)
    method = "Rogan-Gladen, Lang-Reiczigel interval" + (" on the effective n" if apparent.n_clusters < apparent.n else "")
    ci = ConfidenceInterval(low=min(float(low), value), high=max(float(high), value), level=level, method=method)
    return Estimate(ci=ci, **common)  # type: ignore[arg-type]


def lang_reiczigel_bounds(apparent: ArrayLike, n: ArrayLike, confusion: Confusion, level: float = 0.95) -> tuple[Floats, Floats]:
    """Interval of the true share [2] for apparent shares ``apparent`` of (effective) sizes ``n``, both (R,) or scalars.

    Delta method on shares moved towards ½ (z² pseudo-counts for the apparent share, 2 for Se and Sp), with a shift of the centre.
    """
    z = float(stats.norm.ppf(0.5 + level / 2))
    n_R = np.asarray(n, dtype=float)
    p_R = (n_R * np.asarray(apparent, dtype=float) + z**2 / 2) / (n_R + z**2)
    se, sp = (confusion.true_positive + 1) / (confusion.positives + 2), (confusion.true_negative + 1) / (confusion.negatives + 2)
    se_variance, sp_variance = se * (1 - se) / (confusion.positives + 2), sp * (1 - sp) / (confusion.negatives + 2)
    youden = se + sp - 1
    if youden <= 0:  # the pseudo-counts can take away what little the classifier tells
        return np.zeros_like(p_R), np.ones_like(p_R)
    share_R = (p_R + sp - 1) / youden
    error_R = np.sqrt(p_R * (1 - p_R) / (n_R + z**2) + share_R**2 * se_variance + (1 - share_R) ** 2 * sp_variance) / youden
    centre_R = share_R + 2 * z**2 * (share_R * se_variance - (1 - share_R) * sp_variance)
    return np.clip(centre_R - z * error_R, 0, 1), np.clip(centre_R + z * error_R, 0, 1)


def ppi_mean(labels: ArrayLike, predictions: ArrayLike, unlabelled: ArrayLike,
             clusters: tuple[ArrayLike | None, ArrayLike | None] = (None, None), *, tuned: bool = True) -> Estimate | None:
    """Mean label from few labelled rows (labels, predictions, (n,)) and many with predictions only (``unlabelled``, (N,)).

    λ·mean(unlabelled) + mean(labels − λ·predictions), λ = 1 [3], or, ``tuned``, cov(label, prediction)/((1 + n/N)·var(prediction)) in 0..1
    [4, eq. 6], which is never worse than the labels alone. 95 % interval by Welch's t on the two cluster-robust variances; ``clusters``
    are those of the labelled and of the other rows, which must not overlap. No classifier error has to transport: the labelled rows must be a
    random part of the same population. None with fewer than two clusters on either side. Raises InputError for unequal lengths.
    """
    label_n, seen_n, other_N = (np.asarray(values, dtype=float) for values in (labels, predictions, unlabelled))
    if label_n.shape != seen_n.shape:
        raise InputError(f"{label_n.shape} labels and {seen_n.shape} predictions: pass the prediction of each labelled row")
    if len(label_n) < 2 or len(other_N) < 2:
        return None
    weight = _tuned_weight(label_n, seen_n, other_N) if tuned else 1.0
    parts = [cluster_sums(label_n - weight * seen_n, clusters[0]), cluster_sums(weight * other_N, clusters[1])]
    if min(len(sizes_G) for _, sizes_G in parts) < 2:
        return None
    variances = [float(cluster_variance(*part)) for part in parts]
    freedom = [max(satterthwaite_df(sizes_G), 1.0) for _, sizes_G in parts]
    total = sum(variances)
    df = total**2 / sum(v**2 / d for v, d in zip(variances, freedom, strict=True)) if total > 0 else 1.0
    value = float(sum(sums_G.sum() / sizes_G.sum() for sums_G, sizes_G in parts))
    half = float(stats.t.ppf(0.975, df)) * total**0.5
    ci = ConfidenceInterval(low=value - half, high=value + half, method="prediction-powered, cluster-robust t")
    n_clusters = sum(len(sizes_G) for _, sizes_G in parts)
    if total == 0:
        return Estimate(value=value, ci=None, n=len(label_n) + len(other_N), n_clusters=n_clusters, flag="no variation: no interval")
    return Estimate(value=value, ci=ci, n=len(label_n) + len(other_N), n_clusters=n_clusters)


def _tuned_weight(label_n: Floats, seen_n: Floats, other_N: Floats) -> float:
    variance = float(np.concatenate([seen_n, other_N]).var(ddof=1))
    if variance == 0:
        return 0.0
    covariance = float(np.cov(label_n, seen_n)[0, 1])
    return float(np.clip(covariance / ((1 + len(label_n) / len(other_N)) * variance), 0, 1))


def _effective(apparent: Estimate, flagged: ArrayLike, clusters: ArrayLike | None, level: float) -> float:
    sums_G, sizes_G = cluster_sums(flagged, clusters)
    return float(effective_size(sums_G, sizes_G, level)[1]) if apparent.n_clusters > 1 else float(apparent.n)
