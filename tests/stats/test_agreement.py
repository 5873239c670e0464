"""Agreement measures against published examples, scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from auditor.errors import InputError
from auditor.stats import (
    agreement_half_credit,
    agreement_with_ties,
    agreement_without_ties,
    alt_test,
    bootstrap_interval,
    cohen_kappa,
    human_ceiling,
    krippendorff_alpha,
    pairwise_agreement,
)

GAP = np.nan
# The worked example of Krippendorff (2011): four observers, twelve units, seven gaps.
OBSERVERS = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
    [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
])
RNG = np.random.default_rng(0)


def once(n):
    return np.ones((1, n))


def test_conventions_for_ties_by_hand():
    judge, human = np.array([1, 0, 0.5, 1, 0.5]), np.array([1, 1, 0.5, 0.5, 0])
    assert agreement_with_ties((judge, human), once(5))[0] == pytest.approx(2 / 5)
    assert agreement_without_ties((judge, human), once(5))[0] == pytest.approx(1 / 2)
    assert agreement_half_credit((judge, human), once(5))[0] == pytest.approx((1 + 0 + 1 + 0.5 + 0.5) / 5)
    assert np.isnan(agreement_without_ties((np.array([0.5]), np.array([1.0])), once(1))[0])


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_published_example(level, published):
    assert krippendorff_alpha(level)(tuple(OBSERVERS), once(12))[0] == pytest.approx(published, abs=5e-4)


def test_alpha_by_pairs_of_ratings():
    """α from its definition: mean disagreement within items over mean disagreement of all pairable ratings."""
    ratings = RNG.integers(0, 4, (3, 25)).astype(float)
    ratings[RNG.random(ratings.shape) < 0.2] = GAP
    kept = [column[~np.isnan(column)] for column in ratings.T if (~np.isnan(column)).sum() >= 2]
    pooled = np.concatenate(kept)
    observed = sum(((unit[:, None] - unit) ** 2).sum() / (len(unit) - 1) for unit in kept) / len(pooled)
    expected = ((pooled[:, None] - pooled) ** 2).sum() / len(pooled) / (len(pooled) - 1)
    assert krippendorff_alpha("interval")(tuple(ratings), once(25))[0] == pytest.approx(1 - observed / expected)


def test_alpha_edges():
    with pytest.raises(InputError, match="unknown level 'ratio'"):
        krippendorff_alpha("ratio")
    for level in ("nominal", "ordinal", "interval"):
        assert np.isnan(krippendorff_alpha(level)((np.ones(4), np.ones(4)), once(4))[0])
        assert krippendorff_alpha(level)((np.arange(4.0), np.arange(4.0)), once(4))[0] == pytest.approx(1)


def test_kappa_equals_sklearn():
    one, other = RNG.integers(0, 3, (2, 60)).astype(float)
    other[:30] = one[:30]
    assert cohen_kappa((one, other), once(60))[0] == pytest.approx(cohen_kappa_score(one, other))
    assert np.isnan(cohen_kappa((np.ones(3), np.ones(3)), once(3))[0])


@pytest.mark.parametrize("fn", [agreement_with_ties, agreement_without_ties, agreement_half_credit, cohen_kappa, krippendorff_alpha(),
                                krippendorff_alpha("ordinal"), krippendorff_alpha("interval")])
def test_weights_are_repetitions(fn):
    one, other = RNG.choice([0.0, 0.5, 1.0], (2, 30))
    weights = RNG.integers(0, 4, 30)
    repeated = np.repeat(one, weights), np.repeat(other, weights)
    assert fn((one, other), weights[None].astype(float))[0] == pytest.approx(fn(repeated, once(weights.sum()))[0])


def test_alpha_has_a_bootstrap_interval_with_gaps():
    found = bootstrap_interval(tuple(OBSERVERS), krippendorff_alpha("ordinal"))
    assert found.ci.low < found.value < found.ci.high


def test_pairwise_agreement_and_human_ceiling():
    ratings = [[1, 1, 0.5, GAP], [1, 0, 1, 1], [1, 0, GAP, GAP]]
    assert pairwise_agreement(ratings) == pytest.approx([1, 1 / 3, 0, np.nan], nan_ok=True)
    assert pairwise_agreement(ratings, "half") == pytest.approx([1, 1 / 3, 0.5, np.nan], nan_ok=True)
    assert pairwise_agreement(ratings, "excluded") == pytest.approx([1, 1 / 3, np.nan, np.nan], nan_ok=True)
    ceiling = human_ceiling(ratings)
    assert (ceiling.value, ceiling.n) == (pytest.approx(4 / 9), 3)
    assert human_ceiling([[GAP, 1.0], [1.0, GAP]]) is None
    with pytest.raises(InputError, match="unknown convention"):
        pairwise_agreement(ratings, "never")


def annotators(skill, n=200, k=4):
    truth = RNG.integers(0, 2, n)
    return truth, np.where(RNG.random((k, n)) < skill, truth, 1 - truth).astype(float)


def test_alt_test_by_plain_loops():
    truth, humans = annotators(0.8, n=60, k=3)
    judge = np.where(RNG.random(60) < 0.8, truth, 1 - truth).astype(float)
    found = alt_test(judge, humans, epsilon=0.2)
    for j in range(3):
        difference, wins = [], []
        for i in range(60):
            others = [humans[k, i] for k in range(3) if k != j]
            by_judge, by_human = (sum(label == other for other in others) for label in (judge[i], humans[j, i]))
            wins.append(by_judge >= by_human)
            difference.append(int(by_human >= by_judge) - int(by_judge >= by_human))
        assert found.advantages[j] == pytest.approx(np.mean(wins))
        assert found.p_values[j] == pytest.approx(stats.ttest_1samp(difference, 0.2, alternative="less").pvalue)
    harmonic = 1 + 1 / 2 + 1 / 3
    assert min(found.p_adjusted) == pytest.approx(min(1, min(sorted(p * 3 * harmonic / (r + 1) for r, p in enumerate(sorted(found.p_values))))))
    assert found.winning_rate == np.mean([p <= 0.05 for p in found.p_adjusted])


def test_alt_test_passes_a_good_judge_and_fails_a_bad_one():
    truth, humans = annotators(0.75)
    good = alt_test(truth.astype(float), humans, epsilon=0.1)
    assert (good.winning_rate, good.passed) == (1.0, True)
    bad = alt_test(1.0 - truth, humans, epsilon=0.2)
    assert (bad.winning_rate, bad.passed) == (0.0, False)
    assert good.advantage > 0.8 > bad.advantage


def test_alt_test_gaps_clusters_and_limits():
    truth, humans = annotators(0.8, n=120)
    humans[0, 30:] = GAP
    assert alt_test(truth.astype(float), humans).n_items == (30, 120, 120, 120)
    humans[0, 29] = GAP
    humans[1, 20:] = GAP
    assert alt_test(truth.astype(float), humans) is None  # two annotators with 30 items are too few
    truth, humans = annotators(0.8, n=120)
    plain, clustered = (alt_test(np.tile(truth, 5).astype(float), np.tile(humans, 5), c) for c in (None, np.tile(np.arange(120), 5)))
    assert max(clustered.p_values) > max(plain.p_values)
    with pytest.raises(InputError, match="pass"):
        alt_test(truth, humans[:, :5])
