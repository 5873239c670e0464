"""Correction for a classifier's error: by hand, in limits, and prediction-powered inference by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.errors import InputError
from auditor.stats import Confusion, mean_interval, ppi_mean, proportion_interval, rogan_gladen

GOOD = Confusion(true_positive=90, false_negative=10, true_negative=95, false_positive=5)
PERFECT = Confusion(true_positive=10**7, false_negative=0, true_negative=10**7, false_positive=0)


def test_rogan_gladen_by_hand():
    found = rogan_gladen([1.0] * 39 + [0.0] * 61, GOOD)
    assert found.value == pytest.approx((0.39 + 0.95 - 1) / (0.9 + 0.95 - 1))
    assert found.ci.low < 0.4 < found.ci.high
    assert "Rogan-Gladen" in found.ci.method


def test_a_perfect_classifier_changes_little():
    flagged = [1.0] * 30 + [0.0] * 70
    found, plain = rogan_gladen(flagged, PERFECT), proportion_interval(flagged)
    assert found.value == pytest.approx(plain.value)
    assert (found.ci.low, found.ci.high) == pytest.approx((plain.ci.low, plain.ci.high), abs=0.01)


def test_uncertain_classifiers_widen_and_clusters_widen():
    flagged, clusters = np.repeat([1.0, 0.0, 0.0], 40), np.repeat(np.arange(24), 5)
    few = Confusion(true_positive=18, false_negative=2, true_negative=19, false_positive=1)
    widths = [found.ci.high - found.ci.low for found in (rogan_gladen(flagged, PERFECT), rogan_gladen(flagged, GOOD), rogan_gladen(flagged, few),
                                                         rogan_gladen(flagged, few, clusters))]
    assert widths == sorted(widths)
    assert widths[3] > 1.2 * widths[2]


def test_rogan_gladen_edges():
    assert rogan_gladen([], GOOD) is None
    useless = Confusion(true_positive=50, false_negative=50, true_negative=50, false_positive=50)
    assert rogan_gladen([1.0, 0.0], useless) is None
    clipped = rogan_gladen([0.0] * 100, GOOD)  # fewer flags than false alarms alone would give
    assert (clipped.value, clipped.ci.low) == (0, 0)
    assert clipped.ci.high > 0
    assert rogan_gladen([1.0, 0.0], GOOD, ["a", "a"]).ci is None
    with pytest.raises(InputError, match="confusion counts"):
        Confusion(true_positive=0, false_negative=0, true_negative=5, false_positive=5)


def test_ppi_by_hand():
    found = ppi_mean([1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0], tuned=False)
    assert found.value == pytest.approx(0.4 + (0.75 - 0.75))
    assert found.n == 9


def test_ppi_gains_from_good_predictions_and_ignores_bad_ones():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2100)
    good, noise = truth + 0.3 * rng.normal(size=2100), rng.normal(size=2100)
    classical = mean_interval(truth[:100])
    width = classical.ci.high - classical.ci.low
    helped, ignored = (ppi_mean(truth[:100], seen[:100], seen[100:]) for seen in (good, noise))
    assert helped.ci.high - helped.ci.low < 0.55 * width
    assert ignored.ci.high - ignored.ci.low == pytest.approx(width, rel=0.1)
    constant = ppi_mean(truth[:100], np.ones(100), np.ones(50))
    assert constant.value == pytest.approx(truth[:100].mean())


@pytest.mark.simulation
def test_ppi_coverage():
    """A biased predictor of a binary label, 100 labelled and 600 other rows: the mean is covered, though the predictions' mean is far off."""
    rng, covered = np.random.default_rng(1), []
    for _ in range(1500):
        truth = rng.random(700) < 0.3
        seen = np.where(rng.random(700) < 0.8, truth, True).astype(float)
        found = ppi_mean(truth[:100].astype(float), seen[:100], seen[100:])
        covered.append(found.ci.low <= 0.3 <= found.ci.high)
    assert 0.935 <= np.mean(covered) <= 0.965


def test_ppi_edges():
    assert ppi_mean([1.0], [1.0], [1.0, 0.0]) is None
    assert ppi_mean([1.0, 0.0], [1.0, 0.0], [1.0, 0.0], (["a", "a"], None)) is None
    with pytest.raises(InputError, match="prediction of each labelled row"):
        ppi_mean([1.0, 0.0], [1.0], [1.0, 0.0])
