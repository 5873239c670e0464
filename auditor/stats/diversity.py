"""How alike a set of texts is.

Shapes: K texts, D embedding dimensions.

References
[1] Liu, Sabour, Zheng, Ke, Zhu & Huang (2022), Rethinking and refining the distinct metric. ACL. (expectation-adjusted distinct-n)
[2] Zhu et al. (2018), Texygen. SIGIR. (self-BLEU: each text against the others as references)
[3] Papineni et al. (2002), BLEU. ACL.  [4] Chen & Cherry (2014), A systematic comparison of smoothing techniques for sentence-level
    BLEU. WMT. (method 1: a count of 0 becomes ε = 0.1)
[5] Shaib et al. (2024), Standardizing the measurement of text diversity. (compression ratio)
[6] Friedman & Dieng (2023), The Vendi score. TMLR.
"""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from auditor.stats.collapse import words

VOCABULARY = 30_000  # words a writer draws from, in [1]'s sense; the adjustment hardly depends on it for short texts
BLEU_ORDER = 4
SMOOTHING = 0.1


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All n-grams in order; empty where there are fewer than n tokens."""
    return [tuple(tokens[start:start + n]) for start in range(len(tokens) - n + 1)]


def distinct_n(texts: Sequence[str], n: int, vocabulary: int = VOCABULARY) -> float | None:
    """Distinct n-grams over their expected number had they been drawn at random [1, eq. 5]: about 1 for no repetition.

    ``N / (V·(1 − ((V − 1)/V)^C))`` with N distinct ones among C, and V = vocabulary^n. None where no text has n words.
    """
    found = [gram for text in texts for gram in ngrams(words(text), n)]
    if not found:
        return None
    possible = float(vocabulary) ** n
    expected = -possible * math.expm1(len(found) * math.log1p(-1 / possible))
    return len(set(found)) / expected


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU-4 of each text with all others as references [2, 3], smoothed by method 1 of [4]; 0 unlike, 1 equal.

    Orders are cut to the length of the shortest text. None with fewer than two texts that have words.
    """
    tokens = [found for found in (words(text) for text in texts) if found]
    if len(tokens) < 2:
        return None
    return float(np.mean([_bleu(text, tokens[:place] + tokens[place + 1:]) for place, text in enumerate(tokens)]))


def _bleu(text: list[str], references: Sequence[list[str]]) -> float:
    order = min(BLEU_ORDER, len(text))
    logs = []
    for n in range(1, order + 1):
        counts = Counter(ngrams(text, n))
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= Counter(ngrams(reference, n))
        matched = sum(min(count, most[gram]) for gram, count in counts.items())
        logs.append(math.log((matched or SMOOTHING) / sum(counts.values())))
    closest = min((abs(len(reference) - len(text)), len(reference)) for reference in references)[1]
    brevity = min(0.0, 1 - closest / len(text))
    return math.exp(brevity + sum(logs) / order)


def compression_ratio(texts: Sequence[str]) -> float | None:
    """Size of the joined texts over their gzip size [5]: the larger, the more they repeat. None where they are empty."""
    raw = "\n".join(texts).encode("utf-8", "surrogatepass")
    if not raw.strip():
        return None
    return len(raw) / len(gzip.compress(raw, compresslevel=9, mtime=0))


def vendi_score(rows_KD: ArrayLike) -> float:
    """Effective number of distinct rows, 1 to K [6, def. 3.1]: exp of the entropy of the eigenvalues of K⁻¹·XXᵀ, rows of unit length."""
    rows = np.asarray(rows_KD, dtype=float)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"rows of shape {rows.shape}: pass (K, D) with K ≥ 1")
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(gram / len(rows))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def mean_pairwise_cosine(rows_KD: ArrayLike) -> float:
    """Mean cosine over all pairs of rows of unit length. Raises ValueError with fewer than two rows."""
    rows = np.asarray(rows_KD, dtype=float)
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} row has no pairs: pass at least two")
    total = rows.sum(0)
    return float((total @ total - (rows * rows).sum()) / (len(rows) * (len(rows) - 1)))


def entropy(items: Sequence[Hashable]) -> float | None:
    """Shannon entropy (nats) of how often each item occurs; None for no items."""
    if not items:
        return None
    shares = np.array(list(Counter(items).values()), dtype=float) / len(items)
    return float(-(shares * np.log(shares)).sum()) + 0.0
