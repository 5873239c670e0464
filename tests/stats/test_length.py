"""Length-controlled win rate and length bias against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import special

from auditor.errors import InputError
from auditor.stats import length_bias_test, length_controlled_win_rate

RNG = np.random.default_rng(0)
N = 400
LONGER = RNG.normal(0.5, 1, N) * 80
WINS = (RNG.random(N) < special.expit(0.4 + 1.5 * np.tanh(LONGER / LONGER.std()))).astype(float)


def once(n):
    return np.ones((1, n))


def test_win_rate_is_the_intercept_of_a_logistic_regression():
    design = sm.add_constant(np.tanh(LONGER / LONGER.std()))
    fit = sm.GLM(WINS, design, family=sm.families.Binomial()).fit()
    assert length_controlled_win_rate((WINS, LONGER), once(N))[0] == pytest.approx(special.expit(fit.params[0]), abs=1e-3)


def test_length_control_takes_away_what_length_bought():
    bought = (RNG.random(2000) < special.expit(2 * np.tanh(np.r_[LONGER, LONGER, LONGER, LONGER, LONGER] / LONGER.std()))).astype(float)
    lengths = np.tile(LONGER, 5)
    assert bought.mean() > 0.6
    assert length_controlled_win_rate((bought, lengths), once(2000))[0] == pytest.approx(0.5, abs=0.05)


def test_win_rate_against_oneself_is_a_half_and_swapping_mirrors_it():
    assert length_controlled_win_rate((np.full(20, 0.5), np.zeros(20)), once(20))[0] == pytest.approx(0.5)
    rate, mirrored = (length_controlled_win_rate(c, once(N))[0] for c in ((WINS, LONGER), (1 - WINS, -LONGER)))
    assert rate + mirrored == pytest.approx(1)


def test_separated_classes_stay_finite():
    assert 0.9 < length_controlled_win_rate((np.ones(30), RNG.normal(size=30)), once(30))[0] < 1
    perfect = np.linspace(-1, 1, 40)
    assert np.isfinite(length_controlled_win_rate(((perfect > 0).astype(float), perfect), once(40))[0])


def test_weights_are_repetitions():
    weights = RNG.integers(0, 3, N)
    difference = np.where(RNG.random(N) < 0.5, 1.0, -1.0)  # of one size, so that dropping rows hardly moves the spread
    expected = length_controlled_win_rate((np.repeat(WINS, weights), np.repeat(difference, weights)), once(weights.sum()))
    assert length_controlled_win_rate((WINS, difference), weights[None].astype(float)) == pytest.approx(expected, abs=1e-3)


def test_length_bias_equals_clustered_glm():
    """With half a verdict more for either answer at either human label; where the clusters' error is the larger."""
    clusters = np.repeat(np.arange(80), 5)
    human = RNG.integers(0, 2, N).astype(float)
    judge = (RNG.random(N) < special.expit(0.7 + 1.2 * (2 * human - 1) + RNG.normal(0, 1.5, 80)[clusters])).astype(float)
    outcome, term = np.r_[judge, 0, 1, 0, 1], np.r_[2 * human - 1, -1, -1, 1, 1]
    fit = sm.GLM(outcome, sm.add_constant(term), family=sm.families.Binomial(), freq_weights=np.r_[np.ones(N), np.full(4, 0.5)]).fit()
    found = length_bias_test(judge, human, clusters)
    assert (found.bias, found.human) == pytest.approx(tuple(fit.params), abs=1e-3)
    plain = sm.GLM(judge, sm.add_constant(2 * human - 1), family=sm.families.Binomial()).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    assert found.standard_error == pytest.approx(plain.bse[0], rel=0.02)
    assert found.standard_error > 1.2 * fit.bse[0]
    assert found.ci.low > 0
    assert found.p_value < 0.001
    assert found.n_clusters == 80


def test_length_bias_of_one_who_never_errs_by_hand():
    """Ten pairs a label, all judged as people do: ±logit(10.5/11), which cancel; the error ½·√(2·(1/10.5 + 1/0.5)) is the model's."""
    human = np.tile([0.0, 1.0], 10)
    found = length_bias_test(human, human)
    assert found.bias == pytest.approx(0, abs=1e-9)
    assert found.human == pytest.approx(np.log(21), rel=0.02)
    assert found.standard_error == pytest.approx(0.5 * (2 * (1 / 10.5 + 2)) ** 0.5, rel=0.02)


def test_length_bias_edges():
    assert length_bias_test([1.0, 0.0], [1.0, 1.0]) is None
    assert length_bias_test([1.0, 0.0], [1.0, 0.0], ["a", "a"]) is None
    with pytest.raises(InputError, match=r"0\.\.1"):
        length_bias_test([2.0], [1.0])
