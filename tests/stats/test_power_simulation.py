"""Statistics that are no mean: coverage of their clustered BCa intervals, the size of McNemar's test, and whether the detectable effect is detected."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from auditor.stats import (
    Resampling,
    auroc,
    bootstrap_interval,
    brier,
    cohen_kappa,
    mcnemar_exact,
    minimum_detectable_effect,
    overconfidence,
)

pytestmark = pytest.mark.simulation

CLUSTERS, EACH, REPLICATIONS = 60, 3, 150
IDS = np.repeat(np.arange(CLUSTERS), EACH)


def forecasts(rng, sets):
    """(confidence, correct) of a forecaster that is right less often than it says, alike within clusters; ``sets`` clusters."""
    topic = np.repeat(0.5 * rng.standard_normal(sets), EACH)
    confidence = stats.norm.cdf(topic + 0.8 * rng.standard_normal(sets * EACH))
    return confidence, (rng.random(sets * EACH) < 0.15 + 0.7 * confidence).astype(float)


def labels(rng, sets):
    """Two raters' labels of 0, ½ and 1, who agree on some of the items."""
    topic = np.repeat(rng.random(sets), EACH)
    one = np.floor(3 * (0.5 * topic + 0.5 * rng.random(sets * EACH))) / 2
    other = np.where(rng.random(sets * EACH) < 0.5, one, rng.integers(0, 3, sets * EACH) / 2)
    return one, other


STATISTICS = {"auroc": (auroc, forecasts), "brier": (brier, forecasts), "overconfidence": (overconfidence, forecasts), "kappa": (cohen_kappa, labels)}


def test_intervals_of_other_statistics_cover():
    """The truth is the statistic of 20,000 clusters. 150 replications of each: a standard error of 1.8 % pointwise and 0.9 % of the mean."""
    coverage = {}
    for name, (statistic, draw) in STATISTICS.items():
        rng = np.random.default_rng(len(name))
        large = draw(rng, 20_000)
        truth = float(statistic(large, np.ones((1, len(large[0]))))[0])
        hits = 0
        for seed in range(REPLICATIONS):
            ci = bootstrap_interval(draw(rng, CLUSTERS), statistic, IDS, Resampling(seed=seed, resamples=2000)).ci
            hits += ci.low <= truth <= ci.high
        coverage[name] = hits / REPLICATIONS
    assert 0.93 <= np.mean(list(coverage.values())) <= 0.975, coverage
    assert min(coverage.values()) >= 0.93 - 3 * 0.018, coverage


def test_mcnemar_keeps_its_level_exactly():
    """Over all outcomes of 40 pairs that differ with probability 0.3, either way alike: the exact test never says more than 5 %."""
    differing = stats.binom.pmf(np.arange(41), 40, 0.3)
    size = 0.0
    for k in range(1, 41):
        rejected = [mcnemar_exact(np.r_[np.ones(won), np.zeros(k - won)], np.r_[np.zeros(won), np.ones(k - won)]) <= 0.05 for won in range(k + 1)]
        size += differing[k] * float(stats.binom.pmf(np.arange(k + 1), k, 0.5)[rejected].sum())
    assert 0.01 < size <= 0.05


def test_the_detectable_effect_is_detected_four_times_in_five():
    rng, pairs = np.random.default_rng(0), 60
    effect = minimum_detectable_effect(1 / pairs**0.5, df=pairs - 1)
    values = rng.normal(effect, 1, (4000, pairs))
    p = stats.ttest_1samp(values, 0, axis=1).pvalue
    assert (p <= 0.05).mean() == pytest.approx(0.8, abs=0.02)
