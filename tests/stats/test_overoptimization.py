"""Best-of-n and the curves of over-optimisation: hand-computed values, exact expectations, recovered curves, coverage."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from auditor.errors import InputError
from auditor.stats.overoptimization import (
    basis,
    best_of_n,
    best_of_n_kl,
    change_in_training,
    fieller,
    fit_best_of_n,
    fit_training,
    least_difference,
    past_best_of_n,
    past_training,
    rank_weights,
    window_means,
)

NS = (1, 2, 4, 8, 16)
D = np.sqrt([best_of_n_kl(n) for n in NS])


@pytest.mark.parametrize(("n", "expected"), [(1, 0.0), (2, math.log(2) - 1 / 2), (4, 0.6362943611), (16, 1.8350887222)])
def test_kl_of_best_of_n(n, expected):
    assert best_of_n_kl(n) == pytest.approx(expected, abs=1e-9)


def test_weights_by_hand():
    """Best of 2 of 4: rank i wins in i − 1 of the 6 pairs."""
    assert rank_weights(4, 2) == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    assert rank_weights(4, 1) == pytest.approx([1 / 4] * 4)
    assert rank_weights(4, 4) == pytest.approx([0, 0, 0, 1])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_best_of_n_is_the_mean_over_all_subsets(n):
    """Without bias: the average over every subset of n, ties broken by the average of the tied."""
    proxy, gold = np.array([3.0, 1, 4, 1, 5, 9, 5]), np.array([0.0, 1, 1, 0, 0.5, 0, 1])
    picked = []
    for chosen in combinations(range(7), n):
        top = max(proxy[list(chosen)])
        picked.append(np.mean([gold[place] for place in chosen if proxy[place] == top]))
    assert best_of_n(proxy, gold, n) == pytest.approx(np.mean(picked), abs=1e-12)


@pytest.mark.parametrize("call", [lambda: best_of_n_kl(0), lambda: rank_weights(4, 5), lambda: best_of_n([1.0], [1.0, 2.0], 1),
                                  lambda: fit_best_of_n(np.zeros((3, 3)), (2, 4, 8)), lambda: fit_best_of_n(np.zeros((3, 2)), (1, 2)),
                                  lambda: fit_training([1.0] * 20, [1.0] * 19)])
def test_bad_input(call):
    with pytest.raises(InputError):
        call()


def test_basis_by_hand():
    assert basis(np.array([0.0, 2.0]), "best_of_n") == pytest.approx(np.array([[0, 0], [2, -4]]))
    assert basis(np.array([0.0, 1.0, math.e]), "rl") == pytest.approx(np.array([[0, 0], [1, 0], [math.e, -math.e]]))


def test_best_of_n_curve_is_recovered():
    """Every prompt on R = d(α − βd) with its own α and β: their means come back, and d* = α/2β."""
    alphas, betas = np.linspace(0.5, 0.7, 12), np.linspace(0.28, 0.32, 12)
    gold = 0.3 + np.outer(alphas, D) - np.outer(betas, D**2)
    curve = fit_best_of_n(gold, NS)
    assert curve.alpha.value == pytest.approx(0.6)
    assert curve.beta.value == pytest.approx(0.3)
    assert curve.turning_point.value == pytest.approx(1.0)
    assert curve.turning_point.ci.low < 1.0 < curve.turning_point.ci.high


@pytest.mark.parametrize(("alpha", "beta", "why"), [(0.4, 0.0, "β is not surely above 0"), (0.9, 0.2, "outside the data"), (-0.3, 0.2, "outside the data")])
def test_no_turning_point(alpha, beta, why):
    rng = np.random.default_rng(0)
    slopes = rng.normal(0, 0.05, (40, 2))
    gold = np.outer(alpha + slopes[:, 0], D) - np.outer(beta + slopes[:, 1] - slopes[:, 1].mean(), D**2)
    curve = fit_best_of_n(gold, NS)
    assert curve.turning_point is None
    assert why in curve.reason


def test_training_curve_is_recovered():
    """Exact points on gold = 0.2 + d(α − β ln d) with d* = exp(α/β − 1)."""
    kl = np.linspace(0, 9, 30)
    d = np.sqrt(kl)
    noise = 1e-3 * np.cos(np.arange(30) * 2.4)
    curve = fit_training(kl, 0.2 + 0.5 * d - 0.4 * d * np.log(np.where(d > 0, d, 1)) + noise)
    assert curve.alpha.value == pytest.approx(0.5, abs=2e-3)
    assert curve.beta.value == pytest.approx(0.4, abs=2e-3)
    assert curve.turning_point.value == pytest.approx(math.exp(0.25), abs=1e-2)


def test_a_step_without_a_value_is_left_out_and_few_steps_make_no_curve():
    kl, gold = list(np.linspace(0, 4, 16)), list(np.cos(np.arange(16.0)))
    assert fit_training(kl, gold).beta.n == 16
    assert fit_training(kl, [math.nan, *gold[1:]]).beta.n == 15
    assert fit_training(kl[:14], gold[:14]) is None
    assert fit_training([1.0] * 20, [0.5] * 20) is None


def test_errors_of_the_training_curve_by_another_route():
    """HC2 from the hat matrix, and degrees of freedom (Σλ)²/Σλ² from the eigenvalues of the quadratic form of the residuals; in any unit of KL."""
    rng, kl = np.random.default_rng(3), np.concatenate([[0.0, 0.02], np.linspace(0.5, 6, 18)])
    gold = rng.normal(0.5, 0.1, 20)
    d = np.sqrt(kl)
    design = np.column_stack([np.ones(20), d, -d * np.log(np.where(d > 0, d, 1))])
    weights = np.linalg.pinv(design)
    residual = np.eye(20) - design @ weights
    spread = np.diag(residual)
    curve = fit_training(kl, gold)
    for weight, found in zip(weights, (curve.start, curve.alpha, curve.beta), strict=True):
        root = np.diag(np.abs(weight) / np.sqrt(spread))
        eigenvalues = np.linalg.eigvalsh(root @ residual @ root)
        t = stats.t.ppf(0.975, eigenvalues.sum() ** 2 / (eigenvalues**2).sum())
        half = t * math.sqrt((weight**2 * (residual @ gold) ** 2 / spread).sum())
        assert found.value == pytest.approx(weight @ gold)
        assert (found.ci.low, found.ci.high) == pytest.approx((weight @ gold - half, weight @ gold + half))
    tiny = fit_training(kl * 1e-12, gold)  # d in millionths: the gold at d = 0 is the same
    assert (tiny.start.value, tiny.start.ci.low) == pytest.approx((curve.start.value, curve.start.ci.low), rel=1e-6)


@pytest.mark.parametrize("kl", [[0.0] + [1.0] * 18 + [4.0], [0.0] + [1.0] * 17 + [4.0] * 2])
def test_a_step_that_decides_alone_leaves_no_interval(kl):
    """The curve goes through the only step at KL 0 whatever its error: a zero residual is no sign of precision."""
    curve = fit_training(kl, np.random.default_rng(0).normal(0.5, 0.1, 20))
    assert all(one.ci is None and "one step alone" in one.flag for one in (curve.start, curve.alpha, curve.beta))
    assert curve.turning_point is None


def test_rounding_is_no_variation():
    """0.1 has no exact mean in floating point: a constant gold has no interval rather than one of width 1e-17."""
    kl, gold = np.linspace(0, 4, 20), [0.1] * 20
    curve = fit_training(kl, gold)
    assert all(one.ci is None and "on the curve" in one.flag for one in (curve.start, curve.alpha, curve.beta))
    assert past_training(gold).ci is None
    assert change_in_training(gold).ci is None
    assert all(one.ci is None for _, (one,) in window_means(gold))


@pytest.mark.parametrize("most", [math.inf, -math.inf, math.nan, 1.7e308, -1e200, 1e30])
def test_a_number_beyond_reason_counts_as_none(most):
    kl, gold = [*np.linspace(0, 4, 16)], [most, *np.cos(np.arange(15.0))]
    assert fit_training(kl, gold).beta.n == fit_training(gold, kl).beta.n == past_training(gold).n == change_in_training(gold).n == 15
    assert next(steps for steps, _ in window_means(kl, gold)) == range(2, 5)


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e-20, 1.0, 1e20, 9e28])
def test_no_size_overflows(size):
    rng = np.random.default_rng(0)
    gold = rng.normal(0.5, 0.1, 20)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for kl, values in ((np.linspace(0, 4, 20) * size, gold), (np.linspace(0, 4, 20), gold * size), (np.linspace(0, 4, 20) / size, gold * size)):
            curve = fit_training(kl, values)
            found = [] if curve is None else [curve.start, curve.alpha, curve.beta]
            found += [one for _, both in window_means(kl, values) for one in both]
            assert all(math.isfinite(one.value) and (one.ci is None or np.isfinite([one.ci.low, one.ci.high]).all()) for one in found)


def test_a_turning_point_before_the_first_step_was_not_observed():
    d = np.linspace(2, 4, 30)
    curve = fit_training(d**2, 0.2 + 0.5 * d - 0.4 * d * np.log(d) + 1e-4 * np.cos(np.arange(30) * 2.4))  # d* = exp(0.25) = 1.28
    assert curve.beta.ci.low > 0
    assert curve.turning_point is None
    assert "reach from 2 to 4" in curve.reason


def test_means_of_fifths_by_hand():
    """Fifteen steps and one without a value; within-fifth variance of k, k + 1, k + 2 is 1 in every fifth: half-width t(.975, 10)/√3."""
    gold = [float(k) for k in range(1, 4)] + [math.nan] + [float(k) for k in range(4, 16)]
    found = window_means(gold, [2.0] * 16)
    assert [steps for steps, _ in found] == [range(1, 4), range(5, 8), range(8, 11), range(11, 14), range(14, 17)]
    assert [one.value for _, (one, _) in found] == pytest.approx([2, 5, 8, 11, 14])
    assert {round(one.ci.high - one.value, 6) for _, (one, _) in found} == {round(2.2281388520 / math.sqrt(3), 6)}
    assert all(flat.ci is None and "no variation" in flat.flag for _, (_, flat) in found)
    assert window_means(gold[:15]) == []


def test_fieller_by_hand():
    """Without an error below, the ratio's interval is that of the top over the bottom; with a bottom near 0 there is none."""
    low, high = fieller(6.0, 2.0, [[1.0, 0.0], [0.0, 0.0]], df=math.inf)
    assert (low, high) == pytest.approx((3 - 1.959964 / 2, 3 + 1.959964 / 2), abs=1e-5)
    assert fieller(6.0, 2.0, [[1.0, 0.0], [0.0, 1.1]], df=math.inf) is None


def test_least_difference_by_hand():
    assert least_difference([(0.1, -0.1, 0.3), (-0.2, -0.3, -0.1), (0.0, -0.4, 0.4)]) == (-0.2, -0.4, -0.1)


def test_past_the_best_point():
    gold = 0.5 + np.random.default_rng(1).normal(0, 0.02, (50, 5)) + np.array([0.0, 0.1, 0.2, 0.1, -0.1])
    found = past_best_of_n(gold)
    assert found.value == pytest.approx(-0.3, abs=0.02)
    assert found.ci.high < -0.25
    assert past_best_of_n(np.ones((50, 5)), bounds=(-1, 1)).ci.low > -0.15
    steps = np.concatenate([np.linspace(0, 1, 15), np.linspace(1, 0.2, 15)]) + np.tile([0.01, -0.01], 15)
    assert past_training(steps).ci.high < 0
    assert past_training(steps[:14]) is None
    assert past_training(np.linspace(0, 1, 30)).value > 0
    assert change_in_training(np.linspace(0, 1, 30)).value == pytest.approx(24 / 29)


# -- coverage -----------------------------------------------------------------------------------------------------------

REPEATS = 400


def coverage(hits):
    """Share of intervals that hold the truth; 400 repeats of 95 % lie above 92 % but for one time in two hundred."""
    assert len(hits) >= REPEATS * 0.9
    return float(np.mean(hits))


@pytest.mark.simulation
def test_intervals_of_the_training_curve_cover():
    """30 steps, a turning point at d = exp(0.25), noise of the size of a batch of 16."""
    rng, kl, hits = np.random.default_rng(5), np.linspace(0, 9, 30), {"alpha": [], "beta": [], "turning_point": [], "start": []}
    d = np.sqrt(kl)
    truth = 0.2 + 0.5 * d - 0.4 * d * np.log(np.where(d > 0, d, 1))
    expected = {"alpha": 0.5, "beta": 0.4, "turning_point": math.exp(0.25), "start": 0.2}
    for _ in range(REPEATS):
        curve = fit_training(kl, truth + rng.normal(0, 0.05, 30))
        for name, value in expected.items():
            found = getattr(curve, name)
            if found is not None:
                hits[name].append(found.ci.low <= value <= found.ci.high)
    assert all(coverage(found) >= 0.94 for found in hits.values()), {name: np.mean(found) for name, found in hits.items()}


@pytest.mark.simulation
def test_intervals_of_the_fifths_cover():
    """Twenty steps on five levels, four to a fifth."""
    rng, levels = np.random.default_rng(7), np.repeat([0.0, 0.5, 1.0, 1.2, 1.3], 4)
    hits = [one.ci.low <= level <= one.ci.high for _ in range(REPEATS)
            for (_, (one,)), level in zip(window_means(levels + rng.normal(0, 0.3, 20)), levels[::4], strict=True)]
    assert 0.93 <= coverage(hits) <= 0.97


@pytest.mark.simulation
def test_intervals_of_best_of_n_cover():
    """Sixty prompts of sixteen draws each: gold is more likely the nearer the length is to a middle; truth from 200,000 prompts' worth of draws."""
    rng = np.random.default_rng(6)

    def draw(prompts):
        middle = rng.normal(0.6, 0.3, (prompts, 1))
        proxy = rng.normal(size=(prompts, 16))
        return proxy, (rng.random((prompts, 16)) < np.exp(-((proxy - middle) ** 2))).astype(float)

    def table(prompts):
        proxy, gold = draw(prompts)
        ordered = np.take_along_axis(gold, np.argsort(proxy, axis=1), axis=1)
        return np.stack([ordered @ rank_weights(16, n) for n in NS], axis=1)

    whole = fit_best_of_n(table(200_000), NS)
    mean = table(200_000).mean(0)
    past = mean[-1] - mean[:-1].max()
    hits = {"alpha": [], "beta": [], "turning_point": [], "past": []}
    for _ in range(REPEATS):
        gold = table(60)
        curve, found = fit_best_of_n(gold, NS), past_best_of_n(gold, bounds=(-1, 1))
        hits["past"].append(found.ci.low <= past <= found.ci.high)
        for name in ("alpha", "beta", "turning_point"):
            estimate = getattr(curve, name)
            if estimate is not None:
                hits[name].append(estimate.ci.low <= getattr(whole, name).value <= estimate.ci.high)
    assert all(coverage(found) >= 0.92 for found in hits.values()), {name: np.mean(found) for name, found in hits.items()}


@pytest.mark.simulation
@pytest.mark.parametrize("shape", [np.zeros(5), np.array([0, 1, 1, 1, 0.5]), np.array([0, 0.5, 1, 1.2, 1.3])])
def test_interval_past_the_best_fifth_covers(shape):
    """At least 95 % also where all fifths are equal, though the best earlier one was chosen after the fact."""
    rng, hits = np.random.default_rng(7), []
    for _ in range(REPEATS):
        found = past_training(np.repeat(shape, 6) + rng.normal(0, 0.5, 30))
        hits.append(found.ci.low <= shape[-1] - shape[:-1].max() <= found.ci.high)
    assert coverage(hits) >= 0.92
