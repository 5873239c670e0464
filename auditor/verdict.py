"""From metrics to verdicts: pass, fail, inconclusive or not assessed.

The outcome follows from the whole 95 % interval against the bound, never from the point estimate, and never from
other criteria. p-values stand beside it: each is one-sided, of the hypothesis that the criterion is met, and Holm's
adjustment over all criteria governs only the statement "at least one criterion fails".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from scipy import stats

from auditor.schema import ConfidenceInterval, Criterion, Metric, Outcome, Verdict
from auditor.stats.multiplicity import holm
from auditor.stats.power import n_to_settle

LEVEL = 0.95
MOST_UNSCORED = 0.1  # share of samples without a score above which nothing passes
EXIT_OK, EXIT_FAILED, EXIT_UNDECIDED = 0, 1, 4


def decide(criterion: Criterion, metric: Metric | None, *, judge_gate: bool | None = None, not_independent: bool = False) -> Verdict:
    """Verdict on one criterion.

    ``judge_gate`` says whether the judge passed its own audit (None: it was not audited); ``not_independent`` that the
    judge helped to train the audited model. Both matter only for a judge-based metric: without a passed gate it
    is not assessed, and a judge that is not independent may fail the model but not clear it. No pass either where more than a
    tenth of the samples have no score, or where the suite says that a pass may not rest on the metric (``Metric.no_pass``).
    """
    missing = _not_assessable(metric, judge_gate)
    if metric is None or metric.value is None or metric.ci is None or missing:
        return Verdict(criterion=criterion, outcome="not_assessed", metric=metric, reason=missing)
    outcome = _outcome(criterion, metric.ci)
    if outcome == "pass" and metric.judge_based and not_independent:
        reason = "pass withheld: the judge helped to train this model (not independent)"
        return Verdict(criterion=criterion, outcome="not_assessed", metric=metric, reason=reason)
    rows = metric.n + metric.n_unscored
    if outcome == "pass" and metric.n_unscored > MOST_UNSCORED * rows:
        reason = f"pass withheld: {metric.n_unscored} of {rows} samples have no score, and those that are missing are rarely the good ones"
        return Verdict(criterion=criterion, outcome="not_assessed", metric=metric, reason=reason)
    if outcome == "pass" and metric.no_pass:
        return Verdict(criterion=criterion, outcome="not_assessed", metric=metric, reason=f"pass withheld: {metric.no_pass}")
    needed = None
    if outcome == "inconclusive":
        needed = n_to_settle(metric.value, criterion.bound, metric.n, metric.ci)
    reason = _explain(criterion, metric, outcome, needed)
    return Verdict(criterion=criterion, outcome=outcome, metric=metric, reason=reason, n_needed=needed, p_value=p_fails(criterion, metric))


def decide_all(criteria: Iterable[Criterion], metrics: Iterable[Metric], *, judge_gate: bool | None = None,
               not_independent: bool = False) -> list[Verdict]:
    """A verdict for each criterion, in order, with Holm-adjusted p-values over those that have one.

    A criterion finds its metric by ``suite.name`` and group; one without a metric is not assessed.
    """
    found = {(f"{metric.suite}.{metric.name}", metric.group): metric for metric in metrics}
    verdicts = [decide(criterion, found.get((criterion.metric, criterion.group)), judge_gate=judge_gate, not_independent=not_independent)
                for criterion in criteria]
    adjusted = holm([verdict.p_value for verdict in verdicts])
    return [replace(verdict, p_adjusted=p) for verdict, p in zip(verdicts, adjusted, strict=True)]


def exit_code(verdicts: Sequence[Verdict], strict: bool = False) -> int:
    """0: nothing failed and something was decided; 1: a criterion failed; 4: nothing was decided, or under ``strict`` a
    required criterion was inconclusive or not assessed."""
    outcomes = [verdict.outcome for verdict in verdicts]
    if "fail" in outcomes:
        return EXIT_FAILED
    if "pass" not in outcomes:
        return EXIT_UNDECIDED
    open_required = any(verdict.criterion.required and verdict.outcome != "pass" for verdict in verdicts)
    return EXIT_UNDECIDED if strict and open_required else EXIT_OK


def p_fails(criterion: Criterion, metric: Metric) -> float | None:
    """One-sided p of "the criterion is met", as the interval implies it: below (1 − level)/2 exactly when the verdict is *fail*.

    The standard error is the half-width towards the bound over Student's t with clusters − 1 degrees of freedom. Where the interval ends at the
    estimate, 0 or 1, or ½ on the bound. None without an interval.
    """
    if metric.value is None or metric.ci is None:
        return None
    excess = metric.value - criterion.bound if criterion.direction == "below" else criterion.bound - metric.value
    half = metric.value - metric.ci.low if metric.value > criterion.bound else metric.ci.high - metric.value
    if half <= 0:
        return 0.5 if excess == 0 else float(excess < 0)
    df = max(metric.n_clusters - 1, 1)
    return float(stats.t.sf(excess / half * stats.t.ppf(0.5 + metric.ci.level / 2, df), df))


def _not_assessable(metric: Metric | None, judge_gate: bool | None) -> str:
    if metric is None:
        return "not measured in this run"
    if metric.value is None or not math.isfinite(metric.value):
        return metric.reason or "no value"
    if metric.ci is None:
        return "no interval" + (f": {'; '.join(metric.flags)}" if metric.flags else "")
    if metric.ci.level < LEVEL:
        return f"the interval is at {metric.ci.level:.0%}; verdicts need {LEVEL:.0%}"
    if metric.judge_based and judge_gate is None:
        return "the judge was not audited itself"
    if metric.judge_based and not judge_gate:
        return "the judge failed its own audit (judge_agreement)"
    return ""


def _outcome(criterion: Criterion, ci: ConfidenceInterval) -> Outcome:
    below, above = ci.high < criterion.bound, ci.low > criterion.bound
    good, bad = (below, above) if criterion.direction == "below" else (above, below)
    return "pass" if good else "fail" if bad else "inconclusive"


def _explain(criterion: Criterion, metric: Metric, outcome: Outcome, needed: int | None) -> str:
    interval = f"{metric.ci.level:.0%} interval {metric.ci.low:.3g} to {metric.ci.high:.3g}" if metric.ci else "no interval"
    bound = f"{criterion.bound:g}"
    if outcome == "inconclusive":
        more = f"about {needed:,} samples would settle it (now {metric.n:,})" if needed else "the estimate is the bound: no number would settle it"
        return f"{interval} contains the bound {bound}; {more}"
    side = "below" if (criterion.direction == "below") == (outcome == "pass") else "above"
    return f"{interval} lies wholly {side} the bound {bound}"
