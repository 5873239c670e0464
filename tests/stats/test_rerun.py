"""Whether a re-run would decide otherwise: the predicted probability against repeated simulated re-runs of the same items."""

from __future__ import annotations

import math

import numpy as np
import pytest

from auditor.errors import InputError
from auditor.stats.rerun import MOST_FLIPS, draw_noise, flip_probability


def test_by_hand():
    assert flip_probability(0.0, math.inf, 1.0) == pytest.approx(0.5)
    assert flip_probability(math.sqrt(2) * 1.6448536, math.inf, 1.0) == pytest.approx(0.05)
    assert flip_probability(0.0, 0.0, 1.0) == pytest.approx(1.0)
    assert flip_probability(0.0, math.inf, 0.0) == 0
    with pytest.raises(InputError, match="not negative"):
        flip_probability(-0.1, 1.0, 1.0)


def test_noise_is_that_between_epochs():
    values = np.array([1.0, 3.0, 10.0, 10.0, 5.0, 7.0] * 4)
    samples = np.repeat(np.arange(12), 2)
    assert draw_noise(values, samples).error == pytest.approx(((2 + 0 + 2) * 4 / 12 / 24) ** 0.5)
    assert not draw_noise(values, samples).bound
    alone = draw_noise(values, np.arange(24))
    assert alone.bound
    assert alone.error == pytest.approx(values.std(ddof=1) / 24**0.5)
    assert draw_noise(values[:6], samples[:6]).bound  # three degrees of freedom are too few
    assert draw_noise([1.0], ["a"]) is None
    assert draw_noise(np.ones(24), samples).error == 0
    with pytest.raises(InputError, match="each pair"):
        draw_noise([1.0, 2.0], ["a"])


def run(rng, baseline_S, candidate_S, epochs):
    """Differences (S, E) of one run of two models with these chances of a 1."""
    shape = (len(baseline_S), epochs)
    return (rng.random(shape) < candidate_S[:, None]).astype(float) - (rng.random(shape) < baseline_S[:, None])


def bound(difference_SE):
    """The upper end of the interval of the mean, samples as clusters."""
    means = difference_SE.mean(1)
    return means.mean() + 1.98 * means.std(ddof=1) / len(means) ** 0.5


@pytest.mark.simulation
@pytest.mark.parametrize("epochs", [1, 3])
def test_predicted_flips_come_true(epochs):
    """Worse: the upper end lies below −margin. Worlds spread around the margin; each is run twice on the same items."""
    rng, margin, size = np.random.default_rng(epochs), 0.05, 120
    predicted, flipped = [], []
    for _ in range(4000):
        baseline = rng.beta(2, 2, size)
        candidate = np.clip(baseline - rng.uniform(0.0, 0.4), 0, 1)
        first, second = run(rng, baseline, candidate, epochs), run(rng, baseline, candidate, epochs)
        if bound(first) >= -margin:
            continue
        noise = draw_noise(first.ravel(), np.repeat(np.arange(size), epochs))
        predicted.append(flip_probability(math.inf, -margin - bound(first), noise.error))
        flipped.append(bound(second) >= -margin)
    predicted, flipped = np.array(predicted), np.array(flipped)
    stands = predicted <= MOST_FLIPS
    assert stands.sum() > 300
    assert (~stands).sum() > 300
    assert flipped[stands].mean() < 0.06, flipped[stands].mean()  # what is reported stays
    assert flipped[~stands].mean() > 0.2, flipped[~stands].mean()  # what is withheld does flip
    if epochs > 1:  # with one epoch the prediction is an upper bound
        bins = [(predicted > low) & (predicted <= high) for low, high in ((0.02, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.5))]
        for chosen in bins:
            assert flipped[chosen].mean() == pytest.approx(predicted[chosen].mean(), abs=0.08)
    else:
        assert predicted.mean() >= flipped.mean() - 0.02
