"""Confidence intervals for proportions and means of clustered samples.

Shapes: R replications (leading axes, optional), G clusters. Everything works on the cluster sums ``sums_RG`` and
the cluster sizes ``sizes_G``, so the same code serves one audit and a coverage simulation of thousands.

References
[1] Wilson (1927), Probable inference, the law of succession, and statistical inference. JASA 22.
[2] Clopper & Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the binomial. Biometrika 26.
[3] Korn & Graubard (1998), Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data. Survey Methodology 24. (effective sample size with a t correction)
[4] Bell & McCaffrey (2002), Bias reduction in standard errors for linear regression with multi-stage samples.
    Survey Methodology 28. (CR2 and its Satterthwaite degrees of freedom)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval

Floats = NDArray[np.float64]

EXACT_BELOW = 5.0  # effective successes or failures below which the exact method is used


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A point estimate with its interval. ``ci`` None: see ``flag`` for why there is none."""

    value: float
    ci: ConfidenceInterval | None
    n: int
    n_clusters: int
    design_effect: float | None = None
    flag: str = ""


def cluster_sums(values: ArrayLike, clusters: ArrayLike | None) -> tuple[Floats, Floats]:
    """Sum and size of each cluster, both (G,), clusters in sorted order of their ids; None: every row its own cluster."""
    values_N = np.asarray(values, dtype=float)
    if clusters is None:
        return values_N, np.ones_like(values_N)
    codes_N = cluster_codes(clusters, len(values_N))
    return np.bincount(codes_N, weights=values_N), np.bincount(codes_N).astype(float)


def cluster_codes(clusters: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """Clusters as integers 0..G−1, (N,). Raises InputError when there is not one cluster per row."""
    if clusters is None:
        return np.arange(n)
    ids_N = np.asarray(clusters)
    if ids_N.shape != (n,):
        raise InputError(f"clusters has shape {ids_N.shape}, values has {n} rows: pass one cluster id per row")
    return np.unique(ids_N, return_inverse=True)[1]


def wilson_bounds(p: ArrayLike, n: ArrayLike, critical: ArrayLike) -> tuple[Floats, Floats]:
    """Score interval of a proportion: the p0 with |p − p0| ≤ critical·√(p0(1 − p0)/n) [1, eq. for the two roots]."""
    p, n, c2 = np.asarray(p, float), np.asarray(n, float), np.asarray(critical, float) ** 2
    centre = (p + c2 / (2 * n)) / (1 + c2 / n)
    half = np.sqrt(c2) / (1 + c2 / n) * np.sqrt(p * (1 - p) / n + c2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def clopper_pearson_bounds(p: ArrayLike, n: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """Exact interval [2] as beta quantiles; x = n·p and n may be fractional (effective sizes) [3]."""
    p, n = np.asarray(p, float), np.asarray(n, float)
    x, tail = n * p, (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(x <= 0, 0.0, special.betaincinv(np.maximum(x, 1e-12), n - x + 1, tail))
        high = np.where(x >= n, 1.0, special.betaincinv(x + 1, np.maximum(n - x, 1e-12), 1 - tail))
    return low, high


def cluster_variance(sums_RG: Floats, sizes_G: Floats) -> Floats:
    """CR2 variance of the mean Σsums/Σsizes, (R,): Σ e_g²/(1 − m_g/n)/n², e_g = sums − m_g·mean [4]. Needs G ≥ 2."""
    n = sizes_G.sum(-1, keepdims=True)
    residual_RG = sums_RG - sizes_G * (sums_RG.sum(-1, keepdims=True) / n)
    return (residual_RG**2 / (1 - sizes_G / n)).sum(-1) / n[..., 0] ** 2


def satterthwaite_df(sizes_G: Floats) -> Floats:
    """Degrees of freedom of :func:`cluster_variance` for a mean, under working independence [4, eq. 12]; G − 1 at equal sizes.

    With c_g = 1/√(1 − m_g/n) the matrix of the quadratic form is c_g·c_h·(δ_gh·m_g − m_g·m_h/n); df = trace²/trace of square.
    """
    n = sizes_G.sum(-1, keepdims=True)
    c2_G = 1 / (1 - sizes_G / n)
    outer = (c2_G * sizes_G**2).sum(-1) ** 2 / n[..., 0] ** 2
    diagonal = (c2_G**2 * sizes_G**4).sum(-1) / n[..., 0] ** 2
    return n[..., 0] ** 2 / (sizes_G**2).sum(-1).clip(1e-300) if outer is None else (
        n[..., 0] ** 2 / ((sizes_G**2).sum(-1) + outer - diagonal))


def proportion_bounds(sums_RG: Floats, sizes_G: Floats, level: float = 0.95) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Cluster-robust interval of a proportion: (low, high, design effect, whether exact), each (R,). Needs G ≥ 2.

    Wilson on the effective sample size n/deff [3], exact where that has fewer than five successes or failures.
    """
    n, z = sizes_G.sum(-1), stats.norm.ppf(0.5 + level / 2)
    p_R = sums_RG.sum(-1) / n
    binomial_R = p_R * (1 - p_R) / n
    single = bool(np.all(sizes_G == 1))
    fully = (sizes_G**2).sum(-1) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        deff_R = np.where(binomial_R > 0, cluster_variance(sums_RG, sizes_G) / binomial_R, fully)
    deff_R = np.ones_like(p_R) if single else np.maximum(deff_R, 1.0)
    critical = z if single else stats.t.ppf(0.5 + level / 2, satterthwaite_df(sizes_G))
    effective_R = n / deff_R * (z / critical) ** 2
    exact_R = effective_R * np.minimum(p_R, 1 - p_R) < EXACT_BELOW
    wilson, exact = wilson_bounds(p_R, effective_R, z), clopper_pearson_bounds(p_R, effective_R, level)
    return np.where(exact_R, exact[0], wilson[0]), np.where(exact_R, exact[1], wilson[1]), deff_R, exact_R


def proportion_interval(values: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate | None:
    """Proportion of ones among ``values`` (N,) in {0, 1}, with its interval.

    None when there is no row. ``ci`` is None when all rows lie in one cluster (no variance between clusters).
    Raises InputError for a value other than 0 or 1.
    """
    values_N = np.asarray(values, dtype=float)
    if not len(values_N):
        return None
    if not np.isin(values_N, (0.0, 1.0)).all():
        odd = values_N[~np.isin(values_N, (0.0, 1.0))][0]
        raise InputError(f"a proportion needs values 0 or 1, found {odd}: use a mean with bounds (0, 1) for soft values")
    sums_G, sizes_G = cluster_sums(values_N, clusters)
    value = float(values_N.mean())
    if len(sizes_G) < 2 < len(values_N) + 1 and sizes_G[0] > 1:
        return Estimate(value=value, ci=None, n=len(values_N), n_clusters=1, flag="one cluster only: no interval")
    if len(sizes_G) == 1:
        low, high = clopper_pearson_bounds(value, 1, level)
        ci = ConfidenceInterval(low=float(low), high=float(high), level=level, method="Clopper-Pearson exact")
        return Estimate(value=value, ci=ci, n=1, n_clusters=1, design_effect=1.0)
    low, high, deff, exact = proportion_bounds(sums_G, sizes_G, level)
    clustered = bool((sizes_G > 1).any())
    method = ("Clopper-Pearson exact" if exact else "Wilson") + (" on the effective sample size (cluster-robust)" if clustered else "")
    ci = ConfidenceInterval(low=float(low), high=float(high), level=level, method=method)
    return Estimate(value=value, ci=ci, n=len(values_N), n_clusters=len(sizes_G), design_effect=float(deff))


def mean_interval(values: ArrayLike, clusters: ArrayLike | None = None, bounds: tuple[float, float] | None = None,
                  level: float = 0.95) -> Estimate | None:
    """Mean of ``values`` (N,) with a cluster-robust t interval (CR2 variance, Satterthwaite df) [4].

    ``bounds`` of the quantity clip the interval. None when there is no row; ``ci`` None when there is one cluster,
    or all values are equal and no bounds are given. Raises InputError for a value outside the bounds.
    """
    values_N = np.asarray(values, dtype=float)
    if not len(values_N):
        return None
    if bounds is not None and (values_N.min() < bounds[0] - 1e-9 or values_N.max() > bounds[1] + 1e-9):
        raise InputError(f"values reach from {values_N.min()} to {values_N.max()}, outside bounds {bounds}: pass the true bounds")
    sums_G, sizes_G = cluster_sums(values_N, clusters)
    n, g, value = len(values_N), len(sizes_G), float(values_N.mean())
    if np.ptp(values_N) == 0:
        if bounds is None:
            return Estimate(value=value, ci=None, n=n, n_clusters=g, flag="all values are equal: no interval")
        return Estimate(value=value, ci=no_variation_interval(value, g, bounds, level), n=n, n_clusters=g)
    if g < 2:
        return Estimate(value=value, ci=None, n=n, n_clusters=g, flag="one cluster only: no interval")
    variance, iid = float(cluster_variance(sums_G, sizes_G)), float(values_N.var(ddof=1)) / n
    half = float(stats.t.ppf(0.5 + level / 2, satterthwaite_df(sizes_G))) * variance**0.5
    low, high = value - half, value + half
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    method = "cluster-robust t (CR2)" if g < n else "Student t"
    ci = ConfidenceInterval(low=low, high=high, level=level, method=method)
    return Estimate(value=value, ci=ci, n=n, n_clusters=g, design_effect=variance / iid)


def no_variation_interval(value: float, n_clusters: int, bounds: tuple[float, float], level: float = 0.95) -> ConfidenceInterval:
    """Interval of a bounded mean when every value seen is the same.

    If a share q of clusters differed, seeing none in G has probability (1 − q)^G; the largest q with probability
    (1 − level)/2 bounds what the unseen may add: [v − q(v − lo), v + q(hi − v)]. At 0/G it is Clopper-Pearson's [2].
    """
    q = 1 - ((1 - level) / 2) ** (1 / n_clusters)
    low, high = value - q * (value - bounds[0]), value + q * (bounds[1] - value)
    return ConfidenceInterval(low=low, high=high, level=level, method="exact, no variation seen (all clusters taken as one draw each)")
