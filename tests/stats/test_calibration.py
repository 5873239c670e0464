"""Calibration measures against scikit-learn and hand computation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from auditor.errors import InputError
from auditor.stats import adaptive_ece, auroc, brier, confident_and_wrong, ece_interval, ece_noise, overconfidence

RNG = np.random.default_rng(0)
CONFIDENCE = np.round(RNG.random(200), 1)  # with ties
CORRECT = (RNG.random(200) < CONFIDENCE).astype(float)


def once(n):
    return np.ones((1, n))


def test_brier_and_auroc_equal_sklearn():
    assert brier((CONFIDENCE, CORRECT), once(200))[0] == pytest.approx(brier_score_loss(CORRECT, CONFIDENCE))
    assert auroc((CONFIDENCE, CORRECT), once(200))[0] == pytest.approx(roc_auc_score(CORRECT, CONFIDENCE))
    assert np.isnan(auroc((CONFIDENCE, np.ones(200)), once(200))[0])


def test_ece_by_hand():
    confidence, correct = np.array([0.1, 0.2, 0.7, 0.9]), np.array([0.0, 1.0, 1.0, 0.0])
    assert adaptive_ece(2)((confidence, correct), once(4))[0] == pytest.approx(0.5 * abs(0.15 - 0.5) + 0.5 * abs(0.8 - 0.5))
    assert adaptive_ece(1)((confidence, correct), once(4))[0] == pytest.approx(abs(0.475 - 0.5))
    assert adaptive_ece(10)((np.full(6, 0.7), np.array([1, 1, 1, 1, 0, 0.0])), once(6))[0] == pytest.approx(0.7 - 4 / 6)  # ties share a bin
    with pytest.raises(InputError, match="bins=0"):
        adaptive_ece(0)


def test_equal_mass_bins_match_a_sort_and_split():
    confidence, correct = RNG.random(100), (RNG.random(100) < 0.5).astype(float)
    order = np.argsort(confidence)
    expected = np.mean([abs((confidence - correct)[part].mean()) for part in np.split(order, 5)])
    assert adaptive_ece(5)((confidence, correct), once(100))[0] == pytest.approx(expected)


def test_overconfidence_and_confident_errors():
    confidence, correct = np.array([0.95, 0.9, 0.5, 0.99]), np.array([1.0, 0.0, 0.0, 0.0])
    assert overconfidence((confidence, correct), once(4))[0] == pytest.approx(confidence.mean() - 0.25)
    assert confident_and_wrong(0.9)((confidence, correct), once(4))[0] == pytest.approx(0.5)


def test_ece_interval_by_hand():
    """Two bins of 50 answers, .2 and .1 too sure: .15, its upper end t(99) on the error of the mean of confidence − correct."""
    confidence, correct = np.repeat([0.7, 0.9], 50), np.r_[np.repeat([1.0, 0.0], 25), np.repeat([1.0, 0.0], [40, 10])]
    found = ece_interval(confidence, correct, bins=2)
    assert found.value == pytest.approx(0.15) == adaptive_ece(2)((confidence, correct), once(100))[0]
    error = ((0.25 * 50 + 0.16 * 50 + 50 * (0.2 - 0.15) ** 2 + 50 * (0.1 - 0.15) ** 2) / 99 / 100) ** 0.5
    assert found.ci.high == pytest.approx(0.15 + 1.9842 * error, abs=1e-4)
    assert 0.03 < found.ci.low < 0.15 - 1.5 * error


def test_ece_interval_of_noise_reaches_down_to_0_and_holds_its_value():
    rng = np.random.default_rng(0)
    confidence = rng.random(80)
    found = ece_interval(confidence, (rng.random(80) < confidence).astype(float))
    assert found.ci.low == 0 < found.value < found.ci.high


def test_ece_interval_without_variation_or_rows():
    assert ece_interval([], []) is None
    assert ece_interval([1.0, 1.0], [1.0, 1.0]).ci is None
    balanced = ece_interval([0.5] * 20, [1.0, 0.0] * 10)  # a gap of 0 is no certainty
    assert balanced.value == balanced.ci.low == 0 < 0.15 < balanced.ci.high
    assert ece_interval([0.5, 0.7], [1.0, 0.0], ["a", "a"]).ci is None


@pytest.mark.parametrize("fn", [brier, auroc, overconfidence, confident_and_wrong(), adaptive_ece()])
def test_weights_are_repetitions(fn):
    weights = RNG.integers(0, 4, (3, 200))
    expected = [fn((np.repeat(CONFIDENCE, w), np.repeat(CORRECT, w)), once(w.sum()))[0] for w in weights]
    assert fn((CONFIDENCE, CORRECT), weights.astype(float)) == pytest.approx(np.array(expected))


def test_noise_of_the_ece():
    assert ece_noise([]) is None
    few, many = ece_noise(RNG.random(100), seed=1), ece_noise(RNG.random(2500), seed=1)
    assert few / many == pytest.approx(5, rel=0.25)  # shrinks as 1/√n
    assert ece_noise(RNG.random(10), seed=2, draws=5) > 0
