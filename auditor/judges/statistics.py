"""Agreement statistics as functions ``fn(columns, weights (R, N)) -> (R,)``, for the clustered bootstrap.

Labels are 1 (a), 0 (tie), −1 (b). Shapes: N items, J annotators, R resamples.

References
[1] Cohen (1960), A coefficient of agreement for nominal scales. Educational and Psychological Measurement 20.
[2] Krippendorff (2011), Computing Krippendorff's alpha-reliability. University of Pennsylvania. (gaps: units of any number of labels)
[3] Calderon, Reichart & Dror (2025), The alternative annotator test for LLM-as-a-judge. arXiv 2501.10970.
[4] Benjamini & Yekutieli (2001), The control of the false discovery rate in multiple testing under dependency. Annals of Statistics 29.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Columns = tuple[Floats, ...]
LABELS = (1.0, 0.0, -1.0)
LEVEL = 0.05


def cohen_kappa(columns: Columns, weights_RN: Floats) -> Floats:
    """κ = (p_o − p_e)/(1 − p_e) of two raters' labels, (R,) [1]. NaN where both always give the same one label."""
    one_N, other_N = columns
    total_R = weights_RN.sum(1)
    observed_R = weights_RN @ (one_N == other_N) / total_R
    expected_R = sum((weights_RN @ (one_N == label)) * (weights_RN @ (other_N == label)) for label in LABELS) / total_R**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected_R < 1, (observed_R - expected_R) / (1 - expected_R), np.nan)


def krippendorff_alpha(columns: Columns, weights_RN: Floats) -> Floats:
    """Nominal α = 1 − D_o/D_e, (R,) [2, section C], from one column a label with its number of votes, and each item's
    disagreement Σ_{c≠k} n_c·n_k/(m − 1) last. Items have any number m ≥ 2 of raters. NaN where only one label occurs."""
    votes, disagreement_N = np.stack(columns[:-1]), columns[-1]
    totals_RC = weights_RN @ votes.T
    n_R = totals_RC.sum(1)
    expected_R = (n_R**2 - (totals_RC**2).sum(1)) / (n_R - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected_R > 0, 1 - (weights_RN @ disagreement_N) / expected_R, np.nan)


def length_bias(columns: Columns, weights_RN: Floats) -> Floats:
    """Log-odds that the judge chooses the longer answer, given the human label, (R,); 0 is no bias.

    Columns: judge, human, longer (1 where a is longer, −1 where b is). The logistic regression logit P(chooses the longer) = β0 + β1·x,
    x = ±1 as people prefer the longer or the shorter, is saturated: β0 is the mean of the two groups' logits. Half a
    choice is added to each cell, so that no group diverges; a judge who is always right then has 0 where the groups are of one size.
    Human ties say nothing here; a judge's tie is half a choice. NaN where one of the groups is empty.
    """
    judge_N, human_N, longer_N = columns
    chosen_N = (1 + judge_N * longer_N) / 2
    logits = []
    for side in (1.0, -1.0):
        inside_N = human_N * longer_N == side
        n_R, k_R = weights_RN @ inside_N, weights_RN @ (inside_N * chosen_N)
        logits.append(np.where(n_R > 0, np.log((k_R + 0.5) / (n_R - k_R + 0.5)), np.nan))
    return (logits[0] + logits[1]) / 2


def advantage(columns: Columns, weights_RN: Floats) -> Floats:
    """Average advantage probability ρ, (R,) [3, section 3]: the mean over annotators of the share of items on which the judge
    is at least as close to the other annotators as the annotator is.

    Three columns an annotator: whether they labelled the item, whether the judge is at least as close to the others as
    they are, whether they are at least as close as the judge (both 0 where they did not label it).
    """
    shares = [_share(weights_RN @ judge_N, weights_RN @ seen_N) for seen_N, judge_N in zip(columns[::3], columns[1::3], strict=True)]
    return np.stack(shares).mean(0)


def winning_rate(epsilon: float) -> Callable[[Columns, Floats], Floats]:
    """Winning rate ω as a statistic of the columns of :func:`advantage` [3, section 3].

    ω is the share of annotators for whom a one-sided paired t-test, adjusted [4] at level 0.05, shows that the judge is closer to the
    others than the annotator is, less ``epsilon``: what a person costs more (0.2 for experts, 0.1 for crowd workers).
    """

    def omega(columns: Columns, weights_RN: Floats) -> Floats:
        p_JR = np.sort([_paired_p(columns[start:start + 3], weights_RN, epsilon) for start in range(0, len(columns), 3)], axis=0)
        rank_J = np.arange(1, len(p_JR) + 1)[:, None]
        passed_JR = p_JR <= LEVEL * rank_J / (len(p_JR) * (1 / rank_J).sum())
        return np.where(passed_JR, rank_J, 0).max(0) / len(p_JR)  # step up: the largest rank that passes carries all below it

    return omega


def _share(part_R: Floats, total_R: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return part_R / total_R


def _paired_p(annotator: Columns, weights_RN: Floats, epsilon: float) -> Floats:
    """p of the t-test of H0: mean(annotator − judge) ≥ ε, (R,) [3, eq. 3]; 1 where it cannot be made."""
    seen_N, judge_wins_N, annotator_wins_N = annotator
    difference_N, n_R = annotator_wins_N - judge_wins_N, weights_RN @ seen_N
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_R = weights_RN @ difference_N / n_R
        variance_R = np.maximum(weights_RN @ difference_N**2 - n_R * mean_R**2, 0.0) / (n_R - 1)
        t_R = (mean_R - epsilon) / np.sqrt(variance_R / n_R)
        return np.where(n_R > 1, np.nan_to_num(stats.t.cdf(t_R, n_R - 1), nan=1.0), 1.0)
