"""Clustered BCa bootstrap, vectorised over resamples by weights.

Shapes: N rows, G clusters, R resamples. A resample draws G clusters with replacement; the weight of a row is how often
its cluster was drawn. Resamples are worked off in chunks, so that memory stays far below 500 MB.

References
[1] Efron (1987), Better bootstrap confidence intervals. JASA 82. (BCa)
[2] Hesterberg (2015), What teachers should know about the bootstrap. American Statistician 69. (a bootstrap of G units is too
    narrow by √((G − 1)/G) and by z against t: quantiles at Φ(±t·√(G/(G − 1))) make up for both)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval
from auditor.stats.intervals import Estimate, Floats, cluster_codes, mean_interval, satterthwaite_df

Statistic = Callable[[tuple[Floats, ...], Floats], Floats]
Codes = NDArray[np.intp]

CHUNK_BYTES = 32 * 2**20
EXACT_CLUSTERS = 13  # differing clusters up to which every sign pattern is listed
MAX_CLUSTERS = 4096  # beyond, clusters are merged at random: coarser clusters stay valid, the width gains about 1 % of noise
MAX_JACKKNIFE = 1000  # beyond, groups of clusters are left out: the acceleration of group sums is that of the cluster sums
MAX_UNDEFINED = 0.1
MIN_CLUSTERS = 6  # of five units a bootstrap reaches from the least to the greatest value: at best 1 − 2^−4, below 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How to resample. Raises InputError for fewer than 2,000 resamples or a level outside (0, 1)."""

    seed: int = 0
    resamples: int = 4000
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 2000:
            raise InputError(f"resamples={self.resamples} is too few for 95 % end points: pass at least 2000")
        if not 0 < self.level < 1:
            raise InputError(f"level={self.level}: pass a probability such as 0.95")


PLAN = Resampling()


def weighted_mean(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Weighted mean of the first column, (R,): the simplest ``fn``."""
    return weights_RN @ columns[0] / weights_RN.sum(1)


def bootstrap_interval(columns: Sequence[ArrayLike], fn: Statistic, clusters: ArrayLike | None = None,
                       plan: Resampling = PLAN) -> Estimate | None:
    """``fn(columns, weights (R, N)) -> (R,)`` at equal weights, with its clustered BCa interval [1] at expanded quantiles [2].

    None when there is no row, or the statistic is undefined (not finite) on the whole data. ``ci`` is None, and ``flag`` says
    so, with fewer than six clusters, when the statistic is undefined on a tenth of the resamples, or when it never varies.
    """
    arrays = tuple(np.asarray(column, dtype=float) for column in columns)
    n = len(arrays[0])
    value = float(fn(arrays, np.ones((1, n)))[0]) if n else float("nan")
    if not np.isfinite(value):
        return None
    units = _units(n, clusters, plan)
    if units.n_clusters < MIN_CLUSTERS:
        return _too_few(value, units)
    drawn_R = _resampled(arrays, fn, units)
    return _estimate(value, drawn_R, jackknife_statistics(arrays, fn, units.codes_N), units)


def ratio_interval(numerator: ArrayLike, denominator: ArrayLike | None = None, clusters: ArrayLike | None = None,
                   plan: Resampling = PLAN) -> Estimate | None:
    """Σ numerator / Σ denominator over the rows (N,), with its clustered BCa interval; denominator None: the mean.

    The fast path of :func:`bootstrap_interval`: it works on cluster sums and never forms weights of rows. None and
    ``ci`` None as there (a denominator of sum 0 is undefined).
    """
    numerator_N = np.asarray(numerator, dtype=float)
    n = len(numerator_N)
    denominator_N = np.ones(n) if denominator is None else np.asarray(denominator, dtype=float)
    if not n or denominator_N.sum() == 0:
        return None
    units = _units(n, clusters, plan)
    tops_G = np.bincount(units.codes_N, weights=numerator_N).astype(float)
    bottoms_G = np.bincount(units.codes_N, weights=denominator_N).astype(float)
    value = float(tops_G.sum() / bottoms_G.sum())
    if units.n_clusters < MIN_CLUSTERS:
        return _too_few(value, units)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn_R = _resampled_ratio(tops_G, bottoms_G, units)
        jackknife_G = (tops_G.sum() - tops_G) / (bottoms_G.sum() - bottoms_G)
    return _estimate(value, drawn_R, jackknife_G, units)


def jackknife_statistics(columns: tuple[Floats, ...], fn: Statistic, codes_N: Codes) -> Floats:
    """``fn`` without each cluster, (G,); above MAX_JACKKNIFE clusters, without each of that many groups of clusters."""
    g = min(int(codes_N.max()) + 1, MAX_JACKKNIFE)
    groups_N, step = codes_N % g, max(1, CHUNK_BYTES // (16 * len(codes_N)))
    left_out = [np.arange(start, min(start + step, g))[:, None] for start in range(0, g, step)]
    return np.concatenate([fn(columns, (groups_N != groups_R1).astype(float)) for groups_R1 in left_out])


def bca_bounds(value: float, resampled_R: Floats, jackknife_G: Floats, df: float, level: float = 0.95) -> tuple[float, float]:
    """BCa end points [1] at quantiles expanded for ``df`` + 1 units [2]. ``jackknife_G``: the statistic without each cluster."""
    spread_G = jackknife_G.mean() - jackknife_G
    scale = float((spread_G**2).sum()) ** 1.5
    acceleration = float((spread_G**3).sum()) / (6 * scale) if scale > 0 else 0.0
    resamples = len(resampled_R)
    below = float((resampled_R < value).mean() + (resampled_R == value).mean() / 2)
    bias = float(special.ndtri(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples)))
    reach = float(special.stdtrit(df, 0.5 + level / 2)) * ((df + 1) / df) ** 0.5
    shares = [float(special.ndtr(bias + end / max(1 - acceleration * end, 1e-6))) for end in (bias - reach, bias + reach)]
    low, high = np.quantile(resampled_R, shares)
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Units:
    """What is resampled: the rows' cluster codes (merged above MAX_CLUSTERS), the true number of clusters, the draws."""

    codes_N: Codes
    n_clusters: int
    rng: np.random.Generator
    plan: Resampling


def _units(n: int, clusters: ArrayLike | None, plan: Resampling) -> _Units:
    rng, codes_N = np.random.default_rng(plan.seed), cluster_codes(clusters, n)
    g = int(codes_N.max()) + 1
    if g > MAX_CLUSTERS:
        codes_N = (rng.permutation(g) % MAX_CLUSTERS)[codes_N]
    return _Units(codes_N=codes_N, n_clusters=g, rng=rng, plan=plan)


def _too_few(value: float, units: _Units) -> Estimate:
    flag = f"too few clusters for a bootstrap ({units.n_clusters}): no interval"
    return Estimate(value=value, ci=None, n=len(units.codes_N), n_clusters=units.n_clusters, flag=flag)


def paired_interval(differences: ArrayLike, clusters: ArrayLike | None = None, bounds: tuple[float, float] | None = None,
                    plan: Resampling = PLAN) -> Estimate | None:
    """Mean of paired differences (N,): clustered BCa, clipped to ``bounds``; below six clusters, or without variation, the interval of
    ``mean_interval``. None when there is no pair.

    Where few clusters differ at all, a bootstrap hardly ever draws none of them and is too sure of their sign: an interval that leaves 0 out
    although the exact sign-flip test does not reject is widened to 0.
    """
    estimate = ratio_interval(differences, None, clusters, plan)
    if estimate is None or estimate.ci is None:
        return mean_interval(differences, clusters, bounds, plan.level)
    return clip(_no_surer_than_exact(estimate, differences, clusters), bounds)


def _no_surer_than_exact(estimate: Estimate, differences: ArrayLike, clusters: ArrayLike | None) -> Estimate:
    ci, values_N = estimate.ci, np.asarray(differences, dtype=float)
    sums_G = np.bincount(cluster_codes(clusters, len(values_N)), weights=values_N)
    sizes_K = np.abs(sums_G[np.abs(sums_G) > 1e-12])
    if ci is None or ci.low <= 0 <= ci.high or len(sizes_K) > EXACT_CLUSTERS:
        return estimate
    signs_RK = 1.0 - 2.0 * ((np.arange(2 ** len(sizes_K))[:, None] >> np.arange(len(sizes_K))) & 1)
    p = float(np.mean(np.abs(signs_RK @ sizes_K) >= abs(sums_G.sum()) - 1e-12))
    if p <= 1 - ci.level:
        return estimate
    flag = f"only {len(sizes_K)} clusters differ: widened to 0, which the exact sign-flip test does not reject (p {p:.2g})"
    widened = replace(ci, low=min(ci.low, 0.0), high=max(ci.high, 0.0), method=f"{ci.method}, widened to the sign-flip test")
    return replace(estimate, ci=widened, flag=estimate.flag or flag)


def clip(estimate: Estimate, bounds: tuple[float, float] | None) -> Estimate:
    """The estimate with its interval cut to ``bounds``."""
    if estimate.ci is None or bounds is None:
        return estimate
    return replace(estimate, ci=replace(estimate.ci, low=max(estimate.ci.low, bounds[0]), high=min(estimate.ci.high, bounds[1])))


def _estimate(value: float, drawn_R: Floats, jackknife_G: Floats, units: _Units) -> Estimate:
    defined_R, left_G = drawn_R[np.isfinite(drawn_R)], jackknife_G[np.isfinite(jackknife_G)]
    n, g, flag = len(units.codes_N), units.n_clusters, ""
    if len(defined_R) < (1 - MAX_UNDEFINED) * len(drawn_R) or not len(left_G):
        flag = f"undefined on {1 - len(defined_R) / len(drawn_R):.0%} of the resamples: no interval"
    elif np.ptp(defined_R) <= 1e-12 * max(1.0, abs(value)):
        flag = "no variation between clusters: no interval"
    if flag:
        return Estimate(value=value, ci=None, n=n, n_clusters=g, flag=flag)
    df = max(satterthwaite_df(np.bincount(units.codes_N).astype(float)), 1.0)
    low, high = bca_bounds(value, defined_R, left_G, df, units.plan.level)
    method = f"{'clustered ' if g < n else ''}BCa bootstrap, {units.plan.resamples} resamples"
    return Estimate(value=value, ci=ConfidenceInterval(low=low, high=high, level=units.plan.level, method=method), n=n, n_clusters=g)


def _counts(rng: np.random.Generator, g: int, size: int) -> Floats:
    """How often each cluster is drawn, (size, G); each row sums to G."""
    cells = rng.integers(0, g, size=(size, g)) + np.arange(size)[:, None] * g
    return np.bincount(cells.ravel(), minlength=size * g).reshape(size, g).astype(float)


def _resampled(columns: tuple[Floats, ...], fn: Statistic, units: _Units) -> Floats:
    codes_N, resamples = units.codes_N, units.plan.resamples
    g = int(codes_N.max()) + 1
    step = max(1, CHUNK_BYTES // (8 * (len(codes_N) + 3 * g)))
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return np.concatenate([fn(columns, _counts(units.rng, g, size)[:, codes_N]) for size in sizes])


def _resampled_ratio(tops_G: Floats, bottoms_G: Floats, units: _Units) -> Floats:
    """The ratio on each resample, (R,): numerator and denominator ride as one complex number, so each draw is looked up once."""
    g, pairs_G, resamples = len(tops_G), tops_G + 1j * bottoms_G, units.plan.resamples
    step = max(1, min(resamples, 2**17 // g))  # chunks that stay in the cache
    looked_up = np.empty((step, g), dtype=complex)
    sums_R = np.empty(resamples, dtype=complex)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        draws = units.rng.integers(0, g, size=(size, g), dtype=np.uint16)
        np.take(pairs_G, draws, out=looked_up[:size], mode="clip")
        sums_R[start:start + size] = looked_up[:size].sum(1)
    return np.asarray(sums_R.real / sums_R.imag)
