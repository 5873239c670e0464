"""From a paired interval to an outcome, and from a rule to a decision. Pure functions of numbers.

An outcome is read off the whole interval of the gain (the difference in the good direction) against ±margin:

    worse         wholly below −margin             better        wholly above +margin
    equivalent    wholly inside ±margin            inconclusive  anything else

Three guards turn a decided outcome into *inconclusive*. *Better* and *worse* are claims of which any single one would be reported, so the p-value
must hold after Holm's adjustment for the comparisons made. An outcome that an independent re-run on the same items would flip with more than
MOST_FLIPS probability (stats/rerun.py) is not reported. Nor is one that rests on fewer than MIN_CLUSTERS clusters. *Equivalent* and *not inferior*
are claims that must all hold for a gate to pass: those need no adjustment (Berger 1982, see stats/equivalence.py), but the other guards.

House margins, where a policy gives none: five points for shares and probabilities and whatever else lives on a scale of 0 to 1, a quarter of a
point on a five-point scale; for all other units a fifth of the standard deviation of the baseline's scores, a small effect by Cohen's convention
(Statistical power analysis for the behavioral sciences, 1988, ch. 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditor.compare.result import Decided, Outcome, Test
from auditor.stats.bootstrap import MIN_CLUSTERS
from auditor.stats.rerun import MOST_FLIPS, flip_probability

ALPHA = 0.05
POINTS = 0.05
SMALL_EFFECT = 0.2
SHARES = frozenset({"proportion", "probability", "share", "rate", "proportion difference", "probability difference", "difference", "index", "score",
                    "kappa", "alpha", "area", "auroc", "skill", "squared error", "correlation"})
FIVE_POINTS = "points of 5"
INFINITE = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An outcome with the chance that a re-run flips it. ``undecided`` says which guard, if any, made it inconclusive."""

    outcome: Outcome
    flip: float = 0.0
    undecided: str = ""


def house_margin(unit: str, baseline_sd: float) -> tuple[float, str]:
    """(margin, where it comes from) for a metric whose policy names none."""
    if unit in SHARES:
        return POINTS, "house default: 5 points"
    if unit == FIVE_POINTS:
        return 0.25, "house default: a quarter of a point of 5"
    return SMALL_EFFECT * baseline_sd, "house default: a fifth of the baseline's standard deviation"


def read_outcome(gain: tuple[float, float], margin: float, *, n_clusters: int, error: float = 0.0, p_adjusted: float | None = None) -> Reading:
    """Outcome of a gain's interval (low, high). ``error`` is that of the draws (see draw_noise), ``p_adjusted`` that of "no difference"."""
    low, high = gain
    outcome, down, up = _plain(low, high, margin)
    if outcome == "inconclusive":
        return Reading(outcome=outcome)
    if n_clusters < MIN_CLUSTERS:
        return Reading(outcome="inconclusive", undecided=f"{outcome} by its interval, but {n_clusters} clusters are too few to decide on")
    if outcome != "equivalent" and p_adjusted is not None and p_adjusted > ALPHA:
        return Reading(outcome="inconclusive", undecided=f"{outcome} by its own interval, but not beyond chance among the comparisons made "
                                                         f"(p {p_adjusted:.2g} after Holm's adjustment)")
    flip = flip_probability(down, up, error)
    if flip > MOST_FLIPS:
        return Reading(outcome="inconclusive", flip=flip, undecided=f"{outcome} by its interval, but a re-run on the same items would say otherwise "
                                                                    f"with a probability of about {flip:.0%}")
    return Reading(outcome=outcome, flip=flip)


def _plain(low: float, high: float, margin: float) -> tuple[Outcome, float, float]:
    """(outcome, room downwards, room upwards): how far the interval may move before the outcome changes."""
    if high < -margin:
        return "worse", INFINITE, -margin - high
    if low > margin:
        return "better", low - margin, INFINITE
    if low > -margin and high < margin:
        return "equivalent", low + margin, margin - high
    return "inconclusive", 0.0, 0.0


def decide(test: Test, outcome: Outcome, gain: tuple[float, float], margin: float, *, n_clusters: int, error: float = 0.0) -> tuple[Decided, str]:
    """(decision, reason) of a rule's test.

    no-worse: fails where worse is shown; passes where the interval lies above −margin. non-inferior: the same, but an open question is no pass
    (see gate.py). better: passes where better is shown, fails where worse or equivalent is. equivalent: passes where that is shown, fails
    where better or worse is.
    """
    if test in ("no-worse", "non-inferior"):
        if outcome == "worse":
            return "fail", "worse by more than the margin"
        low = gain[0]
        if low <= -margin and outcome not in ("better", "equivalent"):
            return "inconclusive", "a loss of more than the margin is not ruled out"
        if n_clusters < MIN_CLUSTERS:
            return "inconclusive", f"{n_clusters} clusters are too few to decide on"
        flip = flip_probability(low + margin, INFINITE, error) if low > -margin else 0.0
        if flip > MOST_FLIPS:
            return "inconclusive", f"a re-run on the same items would not rule out the margin with a probability of about {flip:.0%}"
        return "pass", "no loss beyond the margin"
    if test == "better":
        shown: dict[Outcome, tuple[Decided, str]] = {"better": ("pass", "better by more than the margin"), "worse": ("fail", "worse by more than the margin"),
                                                     "equivalent": ("fail", "equivalent, where better is asked for")}
    else:
        shown = {"equivalent": ("pass", "equivalent within the margin"), "better": ("fail", "differs by more than the margin (better)"),
                 "worse": ("fail", "differs by more than the margin (worse)")}
    return shown.get(outcome, ("inconclusive", f"{test} is neither shown nor refuted"))
