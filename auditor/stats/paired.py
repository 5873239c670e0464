"""Paired comparison of two models on the same samples.

Shapes: N pairs, G clusters, R random sign patterns.

References
[1] Good (2005), Permutation, parametric and bootstrap tests of hypotheses, ch. 3. (sign flips of paired differences)
[2] Phipson & Smyth (2010), Permutation p-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9.
[3] McNemar (1947), Note on the sampling error of the difference between correlated proportions. Psychometrika 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from auditor.errors import InputError
from auditor.schema import Comparison, ConfidenceInterval
from auditor.stats.bootstrap import EXACT_CLUSTERS, PLAN, Resampling, paired_interval
from auditor.stats.intervals import Floats, cluster_codes, cluster_sums, cluster_variance
from auditor.stats.power import minimum_detectable_effect

PERMUTATIONS = 10_000
CHUNK_CELLS = 2**17  # random bytes drawn at once: what fits into the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedResult:
    """Candidate − baseline. ``ci`` None, and ``flag`` says why, with a single cluster or without variation and bounds."""

    difference: float
    ci: ConfidenceInterval | None
    p_value: float
    n_pairs: int
    n_clusters: int
    minimum_detectable_effect: float | None
    flag: str = ""

    def comparison(self, metric: str, baseline: str, candidate: str) -> Comparison | None:
        """The stored form; None without an interval."""
        if self.ci is None:
            return None
        return Comparison(metric=metric, baseline=baseline, candidate=candidate, difference=self.difference, ci=self.ci,
                          p_value=self.p_value, n_pairs=self.n_pairs, minimum_detectable_effect=self.minimum_detectable_effect)


def paired_test(candidate: ArrayLike, baseline: ArrayLike, clusters: ArrayLike | None = None, *,
                bounds: tuple[float, float] | None = None, plan: Resampling = PLAN) -> PairedResult | None:
    """Mean difference of pairs (N,): clustered BCa interval, sign-flip p-value by cluster, minimum detectable effect (80 % power).

    ``bounds`` are those of the difference: for pairs that never differ they give the conservative interval of ``no_variation``. None when there
    is no pair. Raises InputError when the two sides have different lengths.
    """
    one_N, other_N = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    if one_N.shape != other_N.shape:
        raise InputError(f"{one_N.shape} candidate and {other_N.shape} baseline values: pass the same samples in the same order")
    difference_N = one_N - other_N
    estimate = paired_interval(difference_N, clusters, bounds, plan)
    if estimate is None:
        return None
    effect = None
    if estimate.n_clusters > 1:
        error = float(cluster_variance(*cluster_sums(difference_N, clusters))) ** 0.5
        effect = minimum_detectable_effect(error, plan.level, df=estimate.n_clusters - 1) if error > 0 else None
    return PairedResult(difference=estimate.value, ci=estimate.ci, p_value=sign_flip_p(difference_N, clusters, seed=plan.seed),
                        n_pairs=estimate.n, n_clusters=estimate.n_clusters, minimum_detectable_effect=effect, flag=estimate.flag)


def sign_flip_p(differences: ArrayLike, clusters: ArrayLike | None = None, *, seed: int = 0, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p of "differences are symmetric about 0", flipping the sign of whole clusters [1].

    All patterns up to 13 clusters that differ, else ``permutations`` random ones with the observed one added, so that p is never 0 [2].
    1.0 when no cluster differs.
    """
    difference_N = np.asarray(differences, dtype=float)
    sums_G = np.bincount(cluster_codes(clusters, len(difference_N)), weights=difference_N) if len(difference_N) else difference_N
    sums_G = sums_G[sums_G != 0]
    g = len(sums_G)
    if not g:
        return 1.0
    reached = abs(sums_G.sum()) * (1 - 1e-9)
    if g <= EXACT_CLUSTERS:
        patterns = 1.0 - 2.0 * ((np.arange(2**g)[:, None] >> np.arange(g)) & 1)
        return float((np.abs(patterns @ sums_G) >= reached).mean())
    sums_T256 = _sums_by_byte(sums_G)
    step = max(1, CHUNK_CELLS // len(sums_T256))
    rng, sizes = np.random.default_rng(seed), [min(step, permutations - start) for start in range(0, permutations, step)]
    extreme = sum(int((np.abs(_flipped(rng, size, sums_T256)) >= reached).sum()) for size in sizes)
    return (extreme + 1) / (permutations + 1)


def _sums_by_byte(sums_G: Floats) -> Floats:
    """For each eight clusters the signed sum under all 256 sign patterns, (T, 256): a random byte then draws eight signs at once."""
    padded_T8 = np.pad(sums_G, (0, -len(sums_G) % 8)).reshape(-1, 8)
    signs_256x8 = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return np.asarray(padded_T8 @ signs_256x8.T)


def _flipped(rng: np.random.Generator, size: int, sums_T256: Floats) -> Floats:
    """Sums under ``size`` random sign patterns, (size,)."""
    groups = len(sums_T256)
    cells = rng.integers(0, 256, size=(size, groups), dtype=np.uint8).astype(np.intp) + np.arange(groups) * 256
    return np.asarray(np.take(sums_T256.ravel(), cells).sum(1))


def mcnemar_exact(candidate: ArrayLike, baseline: ArrayLike) -> float:
    """Two-sided exact p of equal shares of ones among paired 0/1 values [3]: binomial test of the discordant pairs.

    1.0 without discordant pairs. Takes pairs as independent: with clusters use :func:`sign_flip_p`. Raises InputError for other values.
    """
    one_N, other_N = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    if one_N.shape != other_N.shape or not np.isin([one_N, other_N], (0.0, 1.0)).all():
        raise InputError("McNemar's test needs two equally long lists of 0 and 1: use paired_test for other values")
    gained, lost = int((one_N > other_N).sum()), int((one_N < other_N).sum())
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
