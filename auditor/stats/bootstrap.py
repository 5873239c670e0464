"""Clustered BCa bootstrap, vectorised over resamples by weights.

Shapes: N rows, G clusters, R resamples. A resample draws G clusters with replacement; a row's weight is how often
its cluster was drawn. Chunks keep the weights of all resamples together under ``CHUNK_BYTES``.

References
[1] Efron (1987), Better bootstrap confidence intervals. JASA 82. (BCa)
[2] Hesterberg (2015), What teachers should know about the bootstrap. American Statistician 69. (expanded quantiles:
    the bootstrap of few units is too narrow by √((G − 1)/G) and by z against t)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from auditor.schema import ConfidenceInterval
from auditor.stats.intervals import Estimate, Floats, cluster_codes

Statistic = Callable[[tuple[Floats, ...], Floats], Floats]

CHUNK_BYTES = 64 * 2**20
MAX_JACKKNIFE = 1000


def cluster_counts(rng: np.random.Generator, n_clusters: int, size: int) -> Floats:
    """How often each cluster is drawn, (size, G): rows sum to G."""
    draws = rng.integers(0, n_clusters, size=(size, n_clusters))
    offsets = np.arange(size)[:, None] * n_clusters
    return np.bincount((draws + offsets).ravel(), minlength=size * n_clusters).reshape(size, n_clusters).astype(float)


def bootstrap_statistics(columns: tuple[Floats, ...], fn: Statistic, codes_N: NDArray[np.intp], resamples: int,
                         rng: np.random.Generator) -> Floats:
    """``fn`` on each resample, (R,)."""
    n, g = len(codes_N), int(codes_N.max()) + 1
    step = max(1, CHUNK_BYTES // (8 * (n + 2 * g)))
    parts = [fn(columns, cluster_counts(rng, g, min(step, resamples - start))[:, codes_N]) for start in range(0, resamples, step)]
    return np.concatenate(parts)


def jackknife_statistics(columns: tuple[Floats, ...], fn: Statistic, codes_N: NDArray[np.intp]) -> Floats:
    """``fn`` leaving out one cluster at a time, (G,); above MAX_JACKKNIFE clusters, one of that many groups of clusters."""
    n, g = len(codes_N), int(codes_N.max()) + 1
    groups_N = codes_N % min(g, MAX_JACKKNIFE)
    k, step = min(g, MAX_JACKKNIFE), max(1, CHUNK_BYTES // (8 * n))
    parts = [fn(columns, (groups_N != np.arange(start, min(start + step, k))[:, None]).astype(float)) for start in range(0, k, step)]
    return np.concatenate(parts)


def bca_bounds(value: float, resampled_R: Floats, jackknife_G: Floats, n_clusters: int, level: float = 0.95) -> tuple[float, float]:
    """BCa endpoints [1, eq. 2.3] at t-expanded quantiles [2]."""
    spread_G = jackknife_G.mean() - jackknife_G
    scale = (spread_G**2).sum() ** 1.5
    acceleration = float((spread_G**3).sum() / (6 * scale)) if scale > 0 else 0.0
    below = (resampled_R < value).mean() + 0.5 * (resampled_R == value).mean()
    bias = float(stats.norm.ppf(np.clip(below, 0.5 / len(resampled_R), 1 - 0.5 / len(resampled_R))))
    reach = float(stats.t.ppf(0.5 + level / 2, n_clusters - 1)) * (n_clusters / (n_clusters - 1)) ** 0.5
    ends = [bias + sign * reach for sign in (-1, 1)]
    shares = [stats.norm.cdf(bias + end / max(1 - acceleration * end, 1e-6)) for end in ends]
    low, high = np.quantile(resampled_R, shares)
    return float(low), float(high)


def bootstrap_interval(columns: tuple[ArrayLike, ...], fn: Statistic, clusters: ArrayLike | None = None, *, seed: int = 0,
                       resamples: int = 4000, level: float = 0.95) -> Estimate | None:
    """Value of ``fn(columns, weights)`` with its clustered BCa interval.

    None when there is no row or the statistic is undefined on all rows. ``ci`` is None, with a flag, when there is one
    cluster, the statistic is undefined on more than a tenth of the resamples, or does not vary over them.
    """
    arrays = tuple(np.asarray(column, dtype=float) for column in columns)
    n = len(arrays[0])
    if not n:
        return None
    codes_N = cluster_codes(clusters, n)
    g, value = int(codes_N.max()) + 1, float(fn(arrays, np.ones((1, n)))[0])
    if not np.isfinite(value):
        return None
    if g < 2:
        return Estimate(value=value, ci=None, n=n, n_clusters=g, flag="one cluster only: no interval")
    rng = np.random.default_rng(seed)
    drawn_R = bootstrap_statistics(arrays, fn, codes_N, resamples, rng)
    drawn_R = drawn_R[np.isfinite(drawn_R)]
    if len(drawn_R) < 0.9 * resamples:
        return Estimate(value=value, ci=None, n=n, n_clusters=g, flag="undefined on many resamples: no interval")
    if np.ptp(drawn_R) < 1e-12 * max(1.0, abs(value)):
        return Estimate(value=value, ci=None, n=n, n_clusters=g, flag="no variation over clusters: no interval")
    left_G = jackknife_statistics(arrays, fn, codes_N)
    low, high = bca_bounds(value, drawn_R, left_G[np.isfinite(left_G)], g, level)
    ci = ConfidenceInterval(low=low, high=high, level=level, method=f"clustered BCa bootstrap ({resamples} resamples)")
    return Estimate(value=value, ci=ci, n=n, n_clusters=g)


def weighted_mean(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Weighted mean of the first column, (R,): the simplest ``fn``."""
    return weights_RN @ columns[0] / weights_RN.sum(1)
