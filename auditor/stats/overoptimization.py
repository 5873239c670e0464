"""Over-optimisation: best-of-n from stored draws, and gold reward against d = √KL (nats) as the two curves of [1].

Shapes: N draws of a prompt, I prompts, K numbers n, T training steps.

References
[1] Gao, Schulman & Hilton (2023), Scaling laws for reward model overoptimization. ICML (arXiv 2210.10760).
[2] Nakano et al. (2021), WebGPT, appendix (arXiv 2112.09332). (the unbiased estimate of best-of-n from N draws)
[3] Stiennon et al. (2020), Learning to summarize from human feedback, appendix. (the KL of best-of-n; an upper bound where draws repeat)
[4] Fieller (1954), Some problems in interval estimation. JRSS B 16. (the ratio of two estimates)
[5] Bell & McCaffrey (2002), Bias reduction in standard errors for linear regression with multi-stage samples. Survey Methodology 28. (HC2 errors
    with their own degrees of freedom; the steps of small KL weigh much: where 95 % are promised for the initial gold, HC3 with T − 3 covered 89
    to 94 % in three simulated trainings, this 98 to 99 %)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval
from auditor.stats.intervals import Estimate, Floats, cluster_sums, cluster_variance, mean_interval, satterthwaite_df, t_quantile

Form = Literal["best_of_n", "rl"]
LEVEL = 0.95
WINDOWS, LEAST_STEPS = 5, 15
LARGEST = 1e30  # a step's number from here on is no measurement, and its powers would overflow
LEAST_KL = 1e-30  # nats that count as none, for the same reason
ROUNDING = 1e-12  # share of the largest value up to which a deviation is rounding
LONE_STEP = "one step alone decides the curve at its KL: no interval"
ALONE = 1e-8  # share of a step's error that its residual must keep for the step to say anything of errors


def best_of_n_kl(n: int) -> float:
    """KL of best-of-n from the sampled policy, ln n − (n − 1)/n nats [3]."""
    if n < 1:
        raise InputError(f"best of {n}: pass at least 1")
    return math.log(n) - (n - 1) / n


def rank_weights(draws: int, n: int) -> Floats:
    """Probability that the draw of rank i is the best of n out of ``draws``, C(i − 1, n − 1)/C(N, n), i = 1 the lowest [2]."""
    if not 1 <= n <= draws:
        raise InputError(f"best of {n} from {draws} draws: pass n between 1 and the number of draws")
    return np.array([math.comb(rank, n - 1) / math.comb(draws, n) for rank in range(draws)])


def best_of_n(proxy_N: ArrayLike, values_N: ArrayLike, n: int) -> float:
    """Expected value of the draw that the proxy picks from n [2]. Draws of equal proxy share their values: ties are broken at random."""
    proxy, values = np.asarray(proxy_N, dtype=float), np.asarray(values_N, dtype=float)
    if proxy.shape != values.shape:
        raise InputError(f"{proxy.shape} proxy and {values.shape} gold values: pass one of each for every draw")
    _, ties_N = np.unique(proxy, return_inverse=True)
    shared_N = (np.bincount(ties_N, weights=values) / np.bincount(ties_N))[ties_N]
    mean = float(rank_weights(len(proxy), n) @ shared_N[np.argsort(proxy, kind="stable")])
    return min(max(mean, float(values.min())), float(values.max()))  # rounding may step over the ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """R = d(α − βd) or R = d(α − β ln d), R gold minus initial gold. ``turning_point`` (d*, in √nats) None: ``reason`` says why.

    ``start`` is the fitted initial gold; None where it is known (best of 1).
    """

    alpha: Estimate
    beta: Estimate
    turning_point: Estimate | None
    reason: str = ""
    start: Estimate | None = None


def basis(d_T: Floats, form: Form) -> Floats:
    """The columns (T, 2) that α and β multiply; both are 0 at d = 0."""
    if form == "best_of_n":
        return np.stack([d_T, -(d_T**2)], axis=1)
    return np.stack([d_T, -d_T * np.log(np.where(d_T > 0, d_T, 1.0))], axis=1)


def fit_best_of_n(gold_IK: ArrayLike, ns: Sequence[int], clusters: ArrayLike | None = None) -> Curve | None:
    """The best-of-n curve through gold at each n (``ns`` begin with 1), intervals over clusters of prompts.

    Least squares is linear in gold, so α and β are means over prompts of each prompt's own fit. None without a prompt. Raises
    InputError unless ``ns`` begin with 1 and hold two more.
    """
    gold = np.asarray(gold_IK, dtype=float)
    if len(ns) < 3 or ns[0] != 1 or gold.ndim != 2 or gold.shape[1] != len(ns):
        raise InputError(f"gold of shape {gold.shape} for n = {list(ns)}: pass a column for each n, of which the first is 1 and two more follow")
    if not len(gold):
        return None
    d_K = np.sqrt([best_of_n_kl(n) for n in ns])
    fitted_I2 = (gold - gold[:, :1]) @ np.linalg.pinv(basis(d_K, "best_of_n")).T
    alpha, beta = (mean_interval(column, clusters) for column in fitted_I2.T)
    if alpha is None or beta is None:
        return None
    peak = None
    if alpha.n_clusters > 1:
        sums, sizes = zip(*(cluster_sums(column, clusters) for column in (*fitted_I2.T, fitted_I2.sum(1))), strict=True)
        variances = [float(cluster_variance(column, sizes[0])) for column in sums]
        covariance = np.array([[variances[0], (variances[2] - variances[0] - variances[1]) / 2],
                               [(variances[2] - variances[0] - variances[1]) / 2, variances[1]]])
        peak = fieller(alpha.value, beta.value, covariance, max(satterthwaite_df(sizes[0]), 1.0))
    return _curve(alpha, beta, peak, (d_K, "best_of_n"))


def fit_training(kl_T: ArrayLike, gold_T: ArrayLike) -> Curve | None:
    """The curve of reinforcement learning through one point a step: mean KL (nats a sequence) and mean gold of that step's fresh completions.

    The gold at d = 0 is a third coefficient: one batch measures it no better than any other. Student's t on HC2 errors [5]; a step's
    completions are drawn anew, so that errors are independent between steps. None below LEAST_STEPS steps or where KL has fewer than three
    values; without intervals where a step alone decides a coefficient, as where only one has a KL near 0 and the others' are alike.
    """
    kl, gold = _clean(kl_T, gold_T)
    d_T = np.sqrt(np.where(kl > LEAST_KL, kl, 0.0))
    design_T3 = np.column_stack([np.ones(len(d_T)), basis(d_T, "rl")])
    size_3 = np.linalg.norm(design_T3, axis=0)
    if len(d_T) < LEAST_STEPS or not size_3.all() or np.linalg.matrix_rank(design_T3 / size_3) < 3:
        return None
    axes_T3, upper_33 = np.linalg.qr(design_T3 / size_3)  # scaled, as d may be of any size beside the 1 of the start
    weights_3T = np.linalg.solve(upper_33, axes_T3.T) / size_3[:, None]
    coefficients = weights_3T @ gold
    residual_TT = np.eye(len(d_T)) - axes_T3 @ axes_T3.T
    spread_T = np.diag(residual_TT)
    if spread_T.min() < ALONE:  # the curve goes through that step whatever its error, of which nothing is left to see
        start, alpha, beta = (Estimate(value=float(value), ci=None, n=len(d_T), n_clusters=len(d_T), flag=LONE_STEP) for value in coefficients)
        return replace(_curve(alpha, beta, None, (d_T, "rl")), start=start)
    error_T = residual_TT @ gold
    error_T = np.where(np.abs(error_T).max() > ROUNDING * np.abs(gold).max(), error_T, 0.0)
    covariance = (weights_3T * (error_T**2 / spread_T)) @ weights_3T.T
    # Under equal errors a coefficient's variance estimate is a weighted sum of χ², whose degrees of freedom are matched.
    forms = [residual_TT * (weight_T**2 / spread_T) for weight_T in weights_3T]
    dfs = [float(np.trace(form) ** 2 / np.trace(form @ form)) for form in forms]
    start, alpha, beta = (_student(float(coefficients[k]), float(covariance[k, k]), dfs[k], len(d_T)) for k in range(3))
    return replace(_curve(alpha, beta, fieller(alpha.value, beta.value, covariance[1:, 1:], dfs[2]), (d_T, "rl")), start=start)


def fieller(top: float, bottom: float, covariance_22: ArrayLike, df: float, level: float = LEVEL) -> tuple[float, float] | None:
    """Interval of ``top`` / ``bottom`` [4]: all ratios ρ for which top − ρ·bottom is within t standard errors of 0.

    None where it is not bounded, which is exactly where the interval of ``bottom`` holds 0.
    """
    (aa, ab), (_, bb) = np.asarray(covariance_22, dtype=float)
    t2 = float(t_quantile(df, level)) ** 2
    square, middle, rest = bottom**2 - t2 * bb, top * bottom - t2 * ab, top**2 - t2 * aa
    if square <= 0:
        return None
    half = math.sqrt(max(middle**2 - square * rest, 0.0))
    return (middle - half) / square, (middle + half) / square


def _curve(alpha: Estimate, beta: Estimate, ratio: tuple[float, float] | None, seen: tuple[Floats, Form]) -> Curve:
    """d* = α/2β or exp(α/β − 1), where β is surely above 0 and d* lies within the data."""
    (nearest, farthest), form = (float(seen[0].min()), float(seen[0].max())), seen[1]
    if beta.ci is None or ratio is None or beta.ci.low <= 0:
        return Curve(alpha=alpha, beta=beta, turning_point=None, reason="no turning point observed: β is not surely above 0")
    value, low, high = (rho / 2 if form == "best_of_n" else math.exp(min(rho - 1, 700.0)) for rho in (alpha.value / beta.value, *ratio))
    if value <= 0 or not nearest <= value <= farthest:
        reason = f"no turning point observed: d* = {value:.3g} lies outside the data, which reach from {nearest:.3g} to {farthest:.3g} √nats"
        return Curve(alpha=alpha, beta=beta, turning_point=None, reason=reason)
    ci = ConfidenceInterval(low=low, high=high, level=LEVEL, method="Fieller")
    return Curve(alpha=alpha, beta=beta, turning_point=Estimate(value=value, ci=ci, n=beta.n, n_clusters=beta.n_clusters, df=beta.df))


def _student(value: float, variance: float, df: float, n: int, flat: str = "the points lie on the curve: no interval",
             method: str = "Student t, HC2") -> Estimate:
    if variance <= 0:
        return Estimate(value=value, ci=None, n=n, n_clusters=n, flag=flat)
    half = float(t_quantile(df, LEVEL)) * math.sqrt(variance)
    return Estimate(value=value, ci=ConfidenceInterval(low=value - half, high=value + half, level=LEVEL, method=method), n=n, n_clusters=n, df=df)


def _clean(*columns_T: ArrayLike) -> tuple[Floats, ...]:
    """The steps at which every column has a value: a finite one below LARGEST."""
    arrays = tuple(np.asarray(column, dtype=float) for column in columns_T)
    kept_T = _known(*arrays)
    return tuple(array[kept_T] for array in arrays)


def _known(*arrays_T: Floats) -> NDArray[np.bool_]:
    if len({array.shape for array in arrays_T}) > 1:
        raise InputError("columns of different lengths: pass one number of each for every step")
    return np.all([np.abs(array) < LARGEST for array in arrays_T], axis=0)  # false for NaN


# -- past the turning point ---------------------------------------------------------------------------------------------


def least_difference(differences: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Last minus the best of several earlier points, from (value, low, high) of last minus each, at a level that holds for all at once.

    min over j of μ_last − μ_j lies between the least lower and the least upper end whenever every interval holds, so nothing is lost to
    having looked for the best point after the fact.
    """
    values, lows, highs = zip(*differences, strict=True)
    return min(values), min(lows), min(highs)


def past_best_of_n(gold_IK: ArrayLike, clusters: ArrayLike | None = None, bounds: tuple[float, float] | None = None) -> Estimate | None:
    """Gold at the last n minus gold at the best earlier n, paired over prompts; ``bounds`` are those of a difference.

    None without a prompt; ``ci`` None where one of the differences has none.
    """
    gold = np.asarray(gold_IK, dtype=float)
    if not len(gold):
        return None
    level = 1 - (1 - LEVEL) / (gold.shape[1] - 1)
    found = [mean_interval(gold[:, -1] - gold[:, k], clusters, bounds, level) for k in range(gold.shape[1] - 1)]
    estimates = [estimate for estimate in found if estimate is not None]
    ends = [(estimate.value, estimate.ci.low, estimate.ci.high) for estimate in estimates if estimate.ci is not None]
    first = estimates[0]
    if len(ends) < len(estimates):
        return Estimate(value=min(estimate.value for estimate in estimates), ci=None, n=first.n, n_clusters=first.n_clusters, flag=first.flag)
    value, low, high = least_difference(ends)
    ci = ConfidenceInterval(low=low, high=high, level=LEVEL, method="paired cluster-robust t, Bonferroni over earlier points")
    return Estimate(value=value, ci=ci, n=first.n, n_clusters=first.n_clusters)


def past_training(gold_T: ArrayLike) -> Estimate | None:
    """Mean gold of the last fifth of the steps minus that of the best earlier fifth. None below LEAST_STEPS steps."""
    (gold,) = _clean(gold_T)
    if len(gold) < LEAST_STEPS:
        return None
    parts = np.array_split(gold, WINDOWS)
    df = len(gold) - WINDOWS
    variance = _within(parts)
    reach = float(t_quantile(df, 1 - (1 - LEVEL) / (WINDOWS - 1)))
    last = parts[-1]
    ends = []
    for part in parts[:-1]:
        difference, half = float(last.mean() - part.mean()), reach * math.sqrt(variance * (1 / len(last) + 1 / len(part)))
        ends.append((difference, difference - half, difference + half))
    value, low, high = least_difference(ends)
    if variance <= 0:
        return Estimate(value=value, ci=None, n=len(gold), n_clusters=len(gold), flag="gold does not vary: no interval")
    ci = ConfidenceInterval(low=low, high=high, level=LEVEL, method="Student t between fifths, Bonferroni over earlier ones")
    return Estimate(value=value, ci=ci, n=len(gold), n_clusters=len(gold), df=df)


def _within(parts: Sequence[Floats]) -> float:
    """The variance within fifths, 0 where it is rounding; the trend in them errs on the wide side."""
    values = np.concatenate(parts)
    variance = sum(float(((part - part.mean()) ** 2).sum()) for part in parts) / (len(values) - WINDOWS)
    return variance if variance > (ROUNDING * float(np.abs(values).max())) ** 2 else 0.0


def window_means(*columns_T: ArrayLike) -> list[tuple[range, tuple[Estimate, ...]]]:
    """The steps (counted from 1) and the mean of each column in each fifth of them, Student's t on the variance within fifths.

    Steps at which a column has no value are left out, so that all columns of a fifth rest on the same ones. Empty below LEAST_STEPS steps.
    """
    arrays = [np.asarray(column, dtype=float) for column in columns_T]
    known_T = np.flatnonzero(_known(*arrays))
    if len(known_T) < LEAST_STEPS:
        return []
    spots, df = np.array_split(known_T, WINDOWS), len(known_T) - WINDOWS
    variances = [_within([array[spot] for spot in spots]) for array in arrays]
    return [(range(int(spot[0]) + 1, int(spot[-1]) + 2),
             tuple(_student(float(array[spot].mean()), variance / len(spot), df, len(spot), "no variation: no interval", "Student t within fifths")
                   for array, variance in zip(arrays, variances, strict=True))) for spot in spots]


def change_in_training(values_T: ArrayLike) -> Estimate | None:
    """Mean of the last fifth of the steps minus that of the first (Welch's t). None below LEAST_STEPS steps."""
    (values,) = _clean(values_T)
    if len(values) < LEAST_STEPS:
        return None
    parts = np.array_split(values, WINDOWS)
    first, last = parts[0], parts[-1]
    terms = [float(part.var(ddof=1)) / len(part) for part in (first, last)]
    difference, variance = float(last.mean() - first.mean()), sum(terms)
    if variance <= (ROUNDING * float(np.abs(values).max())) ** 2:
        return Estimate(value=difference, ci=None, n=len(values), n_clusters=len(values), flag="no variation: no interval")
    df = variance**2 / sum(term**2 / (len(part) - 1) for term, part in zip(terms, (first, last), strict=True))
    half = float(t_quantile(df, LEVEL)) * math.sqrt(variance)
    ci = ConfidenceInterval(low=difference - half, high=difference + half, level=LEVEL, method="Welch's t")
    return Estimate(value=difference, ci=ci, n=len(values), n_clusters=len(values), df=df)
