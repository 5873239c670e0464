"""Intervals of paired 0/1 scores where few pairs differ: by hand, and their coverage, which a bootstrap alone does not reach."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.schema import ConfidenceInterval
from auditor.stats.bootstrap import Resampling, paired_interval
from auditor.stats.intervals import clopper_pearson_bounds
from auditor.stats.rare import allow_unseen, unseen_ends

ONES = np.ones(50)


def test_by_hand():
    low, high = unseen_ends(0.1, 0.0, ONES)
    gain = clopper_pearson_bounds(0.1, 50)
    nothing = 1 - 0.025 ** (1 / 50)
    assert low == pytest.approx(0.1 - ((0.1 - gain[0]) ** 2 + nothing**2) ** 0.5)
    assert high == pytest.approx(gain[1])
    assert unseen_ends(0.0, 0.0, ONES) == pytest.approx((-nothing, nothing))
    assert unseen_ends(0.0, 0.0, np.full(10, 5.0)) == pytest.approx((0.025**0.1 - 1, 1 - 0.025**0.1))  # ten draws, not fifty


def test_only_ever_wider_and_only_where_a_side_is_rare():
    ci = ConfidenceInterval(low=0.0, high=0.3)
    values = np.r_[np.ones(2), np.zeros(48)]
    widened = allow_unseen(ci, values)
    assert widened.low < -0.02
    assert widened.high == 0.3
    assert "too rare to be seen" in widened.method
    mirrored = allow_unseen(ConfidenceInterval(low=-0.3, high=0.0), -values)
    assert (mirrored.low, mirrored.high) == pytest.approx((-widened.high, -widened.low))
    assert allow_unseen(ConfidenceInterval(low=-0.9, high=0.9), values).method == ""
    both = np.r_[np.ones(20), -np.ones(20), np.zeros(60)]
    assert allow_unseen(ConfidenceInterval(low=0.0, high=0.0), both) == ConfidenceInterval(low=0.0, high=0.0)
    assert allow_unseen(ci, values * 0.5) is ci
    assert allow_unseen(ci, []) is ci


def claims(rng, n, gain, loss, size, replications=400):
    """Share of replications in which a loss of more than the true one is ruled out, by the bootstrap alone and widened."""
    ids, false = np.repeat(np.arange(n), size), np.zeros(2)
    for _ in range(replications):
        draw = np.where(rng.random(n * size) < 0.2, rng.random(n)[ids], rng.random(n * size))  # a fifth of the rows go with their cluster
        values = np.where(draw < gain, 1.0, np.where(draw > 1 - loss, -1.0, 0.0))
        ci = paired_interval(values, ids, (-1.0, 1.0), Resampling(resamples=2000)).ci
        false += [one.low > gain - loss + 1e-9 for one in (ci, allow_unseen(ci, values, ids))]
    return false / replications


@pytest.mark.simulation
def test_a_loss_that_was_not_seen_is_not_ruled_out():
    """A true difference of −5 points, from few changes: the claim "no loss of more than 5 points" is wrong and may be made in 2.5 % of cases."""
    rng = np.random.default_rng(0)
    cases = [(n, gain, size) for n in (10, 20) for gain in (0.02, 0.05, 0.1) for size in (1, 3)]
    found = np.array([claims(rng, n, gain, gain + 0.05, size) for n, gain, size in cases])
    assert found[:, 0].max() > 0.08, found  # why this is needed
    assert found[:, 1].max() <= 0.05, found  # 2.5 % and three standard errors of 400 replications
