"""Measures of collapse beside those of a set of texts: loops, short answers, matched lengths, likeness between prompts.

Shapes: N rows (prompts), R resamples, G clusters.

References
[1] Hoeffding (1948), A class of statistics with asymptotically normal distribution. Ann. Math. Statist. 19. (means over pairs)
[2] Efron & Stein (1981), The jackknife estimate of variance. Ann. Statist. 9.
[3] Pasarkar & Dieng (2024), Cousins of the Vendi score. AISTATS. (the score of order 2: 1 / mean of the squared kernel)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from auditor.schema import ConfidenceInterval
from auditor.stats.bootstrap import Statistic, jackknife_statistics
from auditor.stats.diversity import normalise_answer
from auditor.stats.intervals import Estimate, Floats, cluster_codes

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
CLAUSE_END = re.compile(r"[.,;:!?()\n]|\s[-–—]\s|\b(?:and|or|but|because|which|who|that|so|with|for|from|in|on|of|to|is|was)\b", re.I)
LOOP_WORDS = 12
Item = TypeVar("Item")


def words(text: str) -> list[str]:
    """The words of a text, casefolded; digits and punctuation are left out, so that a numbered list of one item is a repetition."""
    return WORD.findall(text.casefold())


def loops(text: str, span: int = LOOP_WORDS) -> bool:
    """Whether a phrase follows itself back to back, the copies together ``span`` words or longer (our definition)."""
    tokens = words(text)
    for period in range(1, len(tokens) // 2 + 1):
        run = 0
        for i in range(period, len(tokens)):
            run = run + 1 if tokens[i] == tokens[i - period] else 0
            if run >= period and run + period >= span:
                return True
    return False


def answer_key(text: str, limit: int = 3) -> str:
    """What a short answer names: the normalised words before its first clause ends, at most ``limit``; "" if none."""
    start = re.sub(r"^[\W_]+", "", text)
    end = CLAUSE_END.search(start, 1)
    return " ".join(normalise_answer(start[: end.start()] if end else start).split()[:limit])


def match_lengths(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both sets cut so that they have the same lengths in words: longest with longest, and so on, each to the shorter of the two.

    Each set keeps its order. Diversity grows with length, so sets of unequal length do not compare.
    Raises ValueError unless both hold equally many texts.
    """
    if len(first) != len(second):
        raise ValueError(f"sets of {len(first)} and {len(second)} texts: pass equally many")
    cut_first, cut_second = list(first), list(second)
    for i, j in zip(_longest_first(first), _longest_first(second), strict=True):
        keep = min(len(first[i].split()), len(second[j].split()))
        cut_first[i], cut_second[j] = (" ".join(text.split()[:keep]) for text in (first[i], second[j]))
    return cut_first, cut_second


def _longest_first(texts: Sequence[str]) -> list[int]:
    return sorted(range(len(texts)), key=lambda i: (-len(texts[i].split()), i))


def distinct_groups(embeddings_KD: ArrayLike, threshold: float) -> int:
    """Number of groups when texts whose cosine is at least ``threshold`` are joined (single linkage). Rows of unit length."""
    rows = np.asarray(embeddings_KD, dtype=float)
    alike = rows @ rows.T >= threshold
    label = np.arange(len(rows))
    for i in range(len(rows)):
        for j in np.flatnonzero(alike[i]):
            label[label == label[j]] = label[i]
    return len(set(label.tolist()))


def pair_mean(kernel_NN: ArrayLike, clusters: ArrayLike) -> Statistic:
    """A bootstrap statistic: the weighted mean of a symmetric kernel over pairs of rows in different clusters [1].

    The first column holds row numbers into ``kernel_NN`` and ``clusters`` (N,). Copies of a cluster in a resample make no pairs with
    each other, since a prompt is always like itself. NaN where no pair is left.
    """
    kernel, codes = np.asarray(kernel_NN, dtype=float), np.unique(np.asarray(clusters), return_inverse=True)[1]
    apart = (codes[:, None] != codes).astype(float)
    kept = kernel * apart

    def statistic(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
        rows = columns[0].astype(int)
        block = np.ix_(rows, rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(((weights_RN @ kept[block]) * weights_RN).sum(1) / ((weights_RN @ apart[block]) * weights_RN).sum(1))

    return statistic


def effective_number(cosines_NN: ArrayLike, clusters: ArrayLike) -> Statistic:
    """A bootstrap statistic: how many wholly different texts would be as alike, 1 / mean cos² over pairs of prompts.

    The Vendi score of order 2 [3] with the pairs of a text with itself left out, which makes it free of the number of prompts.
    """
    mean_square = pair_mean(np.asarray(cosines_NN, dtype=float) ** 2, clusters)

    def statistic(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 / mean_square(columns, weights_RN)

    return statistic


def jackknife_interval(items: Sequence[Item], measure: Callable[[list[Item]], float], clusters: ArrayLike,
                       level: float = 0.95) -> Estimate | None:
    """``measure`` of a set of items (texts, or pairs of texts) with a delete-a-cluster jackknife interval [2].

    Not a bootstrap, whose copies of a text would lower the diversity of the set; its variance errs on the large side [2]. None
    when there is no item or the measure is not finite; ``ci`` None, with a flag, below two clusters or without variation.
    """
    if not len(items):
        return None
    codes_N = cluster_codes(clusters, len(items))
    g, value = int(codes_N.max()) + 1, float(measure(list(items)))
    if not np.isfinite(value):
        return None
    if g < 2:
        return Estimate(value=value, ci=None, n=len(items), n_clusters=g, flag="one cluster only: no interval")

    def statistic(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
        return np.array([measure([item for item, weight in zip(items, row, strict=True) if weight]) for row in weights_RN])

    left_G = jackknife_statistics((np.zeros(len(items)),), statistic, codes_N)
    if not np.isfinite(left_G).all() or np.ptp(left_G) == 0:
        flag = "no variation over clusters: no interval" if np.isfinite(left_G).all() else "undefined without one of the clusters: no interval"
        return Estimate(value=value, ci=None, n=len(items), n_clusters=g, flag=flag)
    half = float(stats.t.ppf(0.5 + level / 2, g - 1)) * float((g - 1) / g * ((left_G - left_G.mean()) ** 2).sum()) ** 0.5
    ci = ConfidenceInterval(low=value - half, high=value + half, level=level, method="delete-a-cluster jackknife t")
    return Estimate(value=value, ci=ci, n=len(items), n_clusters=g)
