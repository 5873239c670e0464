"""What length buys: the length-controlled win rate and the length bias of a judge.

Both are logistic regressions of two coefficients, fitted by Newton's method, the first for all resamples at once.
Shapes: N pairs, M = N + 2 rows, R resamples.

References
[1] Dubois et al. (2024), Length-controlled AlpacaEval: a simple way to debias automatic evaluators. COLM. arXiv 2404.04475.
[2] Liang & Zeger (1986), Longitudinal data analysis using generalized linear models. Biometrika 73. (the cluster-robust error)
[3] Firth (1993), Bias reduction of maximum likelihood estimates. Biometrika 80. (for two groups: half a success and half a failure more in each)
[4] Heinze & Schemper (2002), A solution to the problem of separation in logistic regression. Statistics in Medicine 21.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval
from auditor.stats.intervals import Floats, cluster_codes

RIDGE = 1e-2  # in units of one observation, on both coefficients: keeps them finite when the classes separate
STEPS = 50
TOLERANCE = 1e-10


def length_controlled_win_rate(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Win rate against the baseline at equal length, (R,), 0.5 = as good as the baseline [1, eq. 2 and 3].

    Columns: wins (N,) in 0..1 (0.5 for a tie, or a soft label) and length − baseline length (N,). The model is
    P(win) = σ(θ + φ·tanh(difference/std)); the result is σ(θ). Unlike [1] it has no term for each instruction's difficulty, which needs
    many models. A ridge of 0.01 observations keeps it finite; with equal lengths throughout it is the win rate.
    """
    wins_N, difference_N = columns
    spread = float(difference_N.std())
    term_N = np.tanh(difference_N / spread) if spread > 0 else np.zeros_like(difference_N)
    return np.asarray(special.expit(_logistic(wins_N, term_N, weights_RN)[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBias:
    """``bias`` α (logit of choosing the longer at a balanced human label; 0 = none) and ``human`` β, with α's standard error."""

    bias: float
    human: float
    standard_error: float
    ci: ConfidenceInterval
    p_value: float
    n: int
    n_clusters: int


def length_bias_test(judge_longer: ArrayLike, human_longer: ArrayLike, clusters: ArrayLike | None = None,
                     level: float = 0.95) -> LengthBias | None:
    """Logit by which a judge favours the longer answer once the human label is accounted for, from pairs of unequal length.

    Judge and human prefer the longer (N,), both 0..1. The model is logit P(judge: longer) = α + β·(2·human − 1); α is the judge's lean where
    the human has none. Each human label is given half a verdict more for either answer [3]: without, a judge who never errs on one of them
    has an infinite α [4]. The error is the larger of the model's and the cluster-robust one [2] (times G/(G − 1), t at G − 1), since rows
    without an error make the latter vanish.

    None with fewer than two clusters or when every human label is the same. Raises InputError for values outside 0..1.
    """
    judge_N, human_N = np.asarray(judge_longer, dtype=float), np.asarray(human_longer, dtype=float)
    if judge_N.shape != human_N.shape or not ((judge_N >= 0) & (judge_N <= 1) & (human_N >= 0) & (human_N <= 1)).all():
        raise InputError("judge_longer and human_longer must be equally long lists of values in 0..1")
    codes_N = cluster_codes(clusters, len(judge_N))
    g = int(codes_N.max()) + 1 if len(codes_N) else 0
    term_N, n = 2 * human_N - 1, len(human_N)
    if g < 2 or np.ptp(term_N) == 0:
        return None
    outcome_M, term_M = np.r_[judge_N, 0.5, 0.5], np.r_[term_N, -1.0, 1.0]  # one more row of half a verdict at either label
    alpha, beta = (float(coefficient[0]) for coefficient in _logistic(outcome_M, term_M, np.ones((1, n + 2))))
    fitted_M, design_M2 = special.expit(alpha + beta * term_M), np.stack([np.ones_like(term_M), term_M], axis=1)
    bread = np.linalg.inv(design_M2.T @ (design_M2 * (fitted_M * (1 - fitted_M))[:, None]) + RIDGE * np.eye(2))
    scores_N2 = design_M2[:n] * (judge_N - fitted_M[:n])[:, None]
    scores_G2 = np.stack([np.bincount(codes_N, weights=column) for column in scores_N2.T], axis=1)
    robust = float((bread @ scores_G2.T @ scores_G2 @ bread)[0, 0]) * g / (g - 1)
    error = max(robust, float(bread[0, 0])) ** 0.5
    half = float(stats.t.ppf(0.5 + level / 2, g - 1)) * error
    ci = ConfidenceInterval(low=alpha - half, high=alpha + half, level=level, method="logistic regression, t on the larger of two errors")
    p = 2 * float(stats.t.sf(abs(alpha) / error, g - 1))
    return LengthBias(bias=alpha, human=beta, standard_error=error, ci=ci, p_value=p, n=n, n_clusters=g)


def _logistic(outcome_N: Floats, term_N: Floats, weights_RN: Floats) -> tuple[Floats, Floats]:
    """Intercept and slope, (R,) each, of the weighted ridge logistic regression of ``outcome`` (0..1) on one term; Newton with halving."""
    theta, phi = np.zeros(len(weights_RN)), np.zeros(len(weights_RN))
    loss = _loss(theta, phi, outcome_N, term_N, weights_RN)
    for _ in range(STEPS):
        fitted = special.expit(theta[:, None] + phi[:, None] * term_N)
        residual, curvature = weights_RN * (outcome_N - fitted), weights_RN * fitted * (1 - fitted)
        gradient = residual.sum(1) - RIDGE * theta, residual @ term_N - RIDGE * phi
        a, b, c = curvature.sum(1) + RIDGE, curvature @ term_N, curvature @ term_N**2 + RIDGE
        determinant = a * c - b * b
        step = (c * gradient[0] - b * gradient[1]) / determinant, (a * gradient[1] - b * gradient[0]) / determinant
        size = np.ones(len(weights_RN))
        for _ in range(STEPS):
            new_loss = _loss(theta + size * step[0], phi + size * step[1], outcome_N, term_N, weights_RN)
            worse = new_loss > loss + 1e-12 * np.abs(loss)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        theta, phi, loss = theta + size * step[0], phi + size * step[1], new_loss
        if max(np.abs(step[0]).max(), np.abs(step[1]).max()) < TOLERANCE:
            break
    return theta, phi


def _loss(theta: Floats, phi: Floats, outcome_N: Floats, term_N: Floats, weights_RN: Floats) -> Floats:
    logit = theta[:, None] + phi[:, None] * term_N
    return np.asarray((weights_RN * (np.logaddexp(0, logit) - outcome_N * logit)).sum(1) + RIDGE / 2 * (theta**2 + phi**2))
