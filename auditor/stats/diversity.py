"""Diversity of a set of texts, without a reference. Every function says when it returns None.

Shapes: N texts, D embedding dimensions. Tokens are lower-cased words and single punctuation marks.

References
[1] Liu et al. (2022), Rethinking and refining the distinct metric. ACL (short papers). arXiv 2202.13587.
[2] Zhu et al. (2018), Texygen: a benchmarking platform for text generation models. SIGIR. (self-BLEU)
[3] Papineni et al. (2002), BLEU: a method for automatic evaluation of machine translation. ACL.
[4] Chen & Cherry (2014), A systematic comparison of smoothing techniques for sentence-level BLEU. WMT. (method 1)
[5] Shaib et al. (2024), Standardizing the measurement of text diversity. arXiv 2403.00553. (compression ratio)
[6] Friedman & Dieng (2023), The Vendi score: a diversity evaluation metric for machine learning. TMLR.
[7] Miller (1955), Note on the bias of information estimates. In: Information theory in psychology.
[8] Welleck et al. (2020), Neural text generation with unlikelihood training. ICLR. (repeated n-grams)
"""

from __future__ import annotations

import gzip
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from auditor.errors import InputError

TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
ARTICLES = frozenset({"a", "an", "the"})
VOCABULARY = 30_000
SMOOTHING = 0.1  # added to an n-gram precision of 0 [4, method 1]
Gram = tuple[str, ...]


def tokenize(text: str) -> list[str]:
    """Lower-cased words (with inner apostrophes) and punctuation marks."""
    return TOKEN.findall(text.lower())


def ngrams(tokens: Sequence[str], n: int) -> list[Gram]:
    """All n-grams in order. Raises InputError below n = 1."""
    if n < 1:
        raise InputError(f"n={n}: an n-gram has at least one token")
    return [tuple(tokens[i:i + n]) for i in range(len(tokens) - n + 1)]


def distinct_n(texts: Iterable[str], n: int = 2, vocabulary: int = VOCABULARY) -> float | None:
    """Expectation-adjusted distinct-n [1, eq. 2]: N / (V·(1 − ((V − 1)/V)^C)), N distinct of C n-grams in all texts, V = ``vocabulary``.

    1 means as many distinct ones as C uniform draws from V would give; for V → ∞ it is N/C. Unlike N/C it does not fall with length
    by itself; V must be the same wherever values are compared. None when no text has n tokens.
    """
    grams = [gram for text in texts for gram in ngrams(tokenize(text), n)]
    if not grams:
        return None
    expected = -vocabulary * math.expm1(len(grams) * math.log1p(-1 / vocabulary))
    return len(set(grams)) / expected


def repeated_share(text: str, n: int = 4) -> float | None:
    """Share of a text's n-grams that occurred earlier in it, 1 − distinct/all [8]. None when it has fewer than n tokens."""
    grams = ngrams(tokenize(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else None


def self_bleu(texts: Sequence[str], n: int = 4) -> float | None:
    """Mean BLEU-n [3] of each text against all the others [2], smoothed by method 1 of [4] (ε = 0.1); 1 when all are the same.

    Orders longer than a text are left out of its geometric mean. None with fewer than two texts that have a token.
    """
    tokens = [found for found in map(tokenize, texts) if found]
    if len(tokens) < 2:
        return None
    counts = [[Counter(ngrams(found, order)) for order in range(1, n + 1)] for found in tokens]
    best = [_two_highest(text[order] for text in counts) for order in range(n)]
    lengths = np.array([len(found) for found in tokens])
    return float(np.mean([_bleu(counts[i], best, _closest(lengths, i), int(lengths[i])) for i in range(len(tokens))]))


def _two_highest(counters: Iterable[Counter[Gram]]) -> dict[Gram, tuple[int, int]]:
    """The two highest counts of each n-gram over the texts: without one text, the highest is one of them."""
    found: dict[Gram, tuple[int, int]] = {}
    for counter in counters:
        for gram, count in counter.items():
            first, second = found.get(gram, (0, 0))
            found[gram] = (count, first) if count > first else (first, max(second, count))
    return found


def _closest(lengths: np.ndarray, i: int) -> int:
    """Length of the other text nearest in length, the shorter of two equally near [3]."""
    others = np.delete(lengths, i)
    return int(min(others, key=lambda length: (abs(int(length) - int(lengths[i])), int(length))))


def _bleu(counts: list[Counter[Gram]], best: list[dict[Gram, tuple[int, int]]], reference: int, length: int) -> float:
    logs = []
    for counter, highest in zip(counts, best, strict=True):
        total = counter.total()
        if total:
            matched = sum(min(count, _without(highest[gram], count)) for gram, count in counter.items())
            logs.append(math.log((matched or SMOOTHING) / total))
    return math.exp(min(0.0, 1 - reference / length) + sum(logs) / len(logs))


def _without(highest: tuple[int, int], count: int) -> int:
    return highest[1] if count == highest[0] else highest[0]


def compression_ratio(texts: Iterable[str]) -> float | None:
    """Bytes of all texts, a line each, over their gzip size [5]: higher is more redundant. Grows with the amount of text, so compare
    equal amounts. None when there is no text."""
    data = "\n".join(texts).encode("utf-8")
    return len(data) / len(gzip.compress(data, mtime=0)) if data else None


def vendi_score(embeddings: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Effective number of different texts, 1..N: exp of the entropy of the eigenvalues of K/N, K = X·Xᵀ of unit rows X (N, D) [6].

    ``weights`` (N,) count rows several times. None when there is no row. Raises InputError for rows that are not of unit length.
    """
    rows_ND = _unit_rows(embeddings)
    if not len(rows_ND):
        return None
    share_N = np.full(len(rows_ND), 1 / len(rows_ND)) if weights is None else np.asarray(weights, float) / np.sum(weights)
    scaled = rows_ND * np.sqrt(share_N)[:, None]
    kernel = scaled @ scaled.T if len(scaled) <= scaled.shape[1] else scaled.T @ scaled  # the same non-zero eigenvalues
    values = np.linalg.eigvalsh(kernel)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def mean_pairwise_cosine(embeddings: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Mean cosine over pairs of different rows of unit-length ``embeddings`` (N, D), in O(N·D): (‖Σwx‖² − Σw²)/((Σw)² − Σw²).

    ``weights`` (N,) count rows several times, copies never paired with each other. None with fewer than two rows.
    """
    rows_ND = _unit_rows(embeddings)
    weight_N = np.ones(len(rows_ND)) if weights is None else np.asarray(weights, dtype=float)
    own = float((weight_N**2).sum())
    pairs = float(weight_N.sum()) ** 2 - own
    if pairs <= 0:
        return None
    return (float(((weight_N @ rows_ND) ** 2).sum()) - own) / pairs


def _unit_rows(embeddings: ArrayLike) -> np.ndarray:
    rows_ND = np.asarray(embeddings, dtype=float)
    lengths = np.linalg.norm(rows_ND, axis=1) if rows_ND.ndim == 2 else np.zeros(1)
    if rows_ND.size and not np.allclose(lengths, 1, atol=1e-3):
        raise InputError(f"embeddings of shape {rows_ND.shape} with a row of length {lengths[np.abs(lengths - 1).argmax()]:.4g}: pass rows of length 1")
    return rows_ND


def entropy(answers: Iterable[Hashable], corrected: bool = False) -> float | None:
    """Shannon entropy (nats) of the answers' frequencies; ``corrected`` adds Miller's (distinct − 1)/(2N) [7]. None without an answer."""
    counts = np.array(list(Counter(answers).values()), dtype=float)
    if not len(counts):
        return None
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum() + (len(counts) - 1) / (2 * counts.sum()) * corrected)


def normalise_answer(text: str) -> str:
    """Unicode-folded (NFKC) lower-case words without punctuation and articles: "The Paris!" and "paris" are one answer."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(word for word in words if word not in ARTICLES)


def distinct_answers(texts: Iterable[str]) -> int:
    """Number of different answers after :func:`normalise_answer`; an empty one counts as an answer."""
    return len({normalise_answer(text) for text in texts})
