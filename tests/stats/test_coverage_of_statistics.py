"""Coverage by simulation of what is no plain average: κ, α, ECE, AUROC, length bias, the length-controlled win rate; the level of the alt-test.

Replications are few, as each takes a bootstrap: 300 of them put the standard error of a coverage of 95 % at 1.3 %, so that a bound of .91
stands three below it.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from auditor.stats import (
    Resampling,
    adaptive_ece,
    alt_test,
    auroc,
    bootstrap_interval,
    cohen_kappa,
    ece_interval,
    krippendorff_alpha,
    length_bias_test,
    length_controlled_win_rate,
)

pytestmark = pytest.mark.simulation


def coverage(find, truth: float, replications: int) -> float:
    """Share of replications whose interval holds the truth; ``find(rng)`` gives an estimate. Every one must have an interval."""
    found = [find(np.random.default_rng([k, 7])).ci for k in range(replications)]
    return float(np.mean([ci.low <= truth <= ci.high for ci in found]))


def once(n: int) -> np.ndarray:
    return np.ones((1, n))


# -- agreement ----------------------------------------------------------------------------------------------------------


def labels(rng, raters, share, copied):
    """Two items in each of 50 clusters with a share of their own; a rater copies the item's label with probability ``copied``, else draws one."""
    own = rng.beta(share * 7 / 3, (1 - share) * 7 / 3, 50)
    truth = (rng.random((50, 2)) < own[:, None]).ravel()
    return [np.where(rng.random(100) < copied, truth, rng.random(100) < share).astype(float) for _ in range(raters)]


@pytest.mark.parametrize(("statistic", "raters"), [(cohen_kappa, 2), (krippendorff_alpha(), 3)], ids=["kappa", "alpha"])
@pytest.mark.parametrize(("share", "copied", "least"), [(0.5, 0.7, 0.91), (0.2, 0.7, 0.91), (0.2, 0.3, 0.88)])
def test_agreement_beyond_chance(statistic, raters, share, copied, least):
    """Copying makes labels correlate by its square, which is κ and α. Hardly agreeing on a rare label, α's interval is a little narrow: .915 of 400."""
    clusters = np.repeat(np.arange(50), 2)
    found = coverage(lambda rng: bootstrap_interval(labels(rng, raters, share, copied), statistic, clusters, Resampling(seed=1, resamples=2000)),
                     copied**2, 300)
    assert least <= found <= 0.99


@pytest.mark.parametrize("quality", [0.6, 0.8, 0.95])
def test_alternative_annotator_rejects_no_more_than_its_level(quality):
    """At ε = 0 a judge as good as the annotators is no better than they are: each test rejects in 5 % of cases, one of all three in at most 5 %."""
    each, some = [], []
    for k in range(300):
        rng = np.random.default_rng([k, 3])
        truth = rng.integers(0, 2, 120)
        judge, *people = (np.where(rng.random(120) < quality, truth, 1 - truth).astype(float) for _ in range(4))
        result = alt_test(judge, np.stack(people), np.repeat(np.arange(30), 4), epsilon=0.0)
        each.append(np.mean(np.array(result.p_values) <= 0.05))
        some.append(result.winning_rate > 0)
    assert np.mean(each) <= 0.08
    assert np.mean(some) <= 0.08


# -- calibration --------------------------------------------------------------------------------------------------------


def answers(rng, clusters, size, excess, correlation):
    """Confidences, uniform in .5 to 1, and correctness, right with probability confidence − ``excess``; normal scores correlate within clusters."""
    common, own = (rng.standard_normal((2, clusters))[:, np.repeat(np.arange(clusters), size)], rng.standard_normal((2, clusters * size)))
    first, second = special.ndtr(correlation**0.5 * common + (1 - correlation) ** 0.5 * own)
    confidence = 0.5 + first / 2
    return confidence, (second < confidence - excess).astype(float)


@pytest.mark.parametrize(("clusters", "size"), [(20, 5), (100, 1), (50, 6)])
@pytest.mark.parametrize("excess", [0.0, 0.05, 0.1, 0.2])
def test_calibration_error(clusters, size, excess):
    """The error of confidence − c for every c is the excess: 0 is covered too, which a bootstrap of the plug-in value never does."""
    ids, correlation = np.repeat(np.arange(clusters), size), 0.3 if size > 1 else 0.0
    assert coverage(lambda rng: ece_interval(*answers(rng, clusters, size, excess, correlation), ids, seed=1), excess, 300) >= 0.91


@pytest.mark.parametrize(("least", "n", "excess"), [(0.95, 40, 0.0), (0.98, 100, 0.0), (0.95, 100, 0.08), (0.9, 60, 0.1)])
def test_calibration_error_of_the_nearly_certain(least, n, excess):
    """Nearly all answers are right: errors that are not in the data are no sign of precision."""
    def drawn(rng):
        confidence = rng.uniform(least, 1, n)
        return ece_interval(confidence, (rng.random(n) < confidence - excess).astype(float), seed=1)

    assert coverage(drawn, excess, 300) >= 0.91


def test_a_bootstrap_would_miss_the_calibration_of_the_calibrated():
    def resampled(rng):
        return bootstrap_interval(answers(rng, 100, 1, 0.0, 0.0), adaptive_ece(), None, Resampling(seed=1, resamples=2000))

    assert coverage(resampled, 0.0, 40) == 0.0


@pytest.mark.parametrize("excess", [0.0, 0.2])
def test_auroc(excess):
    truth = auroc(answers(np.random.default_rng(1), 200_000, 1, excess, 0.0), once(200_000))[0]
    ids = np.repeat(np.arange(20), 5)
    found = coverage(lambda rng: bootstrap_interval(answers(rng, 20, 5, excess, 0.3), auroc, ids, Resampling(seed=1, resamples=2000)), truth, 300)
    assert 0.91 <= found <= 0.99


# -- length -------------------------------------------------------------------------------------------------------------


def verdicts(rng, clusters, size, model):
    """The judge's and people's preference for the longer answer; ``model`` is (α, β, sd of the clusters' own lean)."""
    alpha, beta, spread = model
    human = (rng.random(clusters * size) < 0.5).astype(float)
    own = np.repeat(rng.standard_normal(clusters) * spread, size)
    return (rng.random(clusters * size) < special.expit(alpha + beta * (2 * human - 1) + own)).astype(float), human



@pytest.mark.parametrize("model", [(0.5, 1, 0.6), (1.5, 1, 1.2), (0.3, 3, 0.6), (0, 4, 1.2), (1, 3, 1.2)])
@pytest.mark.parametrize(("clusters", "size"), [(10, 5), (40, 2), (50, 6)])
def test_length_bias(clusters, size, model):
    """Also where the judge hardly errs, so that a label may have no error in it at all: the clusters' error alone covers .57 to .83 there."""
    alpha, beta, spread = model
    own = np.random.default_rng(5).standard_normal(100_000) * spread
    truth = sum(special.logit(special.expit(alpha + beta * sign + own).mean()) for sign in (-1, 1)) / 2  # of the population, clusters averaged out
    ids = np.repeat(np.arange(clusters), size)
    assert coverage(lambda rng: length_bias_test(*verdicts(rng, clusters, size, model), ids), truth, 400) >= 0.92


@pytest.mark.parametrize(("lean", "slope"), [(0.0, 0.0), (0.5, 1.0)])
def test_length_controlled_win_rate(lean, slope):
    def pairs(rng, clusters, size):
        difference = rng.standard_normal(clusters * size) * 100 + 30
        own = np.repeat(rng.standard_normal(clusters) / 2, size)
        return (rng.random(clusters * size) < special.expit(lean + slope * np.tanh(difference / 100) + own)).astype(float), difference

    truth = length_controlled_win_rate(pairs(np.random.default_rng(3), 200_000, 1), once(200_000))[0]
    ids = np.repeat(np.arange(20), 5)
    found = coverage(lambda rng: bootstrap_interval(pairs(rng, 20, 5), length_controlled_win_rate, ids, Resampling(seed=1, resamples=2000)), truth, 100)
    assert 0.88 <= found <= 1.0
