"""Loops, short answers, matched lengths and likeness between prompts: by hand, and the coverage of their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.stats import bootstrap_interval
from auditor.stats.collapse import (
    answer_key,
    distinct_groups,
    effective_number,
    jackknife_interval,
    loops,
    match_lengths,
    pair_mean,
)


@pytest.mark.parametrize(("text", "looping"), [
    ("we went home and slept " * 3, True),
    ("yes " * 12, True),
    ("yes " * 11, False),
    ("1. A walk in the park. 2. A walk in the park. 3. A walk in the park.", True),
    ("I know, I know. But the road was long and the night was dark and cold.", False),
    ("The cat saw the dog and the dog saw the cat and the cat ran.", False),
    ("", False),
])
def test_loops(text, looping):
    assert loops(text) is looping


@pytest.mark.parametrize(("text", "key"), [
    (" Luna. She is a cat", "luna"),
    (' "The Long Storm", a novel', "long storm"),
    (" a deep blue with white trim", "deep blue"),
    (":\n\n**Paris**", "paris"),
    (" 1984", "1984"),
    (" very large green garden chairs", "very large green"),
    ("...", ""),
    ("", ""),
])
def test_answer_key(text, key):
    assert answer_key(text) == key


def test_matched_sets_have_the_same_lengths_by_rank_and_keep_their_order():
    one, other = match_lengths(["a b c d e", "a", "a b c"], ["x", "x y", "x y z w"])
    assert one == ["a b c d", "a", "a b"]
    assert other == ["x", "x y", "x y z w"]
    with pytest.raises(ValueError, match="2 and 1 texts"):
        match_lengths(["a", "b"], ["c"])


def test_distinct_groups_join_through_a_middle_one():
    angles = np.radians([0, 30, 60, 180])
    rows = np.column_stack([np.cos(angles), np.sin(angles)])
    assert distinct_groups(rows, np.cos(np.radians(31))) == 2
    assert distinct_groups(rows, np.cos(np.radians(29))) == 4


def test_pair_mean_leaves_out_pairs_within_a_cluster():
    kernel = np.array([[1, 0.9, 0.2], [0.9, 1, 0.4], [0.2, 0.4, 1]])
    rows = (np.arange(3.0),)
    assert pair_mean(kernel, ["a", "b", "c"])(rows, np.ones((1, 3)))[0] == pytest.approx(0.5)
    assert pair_mean(kernel, ["a", "a", "c"])(rows, np.ones((1, 3)))[0] == pytest.approx(0.3)
    # row 0 twice: its copies make no pair with each other
    assert pair_mean(kernel, ["a", "b", "c"])(rows, np.array([[2.0, 1.0, 0.0]]))[0] == pytest.approx(0.9)
    assert np.isnan(pair_mean(kernel, ["a", "b", "c"])(rows, np.array([[3.0, 0.0, 0.0]]))[0])


def test_effective_number_counts_directions():
    rows = np.repeat(np.eye(4), 500, axis=0)
    clusters = np.arange(len(rows))
    found = effective_number(rows @ rows.T, clusters)((clusters.astype(float),), np.ones((1, len(rows))))[0]
    assert found == pytest.approx(4, rel=0.01)


def test_jackknife_of_a_mean_is_the_student_interval():
    values = [3.0, 5.0, 4.0, 8.0, 6.0]
    found = jackknife_interval(values, lambda kept: float(np.mean(kept)), np.arange(5))
    assert found is not None
    assert found.ci is not None
    half = 2.7764451 * np.std(values, ddof=1) / 5**0.5
    assert (found.ci.low, found.ci.high) == pytest.approx((5.2 - half, 5.2 + half))


def test_jackknife_without_variation_or_with_one_cluster_has_no_interval():
    same = jackknife_interval(["x"] * 4, lambda kept: 1.0, [1, 2, 3, 4])
    assert same is not None
    assert same.ci is None
    assert same.flag.startswith("no variation")
    lone = jackknife_interval(["x", "y"], lambda kept: float(len(set(kept))), [1, 1])
    assert lone is not None
    assert lone.flag.startswith("one cluster")
    assert jackknife_interval([], lambda kept: 1.0, []) is None


@pytest.mark.simulation
def test_pair_mean_interval_covers():
    """Rows share a direction of random strength, two in a cluster; the population mean cosine is known from a large sample."""
    rng = np.random.default_rng(7)

    def draw(clusters: int) -> np.ndarray:
        strength = np.repeat(rng.uniform(0, 1.5, clusters), 2)
        rows = rng.normal(size=(2 * clusters, 12))
        rows[:, 0] += 2 * strength
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    large = draw(200_000)
    truth = float(np.linalg.norm(large.mean(0)) ** 2)
    covered = []
    for _ in range(200):
        rows, ids = draw(24), np.repeat(np.arange(24), 2)
        found = bootstrap_interval((np.arange(48.0),), pair_mean(rows @ rows.T, ids), ids)
        assert found is not None
        assert found.ci is not None
        covered.append(found.ci.low <= truth <= found.ci.high)
    assert 0.91 <= np.mean(covered) <= 0.985


@pytest.mark.simulation
def test_jackknife_interval_of_a_change_in_distinct_words_covers():
    """Words drawn from two vocabularies; the true difference at this size is the mean over many draws."""
    rng = np.random.default_rng(11)

    def draw() -> list[tuple[frozenset[int], frozenset[int]]]:
        """The distinct words of 40 pairs of texts of 10 words."""
        one, other = rng.integers(0, 400, (40, 10)).tolist(), rng.integers(0, 250, (40, 10)).tolist()
        return [(frozenset(first), frozenset(second)) for first, second in zip(one, other, strict=True)]

    def change(items: list[tuple[frozenset[int], frozenset[int]]]) -> float:
        one, other = (len(frozenset().union(*side)) for side in zip(*items, strict=True))
        return (one - other) / (10 * len(items))

    truth = float(np.mean([change(draw()) for _ in range(500)]))
    covered = []
    for _ in range(150):
        found = jackknife_interval(draw(), change, np.arange(40))
        assert found is not None
        assert found.ci is not None
        covered.append(found.ci.low <= truth <= found.ci.high)
    assert np.mean(covered) >= 0.95  # conservative by nature: the jackknife variance is biased upwards [Efron & Stein]
