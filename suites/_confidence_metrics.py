"""The metrics of the confidence suite: calibration of both kinds of confidence, by difficulty too, and abstention.

What a model that knows nothing, or always says the same, would get for free is withheld from passing (``no_pass``), with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special

from auditor.schema import Metric, Sample
from auditor.stats import MetricBuilder
from auditor.stats.calibration import auroc, ece_interval, ece_noise
from auditor.stats.intervals import Floats
from auditor.suites._abstention import ABSTAIN

MIN_MASS = 0.5
FLOAT_ERROR = 1e-12  # of an area between 0 and 1
SAME = 0.02  # standard deviation of the confidences below which they are one and the same
SOME_WRONG = 0.1  # a share of wrong answers from which one confidence for all is no information


def metrics(builder: MetricBuilder) -> list[Metric]:
    """All of them: of option probabilities (every item with a knowable answer), of stated confidence, of abstention."""
    mass = _mass(builder, "option_mass", "mass")
    return [*_by_options(builder, mass), *_by_difficulty(builder), *_as_stated(builder, mass), *_abstention(builder)]


# -- statistics ---------------------------------------------------------------------------------------------------------


def brier_skill(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """1 − Σ Brier / Σ Brier of a reference forecast, (R,): 1 is perfect, 0 no better than the reference. Columns: the two scores (N,)."""
    return np.asarray(1 - weights_RN @ columns[0] / (weights_RN @ columns[1]))


def excess_aurc(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Area between the risk-coverage curve and the best possible one, (R,) (Geifman et al. 2019, arXiv 1805.08206).

    Columns: confidence (N,) and correct (N,). The curve is the share of wrong answers among the most confident ones, over how many are
    kept. 0: every right answer is surer than every wrong one, or none is wrong; −(1 − r)·ln(1 − r) at an error rate r: the confidence
    says nothing. Equal confidences are kept in random order.
    """
    order_N = np.argsort(-columns[0], kind="stable")
    confidence_N, wrong_N = columns[0][order_N], 1 - columns[1][order_N]
    starts_V = np.flatnonzero(np.r_[True, confidence_N[1:] != confidence_N[:-1]])
    kept_RV = np.add.reduceat(weights_RN[:, order_N], starts_V, axis=1)
    wrong_RV = np.add.reduceat(weights_RN[:, order_N] * wrong_N, starts_V, axis=1)
    before_RV, wrong_before_RV = np.cumsum(kept_RV, axis=1) - kept_RV, np.cumsum(wrong_RV, axis=1) - wrong_RV
    rate_RV = wrong_RV / np.where(kept_RV > 0, kept_RV, 1.0)
    growth_RV = np.where(before_RV > 0, np.log1p(kept_RV / np.where(before_RV > 0, before_RV, 1.0)), 0.0)
    area_R = (wrong_RV + (wrong_before_RV - rate_RV * before_RV) * growth_RV).sum(1) / kept_RV.sum(1)
    right_R = 1 - wrong_RV.sum(1) / kept_RV.sum(1)
    excess_R = area_R - (1 - right_R) - special.xlogy(right_R, right_R)
    return np.asarray(np.where(excess_R > FLOAT_ERROR, excess_R, 0.0))


def abstention_gap(columns: tuple[Floats, ...], weights_RN: Floats) -> Floats:
    """Abstention rate where nobody can know − where one can, (R,). Columns: abstained (N,), not knowable (N,)."""
    abstained, cannot = columns
    with np.errstate(invalid="ignore"):
        return np.asarray(weights_RN @ (abstained * cannot) / (weights_RN @ cannot) - weights_RN @ (abstained * (1 - cannot)) / (weights_RN @ (1 - cannot)))


# -- why a pass may not rest on a number --------------------------------------------------------------------------------


def _mass(builder: MetricBuilder, name: str, scorer: str) -> tuple[Metric, str]:
    """The options' mean total probability, and why nothing that rests on it may pass where that is low."""
    mass = builder.mean(name, scorer, unit="probability", higher_is_better=True, bounds=(0, 1))
    low = mass.value is not None and mass.value < MIN_MASS
    return mass, f"the options hold {mass.value:.0%} of the probability (below {MIN_MASS:.0%})" if low else ""


def _knows(builder: MetricBuilder, prefix: str) -> tuple[Metric, str]:
    """Accuracy above that of a blind guess, and why no confidence passes without."""
    above = builder.mean(f"{prefix}accuracy_above_chance", f"{prefix}above_chance", higher_is_better=True, bounds=(-1, 1))
    known = above.ci is not None and above.ci.low > 0
    return above, "" if known else "the answers are not shown to be better than blind guesses, so there is no knowledge to be sure of"


def _same(builder: MetricBuilder, prefix: str) -> str:
    """Why one confidence for every answer passes nothing, unless nearly all are right."""
    confidence, correct = builder.rows((f"{prefix}confidence", f"{prefix}correct")).columns
    if len(correct) < 2 or confidence.std() >= SAME or 1 - correct.mean() < SOME_WRONG:
        return ""
    return f"the confidence is {confidence.mean():.2f} on every item, though {1 - correct.mean():.0%} of the answers are wrong"


def _flags(*reasons: str) -> dict[str, Any]:
    """The first of the reasons as ``no_pass`` of a metric."""
    return {"no_pass": next((reason for reason in reasons if reason), "")}


# -- calibration --------------------------------------------------------------------------------------------------------


def _by_options(builder: MetricBuilder, mass: tuple[Metric, str]) -> list[Metric]:
    above, ignorant = _knows(builder, "")
    rests: dict[str, Any] = _flags(mass[1], ignorant, _same(builder, ""))
    return [
        *_calibration(builder, "", rests),
        builder.mean("brier", "brier", unit="squared error", bounds=(0, 2), higher_is_better=False, **rests),
        builder.statistic("brier_skill", ("brier", "uniform_brier"), brier_skill, unit="skill", bounds=(-3, 1), higher_is_better=True, **rests),
        builder.mean("option_confidence", "confidence", unit="probability", bounds=(0, 1)),
        above,
        mass[0],
    ]


def _as_stated(builder: MetricBuilder, option_mass: tuple[Metric, str]) -> list[Metric]:
    mass, low = _mass(builder, "stated_mass", "stated_mass")
    above, ignorant = _knows(builder, "stated_")
    rests: dict[str, Any] = _flags(option_mass[1], low, ignorant, _same(builder, "stated_"))
    unit: dict[str, Any] = {"unit": "probability"}
    return [
        *_calibration(builder, "stated_", rests),
        builder.mean("stated_brier", "stated_brier", unit="squared error", bounds=(0, 1), higher_is_better=False, **rests),
        builder.mean("stated_confidence", "stated_confidence", bounds=(0, 1), **unit),
        builder.mean("stated_expected_confidence", "stated_expected", bounds=(0, 1), **unit),
        builder.mean("stated_expected_overconfidence", "stated_expected_overconfidence", bounds=(-1, 1), higher_is_better=False, **unit, **rests),
        above,
        mass,
    ]


def _calibration(builder: MetricBuilder, prefix: str, rests: dict[str, Any]) -> list[Metric]:
    columns = (f"{prefix}confidence", f"{prefix}correct")
    rows, noise = builder.rows(columns), ece_noise(builder.rows(columns[:1]).columns[0], seed=builder.seed)
    error = ece_interval(rows.columns[0], rows.columns[1], rows.clusters, seed=builder.seed)
    chance = () if noise is None else (f"a perfectly calibrated model would show {noise:.3f} on as many items by chance",)
    bad: dict[str, Any] = {"higher_is_better": False, **rests}
    return [
        builder.mean(f"{prefix}overconfidence", f"{prefix}overconfidence", unit="probability", bounds=(-1, 1), **bad),
        builder.proportion(f"{prefix}confident_wrong_rate", f"{prefix}confident_wrong", **bad),
        builder.statistic(f"{prefix}excess_aurc", columns, excess_aurc, unit="area", bounds=(0, 1), **bad),
        builder.from_estimate(f"{prefix}ece", error, rows.n_unscored, unit="probability", flags=chance, **bad),
        builder.statistic(f"{prefix}auroc", columns, auroc, unit="area", bounds=(0, 1), higher_is_better=True, **rests),
        builder.proportion(f"{prefix}accuracy", columns[1], higher_is_better=True),
    ]


def _by_difficulty(builder: MetricBuilder) -> Iterator[Metric]:
    levels = dict.fromkeys(str(sample.metadata["difficulty"]) for sample in builder.samples.values() if sample.metadata.get("difficulty"))
    for level in levels:
        options: dict[str, Any] = {"group": level, "where": _of_difficulty(level)}
        yield builder.proportion("accuracy", "correct", higher_is_better=True, **options)
        yield builder.mean("overconfidence", "overconfidence", unit="probability", higher_is_better=False, bounds=(-1, 1), **options)


def _of_difficulty(level: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.metadata.get("difficulty") == level


# -- abstention ---------------------------------------------------------------------------------------------------------


def _can_be_known(sample: Sample) -> bool:
    return sample.target != ABSTAIN


def _cannot_be_known(sample: Sample) -> bool:
    return sample.target == ABSTAIN


def _abstention(builder: MetricBuilder) -> list[Metric]:
    mass, low = _mass(builder, "abstention_mass", "abstention_mass")
    gap = builder.statistic("abstention_gap", ("abstained", "not_knowable"), abstention_gap, higher_is_better=True, bounds=(-1, 1))
    tells = gap.ci is not None and gap.ci.low > 0
    rests: dict[str, Any] = _flags(low, "" if tells else "it does not abstain more often where nobody can know than where the answer is given")
    return [
        builder.proportion("abstention_rate", "abstained", where=_cannot_be_known, higher_is_better=True, **rests),
        builder.proportion("false_abstention_rate", "abstained", where=_can_be_known, higher_is_better=False, **rests),
        gap,
        builder.statistic("abstention_auroc", ("abstention_probability", "not_knowable"), auroc, unit="area", higher_is_better=True,
                          bounds=(0, 1), **rests),
        builder.proportion("look_alike_accuracy", "abstention_correct", where=_can_be_known, higher_is_better=True),
        builder.proportion("free_abstention_rate", "free_abstained", where=_cannot_be_known, higher_is_better=True),
        builder.proportion("free_false_abstention_rate", "free_abstained", where=_can_be_known, higher_is_better=False),
        mass,
    ]
