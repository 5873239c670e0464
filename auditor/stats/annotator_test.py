"""The alternative-annotator test: may a judge replace a human annotator?

Shapes: K annotators, N items. Gaps are NaN.

References
[1] Calderon, Reichart & Dror (2025), The alternative annotator test for LLM-as-a-judge: how to statistically justify replacing
    human annotators with LLMs. ACL; arXiv 2501.10970.
[2] Benjamini & Yekutieli (2001), The control of the false discovery rate in multiple testing under dependency. Annals of Statistics 29.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from auditor.errors import InputError
from auditor.stats.intervals import Floats, cluster_sums, cluster_variance, satterthwaite_df
from auditor.stats.multiplicity import benjamini_yekutieli

MIN_ANNOTATORS = 3
MIN_ITEMS = 30  # below, the t-test of one annotator is not made [1, section 3]


@dataclass(frozen=True, slots=True, kw_only=True)
class AltTest:
    """``winning_rate`` ω: share of annotators over whom the judge's advantage is significant; the judge passes at ω ≥ 0.5.

    ``advantage`` ρ: mean probability that the judge stands as near to the other annotators as the annotator left out does.
    """

    winning_rate: float
    advantage: float
    advantages: tuple[float, ...]
    p_values: tuple[float, ...]
    p_adjusted: tuple[float, ...]
    n_items: tuple[int, ...]
    epsilon: float

    @property
    def passed(self) -> bool:
        return self.winning_rate >= 0.5


def alt_test(judge: ArrayLike, annotators: ArrayLike, clusters: ArrayLike | None = None, *, epsilon: float = 0.2,
             level: float = 0.05) -> AltTest | None:
    """The test of [1] with agreement as the score, for a judge's labels (N,) and annotators' (K, N), NaN for a gap.

    For annotator j and each item that j, the judge and another annotator labelled: W_f = 1 when the judge agrees with at least as large a share of the
    others as j does, W_h = 1 when j does at least as well as the judge. H0: mean(W_f) ≤ mean(W_h) − ε is tested by a one-sided t-test of
    W_h − W_f − ε (cluster-robust where ``clusters`` are given); ω is the share rejected after Benjamini–Yekutieli [2] at ``level``.
    ε is what the judge's lower cost is worth: 0.2 against experts, 0.15 skilled, 0.1 crowd workers [1].

    None with fewer than three annotators of at least 30 such items. Raises InputError for shapes that do not match.
    """
    judge_N, humans_KN = np.asarray(judge, dtype=float), np.asarray(annotators, dtype=float)
    if humans_KN.ndim != 2 or humans_KN.shape[1:] != judge_N.shape:
        raise InputError(f"annotators has shape {humans_KN.shape}, judge {judge_N.shape}: pass (K, N) and (N,)")
    ids_N = np.arange(len(judge_N)) if clusters is None else np.asarray(clusters)
    results = [_left_out(judge_N, humans_KN, j, ids_N, epsilon) for j in range(len(humans_KN))]
    kept = [result for result in results if result is not None]
    if len(kept) < MIN_ANNOTATORS:
        return None
    advantages, p_values, sizes = (tuple(column) for column in zip(*kept, strict=True))
    adjusted = tuple(float(p) for p in benjamini_yekutieli(p_values) if p is not None)
    return AltTest(winning_rate=float(np.mean([p <= level for p in adjusted])), advantage=float(np.mean(advantages)), advantages=advantages,
                   p_values=p_values, p_adjusted=adjusted, n_items=sizes, epsilon=epsilon)


def _left_out(judge_N: Floats, humans_KN: Floats, j: int, ids_N: np.ndarray, epsilon: float) -> tuple[float, float, int] | None:
    """(advantage ρ_j, p, items) of the judge against annotator j; None below MIN_ITEMS items."""
    others = np.delete(humans_KN, j, axis=0)
    usable_N = ~np.isnan(judge_N) & ~np.isnan(humans_KN[j]) & (~np.isnan(others)).any(0)
    if usable_N.sum() < MIN_ITEMS:
        return None
    others, seen = others[:, usable_N], (~np.isnan(others[:, usable_N])).sum(0)
    by_judge = (others == judge_N[usable_N]).sum(0) / seen
    by_human = (others == humans_KN[j, usable_N]).sum(0) / seen
    judge_wins, human_wins = (by_judge >= by_human).astype(float), (by_human >= by_judge).astype(float)
    p = _less_p(human_wins - judge_wins - epsilon, ids_N[usable_N])
    return float(judge_wins.mean()), p, int(usable_N.sum())


def _less_p(values_N: Floats, ids_N: np.ndarray) -> float:
    """One-sided p of "the mean is at least 0", cluster-robust t; without variation the sign decides."""
    sums_G, sizes_G = cluster_sums(values_N, ids_N)
    mean = float(values_N.mean())
    error = float(cluster_variance(sums_G, sizes_G)) ** 0.5 if len(sizes_G) > 1 else 0.0
    if error <= 1e-12:
        return float(mean >= 0) if len(sizes_G) > 1 else 1.0
    return float(stats.t.cdf(mean / error, max(satterthwaite_df(sizes_G), 1.0)))
