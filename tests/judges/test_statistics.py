"""Agreement statistics against other implementations, published examples and hand counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import cohen_kappa_score

from auditor.judges.statistics import advantage, cohen_kappa, krippendorff_alpha, length_bias, winning_rate

ONES = np.ones((1, 400))


def codes(seed: int, n: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).choice([1.0, 0.0, -1.0], size=n, p=[0.5, 0.2, 0.3])


def test_cohen_kappa_equals_scikit_learns() -> None:
    one, other = codes(1), np.where(np.random.default_rng(2).random(400) < 0.6, codes(1), codes(3))
    assert cohen_kappa((one, other), ONES)[0] == pytest.approx(cohen_kappa_score(one, other))
    weights = np.random.default_rng(4).integers(0, 4, size=(3, 400)).astype(float)
    repeated = [cohen_kappa_score(np.repeat(one, row.astype(int)), np.repeat(other, row.astype(int))) for row in weights]
    assert cohen_kappa((one, other), weights) == pytest.approx(repeated)
    assert math.isnan(cohen_kappa((np.ones(400), np.ones(400)), ONES)[0])


def test_krippendorff_alpha_on_his_own_example() -> None:
    """Krippendorff 2011, section C: four observers, twelve units, gaps; nominal alpha 0.743."""
    table = """1 2 3 3 2 1 4 1 2 . . .
               1 2 3 3 2 2 4 1 2 5 . 3
               . 3 3 3 2 3 4 2 2 5 1 .
               1 2 3 3 2 4 4 1 2 5 1 ."""
    observers = [line.split() for line in table.splitlines()]
    units = [unit for unit in zip(*observers, strict=True) if 4 - unit.count(".") > 1]
    votes = np.array([[float(unit.count(label)) for unit in units] for label in "12345"])
    total = votes.sum(0)
    disagreement = (total**2 - (votes**2).sum(0)) / (total - 1)
    assert krippendorff_alpha((*votes, disagreement), np.ones((1, len(units))))[0] == pytest.approx(0.743, abs=5e-4)


def test_length_bias_by_hand_and_its_limits() -> None:
    # 10 items whose longer answer is right, chosen in 8; 6 whose shorter is right, the longer chosen in 3.
    human = np.array([1.0] * 10 + [-1.0] * 6)
    judge = np.array([1.0] * 8 + [-1.0] * 2 + [1.0] * 3 + [-1.0] * 3)
    expected = (math.log(8.5 / 2.5) + math.log(3.5 / 3.5)) / 2
    assert length_bias((judge, human, np.ones(16)), np.ones((1, 16)))[0] == pytest.approx(expected)
    assert length_bias((-judge, -human, -np.ones(16)), np.ones((1, 16)))[0] == pytest.approx(expected)  # a and b exchanged
    assert length_bias((human, human, np.ones(16)), np.ones((1, 16)))[0] == pytest.approx((math.log(21) + math.log(1 / 13)) / 2)
    assert math.isnan(length_bias((judge[:10], human[:10], np.ones(10)), np.ones((1, 10)))[0])


def test_length_bias_recovers_the_intercept_of_a_logistic_judge() -> None:
    rng = np.random.default_rng(5)
    human, longer = rng.choice([1.0, -1.0], 40_000), rng.choice([1.0, -1.0], 40_000)
    chooses_longer = rng.random(40_000) < special.expit(0.7 + 1.2 * human * longer)
    judge = np.where(chooses_longer, longer, -longer)
    assert length_bias((judge, human, longer), np.ones((1, 40_000)))[0] == pytest.approx(0.7, abs=0.04)


def test_omega_steps_up_and_rho_averages() -> None:
    seen, n = np.ones(50), 50
    better, worse = (np.ones(n), np.zeros(n)), (np.zeros(n), np.ones(n))
    columns = (seen, *better, seen, *better, seen, *worse)
    assert winning_rate(0.2)(columns, np.ones((1, n)))[0] == pytest.approx(2 / 3)
    assert advantage(columns, np.ones((1, n)))[0] == pytest.approx(2 / 3)
    equal = (seen, np.ones(n), np.ones(n)) * 3
    assert winning_rate(0.2)(equal, np.ones((1, n)))[0] == 1.0  # as good as a person, at less cost
    assert winning_rate(0.0)(equal, np.ones((1, n)))[0] == 0.0
