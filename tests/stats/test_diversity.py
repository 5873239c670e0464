"""Diversity measures by hand and in their limits."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest

from auditor.errors import InputError
from auditor.stats import (
    compression_ratio,
    distinct_answers,
    distinct_n,
    entropy,
    mean_pairwise_cosine,
    normalise_answer,
    repeated_share,
    self_bleu,
    vendi_score,
)

RNG = np.random.default_rng(0)


def unit(n, d):
    rows = RNG.normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_distinct_n_by_hand():
    texts = ["a b a", "b a"]  # 2-grams: ab ba | ba
    expected = 5 * (1 - (4 / 5) ** 3)
    assert distinct_n(texts, 2, vocabulary=5) == pytest.approx(2 / expected)
    assert distinct_n(texts, 2, vocabulary=10**9) == pytest.approx(2 / 3, rel=1e-6)
    assert distinct_n(["a"], 2) is None
    with pytest.raises(InputError, match="n=0"):
        distinct_n(texts, 0)


def test_distinct_n_does_not_fall_with_length_for_uniform_draws():
    short, long = (" ".join(f"w{i}" for i in RNG.integers(0, 500, size)) for size in (200, 5000))
    assert distinct_n([short], 1, vocabulary=500) == pytest.approx(1, abs=0.05)
    assert distinct_n([long], 1, vocabulary=500) == pytest.approx(1, abs=0.05)


def test_self_bleu_by_hand():
    assert self_bleu(["a b c d", "a b c e"], n=2) == pytest.approx(math.sqrt(3 / 4 * 2 / 3))
    assert self_bleu(["the cat sat on it"] * 3) == pytest.approx(1)
    assert self_bleu(["a b", "c d"], n=1) == pytest.approx(0.1 / 2)  # smoothed
    # the second text is shorter than its reference by half: brevity penalty e^(1 − 2)
    assert self_bleu(["a b c d", "a b"], n=1) == pytest.approx((2 / 4 + math.exp(-1)) / 2)
    assert self_bleu(["one", "  "]) is None


def test_self_bleu_uses_the_other_texts_only():
    found = self_bleu(["x x x", "x y z"], n=1)
    assert found == pytest.approx((1 / 3 + 1 / 3) / 2)  # x counts once in the other text, although thrice in its own


def test_compression_ratio():
    texts = ["the same sentence again"] * 50
    data = "\n".join(texts).encode()
    assert compression_ratio(texts) == len(data) / len(gzip.compress(data, mtime=0)) > 10
    varied = ["".join(chr(c) for c in RNG.integers(97, 123, 24)) for _ in range(50)]
    assert compression_ratio(varied) < 2.5
    assert compression_ratio([]) is None


@pytest.mark.parametrize("dimensions", [4, 12])
def test_vendi_limits(dimensions):
    assert vendi_score(np.eye(dimensions)) == pytest.approx(dimensions)
    assert vendi_score(np.tile(unit(1, dimensions), (9, 1))) == pytest.approx(1)
    two = np.repeat(np.eye(dimensions)[:2], 5, axis=0)
    assert vendi_score(two) == pytest.approx(2)
    assert vendi_score(np.eye(dimensions)[:2], [3, 1]) == pytest.approx(math.exp(entropy("aaab")))
    assert vendi_score(np.empty((0, dimensions))) is None


def test_vendi_is_the_same_from_either_kernel():
    rows = unit(20, 5)
    values = np.linalg.eigvalsh(rows @ rows.T / 20)
    values = values[values > 1e-12]
    assert vendi_score(rows) == pytest.approx(np.exp(-(values * np.log(values)).sum()))


def test_mean_pairwise_cosine_by_loops_and_weights():
    rows, weights = unit(8, 5), np.array([1, 0, 2, 1, 3, 1, 0, 1])
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    assert mean_pairwise_cosine(rows) == pytest.approx(np.mean([rows[i] @ rows[j] for i, j in pairs]))
    weighted = sum(weights[i] * weights[j] * (rows[i] @ rows[j]) for i, j in pairs) / sum(weights[i] * weights[j] for i, j in pairs)
    assert mean_pairwise_cosine(rows, weights) == pytest.approx(weighted)
    assert mean_pairwise_cosine(rows[:1]) is None
    with pytest.raises(InputError, match="length 1"):
        mean_pairwise_cosine(2 * rows)


def test_entropy():
    assert entropy(["a", "b", "c", "d"]) == pytest.approx(math.log(4))
    assert entropy("aaaa") == 0
    assert entropy("aab", corrected=True) == pytest.approx(entropy("aab") + 1 / 6)
    assert entropy([]) is None


def test_answers_are_normalised():
    assert normalise_answer("  The Eiffel-Tower! ") == "eiffel tower"
    assert distinct_answers(["Paris.", "the PARIS", "paris", "Rome", "ＲＯＭＥ"]) == 2


def test_repetition():
    assert repeated_share("a b c d e") == 0
    assert repeated_share("go on go on go on go on", n=2) == pytest.approx(1 - 2 / 7)
    assert repeated_share("a b c") is None
