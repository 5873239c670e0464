"""Confidence intervals for proportions and means of clustered samples.

Shapes: N rows, G clusters, R replications (a leading axis, or none). The ``*_bounds`` functions take cluster sums
``sums_RG`` and cluster sizes ``sizes_G``, so the same code serves one audit and a coverage simulation of thousands;
``proportion_interval`` and ``mean_interval`` take the rows of one audit.

The constants below were settled by simulation against the coverage rule of the tests (tests/stats/test_coverage.py).

References
[1] Wilson (1927), Probable inference, the law of succession, and statistical inference. JASA 22.
[2] Clopper & Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the binomial. Biometrika 26.
[3] Korn & Graubard (1998), Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data. Survey Methodology 24. (n/deff times (z/t)², for Wilson and for the exact interval)
[4] Bell & McCaffrey (2002), Bias reduction in standard errors for linear regression with multi-stage samples.
    Survey Methodology 28. (CR2 and its Satterthwaite degrees of freedom)
[5] Hall (1992), On the removal of skewness by transformation. JRSS B 54.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval

Floats = NDArray[np.float64]

# Unclustered: a true n·p below 5 needs the exact method, and lies within the 99 % interval of up to 12 observed successes: Wilson starts
# at 13. Clustered counts are smoothed by the random effective size: there the observed 5 of the rule and 3 effective ones suffice.
EXACT_BELOW, EXACT_BELOW_CLUSTERED, EXACT_BELOW_EFFECTIVE = 13, 5, 3
# Share of the moment-matched degrees of freedom (see `_variance_df`) that is credited: 1 over-covers, 1.6 under-covers rare events.
DF_CREDIT = 1.45
MIN_DESIGN_EFFECT = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A point estimate with its interval. When ``ci`` is None, ``flag`` says why. ``df``: the interval's degrees of freedom where they
    are not those of ``n_clusters`` clusters, one less than their number.
    """

    value: float
    ci: ConfidenceInterval | None
    n: int
    n_clusters: int
    design_effect: float | None = None
    flag: str = ""
    df: float | None = None


def cluster_codes(clusters: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """Clusters as integers 0..G−1 in the order of their sorted ids, (N,); None: every row is its own.

    Raises InputError when there is not one id per row.
    """
    if clusters is None:
        return np.arange(n)
    ids_N = np.asarray(clusters)
    if ids_N.shape != (n,):
        raise InputError(f"clusters has shape {ids_N.shape}, values has {n} rows: pass one cluster id per row")
    return np.unique(ids_N, return_inverse=True)[1]


def cluster_sums(values: ArrayLike, clusters: ArrayLike | None) -> tuple[Floats, Floats]:
    """Sum and size of each cluster, both (G,)."""
    values_N = np.asarray(values, dtype=float)
    codes_N = cluster_codes(clusters, len(values_N))
    return np.bincount(codes_N, weights=values_N).astype(float), np.bincount(codes_N).astype(float)


def normal_quantile(level: float) -> float:
    """z of a two-sided interval at ``level``: 1.96 for 0.95."""
    return float(special.ndtri(0.5 + level / 2))


def t_quantile(df: ArrayLike, level: float) -> Floats:
    """Student's t of a two-sided interval at ``level``."""
    return np.asarray(special.stdtrit(df, 0.5 + level / 2))


def wilson_bounds(p: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Score interval of a proportion: all p0 with |p − p0| ≤ z·√(p0(1 − p0)/n) [1]. ``n`` may be an effective size."""
    p, n, z2 = np.asarray(p, float), np.asarray(n, float), normal_quantile(level) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def clopper_pearson_bounds(p: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Exact interval [2] as beta quantiles of x = n·p, which may be fractional with an effective ``n`` [3]."""
    p, n = np.asarray(p, float), np.asarray(n, float)
    x, tail = n * p, (1 - level) / 2
    low = np.where(p <= 0, 0.0, special.betaincinv(np.maximum(x, 1e-12), n - x + 1, tail))
    high = np.where(p >= 1, 1.0, special.betaincinv(x + 1, np.maximum(n - x, 1e-12), 1 - tail))
    return low, high


def _residuals(sums_RG: Floats, sizes_G: Floats) -> Floats:
    """CR2 residual sums of the clusters, (R, G): (sums − m_g·mean)/√(1 − m_g/n) [4]."""
    n = sizes_G.sum()
    return (sums_RG - sizes_G * (sums_RG.sum(-1, keepdims=True) / n)) / np.sqrt(1 - sizes_G / n)


def cluster_variance(sums_RG: Floats, sizes_G: Floats) -> Floats:
    """CR2 variance of the mean Σsums/Σsizes, (R,) [4]. Needs G ≥ 2."""
    return (_residuals(sums_RG, sizes_G) ** 2).sum(-1) / sizes_G.sum() ** 2


def satterthwaite_df(sizes_G: Floats) -> float:
    """Degrees of freedom of :func:`cluster_variance` under working independence [4]; G − 1 at equal sizes.

    The variance is a quadratic form with matrix c_g·c_h·(δ_gh·m_g − m_g·m_h/n), c_g = 1/√(1 − m_g/n), whose diagonal is m_g;
    df = trace² / sum of squared elements.
    """
    n = sizes_G.sum()
    weight_G = sizes_G**2 / (1 - sizes_G / n)
    off_diagonal = (weight_G.sum() ** 2 - (weight_G**2).sum()) / n**2
    return float(n**2 / ((sizes_G**2).sum() + off_diagonal))


def _variance_df(sums_RG: Floats, sizes_G: Floats) -> Floats:
    """Degrees of freedom of the variance between clusters, (R,), matched to the spread of its own terms.

    The estimate is Σe²; if its terms are unequal (a rare event in few clusters) it is worth fewer clusters than G:
    df = 2·(Σe²)²/(Σe⁴ − (Σe²)²/G), which is G − 1 for normal e. Capped near G − 1, as the fourth moment of few clusters says little.
    """
    square_RG = _residuals(sums_RG, sizes_G) ** 2
    clusters = len(sizes_G)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess_R = (square_RG**2).sum(-1) / square_RG.sum(-1) ** 2 - 1 / clusters
    df_R = np.where(excess_R > 0, 2 / np.maximum(excess_R, 1e-12), np.inf)
    cap = satterthwaite_df(sizes_G) * min(2.0, max(1.0, clusters / 8))
    return np.clip(DF_CREDIT * df_R, 1.0, max(cap, 1.0))


def effective_size(sums_RG: Floats, sizes_G: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """(design effect, effective sample size) of a proportion, (R,) each. Needs G ≥ 2.

    n/deff·(z/t)² [3], deff = CR2 variance [4] over binomial variance and t at :func:`_variance_df`; n when no cluster has two rows. At 0/n
    and n/n deff cannot be estimated: every cluster is taken as one draw, deff = Σm²/Σm.
    """
    n, z = sizes_G.sum(), normal_quantile(level)
    p_R = sums_RG.sum(-1) / n
    if (sizes_G == 1).all():
        return np.ones_like(p_R), np.full_like(p_R, n)
    deff_R, t_R = _design_effect(sums_RG, sizes_G), t_quantile(_variance_df(sums_RG, sizes_G), level)
    return deff_R, n / deff_R * np.where((p_R == 0) | (p_R == 1), 1.0, (z / t_R) ** 2)


def proportion_bounds(sums_RG: Floats, sizes_G: Floats, level: float = 0.95) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Interval of a proportion from cluster sums: (low, high, design effect, whether exact), each (R,). Needs G ≥ 2.

    Wilson [1] on the effective size, exact [2] for few successes or failures: unclustered below 13, clustered below 5 or 3 effective ones.
    """
    n = sizes_G.sum()
    p_R = sums_RG.sum(-1) / n
    deff_R, effective_R = effective_size(sums_RG, sizes_G, level)
    rare_R = np.minimum(p_R, 1 - p_R)
    if (sizes_G == 1).all():
        exact_R = n * rare_R < EXACT_BELOW
    else:
        exact_R = (n * rare_R < EXACT_BELOW_CLUSTERED) | (effective_R * rare_R < EXACT_BELOW_EFFECTIVE)
    low_R, high_R = wilson_bounds(p_R, effective_R, level)
    low_R, high_R = np.asarray(low_R), np.asarray(high_R)
    low_R[exact_R], high_R[exact_R] = clopper_pearson_bounds(p_R[exact_R], effective_R[exact_R], level)
    return low_R, high_R, deff_R, exact_R


def _design_effect(sums_RG: Floats, sizes_G: Floats) -> Floats:
    """Variance of a proportion over its binomial variance, (R,). Equal shares in every cluster show no clustering: 1."""
    n = sizes_G.sum()
    p_R = sums_RG.sum(-1) / n
    variance_R, binomial_R = cluster_variance(sums_RG, sizes_G), p_R * (1 - p_R) / n
    deff_R = np.maximum(variance_R / np.where(binomial_R > 0, binomial_R, 1.0), MIN_DESIGN_EFFECT)
    deff_R = np.where(variance_R <= 1e-12 * binomial_R, 1.0, deff_R)
    return np.where(binomial_R > 0, deff_R, (sizes_G**2).sum() / n)


def mean_bounds(sums_RG: Floats, sizes_G: Floats, bounds: tuple[float, float] | None = None, level: float = 0.95) -> tuple[Floats, Floats]:
    """Interval of a mean from cluster sums, (R,) each. Needs G ≥ 2 and some variation between clusters.

    Student's t on the CR2 error with Satterthwaite df [4], clipped to ``bounds`` and widened for skewness on the side where another
    interval reaches further. For a bounded quantity that is Wilson's [1], with the effective size p(1 − p)/variance of the mean p rescaled to
    0..1; else Hall's [5]: t after the transformation g(T) = T + a·T²/3 + a²·T³/27 + a/6, a = Σe³/(Σe²)^1.5.
    """
    n, df = sizes_G.sum(), max(satterthwaite_df(sizes_G), 1.0)
    mean_R, e_RG, t = sums_RG.sum(-1) / n, _residuals(sums_RG, sizes_G), float(t_quantile(df, level))
    square_R = (e_RG**2).sum(-1)
    reach_R = t * np.sqrt(square_R) / n
    if bounds is None:
        skew_R = (e_RG**3).sum(-1) / np.where(square_R > 0, square_R, 1.0) ** 1.5
        skew_R = np.where(np.abs(skew_R) < 1e-6, 1e-6, skew_R)
        top, bottom = (3 / skew_R * (np.cbrt(1 + skew_R * (q - skew_R / 6)) - 1) / t for q in (t, -t))  # g⁻¹(±t) in units of t
        return mean_R - reach_R * np.maximum(top, 1), mean_R - reach_R * np.minimum(bottom, -1)
    span = bounds[1] - bounds[0]
    p_R = np.clip((mean_R - bounds[0]) / span, 0, 1)
    shrink_R = normal_quantile(level) / t_quantile(np.minimum(_variance_df(sums_RG, sizes_G), df), level)
    low, high = wilson_bounds(p_R, p_R * (1 - p_R) * (n * span * shrink_R) ** 2 / square_R, level)
    low_R, high_R = np.minimum(bounds[0] + span * low, mean_R - reach_R), np.maximum(bounds[0] + span * high, mean_R + reach_R)
    return np.maximum(low_R, bounds[0]), np.minimum(high_R, bounds[1])


def proportion_interval(values: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate | None:
    """Share of ones among ``values`` (N,) in {0, 1}, with the interval of :func:`proportion_bounds`.

    None when there is no row; ``ci`` None when several rows lie in a single cluster. Raises InputError for another value.
    """
    values_N = np.asarray(values, dtype=float)
    if not len(values_N):
        return None
    odd = values_N[~np.isin(values_N, (0.0, 1.0))]
    if len(odd):
        raise InputError(f"a proportion needs values 0 or 1, found {odd[0]}: use a mean with bounds (0, 1) for soft values")
    sums_G, sizes_G = cluster_sums(values_N, clusters)
    n, g, value = len(values_N), len(sizes_G), float(values_N.mean())
    if g == 1 and n > 1:
        return Estimate(value=value, ci=None, n=n, n_clusters=g, flag="one cluster only: no interval")
    if g == 1:  # one row is its own cluster: exact, without a variance
        (low, high), deff, exact = clopper_pearson_bounds(value, 1, level), np.float64(1), np.True_
    else:
        low, high, deff, exact = proportion_bounds(sums_G, sizes_G, level)  # type: ignore[assignment]  # 0-d arrays
    method = ("Clopper-Pearson exact" if exact else "Wilson") + (", cluster-robust (effective n)" if g < n else "")
    ci = ConfidenceInterval(low=float(low), high=float(high), level=level, method=method)
    return Estimate(value=value, ci=ci, n=n, n_clusters=g, design_effect=float(deff))


def mean_interval(values: ArrayLike, clusters: ArrayLike | None = None, bounds: tuple[float, float] | None = None,
                  level: float = 0.95) -> Estimate | None:
    """Mean of ``values`` (N,) with the interval of :func:`mean_bounds`.

    None when there is no row. ``ci`` None with a single cluster, or when all cluster means are equal and no bounds are given (with
    bounds: :func:`no_variation_interval`). Raises InputError for a value outside the bounds.
    """
    values_N = np.asarray(values, dtype=float)
    if not len(values_N):
        return None
    _check_bounds(values_N, bounds)
    sums_G, sizes_G = cluster_sums(values_N, clusters)
    n, g, value = len(values_N), len(sizes_G), float(values_N.mean())
    variance = float(cluster_variance(sums_G, sizes_G)) if g > 1 else 0.0
    if variance <= (1e-12 * max(1.0, abs(value))) ** 2:
        return no_variation(Estimate(value=value, ci=None, n=n, n_clusters=g), bounds, level)
    if g == 1:
        return Estimate(value=value, ci=None, n=n, n_clusters=g, flag="one cluster only: no interval")
    low, high = (float(end) for end in mean_bounds(sums_G, sizes_G, bounds, level))
    method = ("cluster-robust t (CR2)" if g < n else "Student t") + (", skewness-adjusted" if bounds is None else ", Wilson towards the bounds")
    ci = ConfidenceInterval(low=low, high=high, level=level, method=method)
    iid = float(values_N.var(ddof=1)) / n
    return Estimate(value=value, ci=ci, n=n, n_clusters=g, design_effect=variance / iid if iid > 0 else None)


def _check_bounds(values_N: Floats, bounds: tuple[float, float] | None) -> None:
    if bounds is not None and (values_N.min() < bounds[0] - 1e-9 or values_N.max() > bounds[1] + 1e-9):
        raise InputError(f"values reach from {values_N.min()} to {values_N.max()}, outside bounds {bounds}: pass the quantity's own bounds")


def no_variation(estimate: Estimate, bounds: tuple[float, float] | None, level: float = 0.95) -> Estimate:
    """The estimate with a conservative interval for data in which every cluster gave the same; without bounds none, and a flag.

    If a share q of clusters differed, seeing none in G has probability (1 − q)^G; the largest q for which that is (1 − level)/2 bounds
    what the unseen may add: [v − q(v − lo), v + q(hi − v)]. At 0 of G this is Clopper-Pearson's [2].
    """
    common = {"value": estimate.value, "n": estimate.n, "n_clusters": estimate.n_clusters}
    if bounds is None:
        return Estimate(ci=None, flag="no variation between clusters and no bounds: no interval", **common)  # type: ignore[arg-type]
    q = 1 - ((1 - level) / 2) ** (1 / estimate.n_clusters)
    low, high = estimate.value - q * (estimate.value - bounds[0]), estimate.value + q * (bounds[1] - estimate.value)
    method = "exact, no variation seen (each cluster one draw)"
    return Estimate(ci=ConfidenceInterval(low=low, high=high, level=level, method=method), **common)  # type: ignore[arg-type]
