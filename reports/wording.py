"""Verdicts in plain words. Every sentence is made from the stored metric and criterion; nothing is computed anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from auditor.reports import numbers
from auditor.reports.text import humanise, lower_first
from auditor.schema import Criterion, Metric, Outcome, Verdict

ORDER: tuple[Outcome, ...] = ("fail", "inconclusive", "pass", "not_assessed")
WORDS: dict[Outcome, str] = {"fail": "Fail", "inconclusive": "Inconclusive", "pass": "Pass", "not_assessed": "Not assessed"}
HEADINGS: dict[Outcome, tuple[str, str]] = {
    "fail": ("Fails", "The whole 95 % interval lies on the wrong side of the bound: sampling error alone does not explain it."),
    "inconclusive": ("Inconclusive", "The bound lies inside the interval: this run cannot tell."),
    "pass": ("Passes", "The whole 95 % interval lies on the good side of the bound."),
    "not_assessed": ("Not assessed", "Nothing is known either way: this is neither a pass nor a fail."),
}
NOT_INDEPENDENT = "not independent"


def headline(verdicts: Sequence[Verdict]) -> str:
    """``2 criteria fail, 1 passes, 3 are inconclusive, 6 are not assessed.``"""
    counts = Counter(verdict.outcome for verdict in verdicts)
    if not verdicts:
        return "No criterion was set, so nothing was decided."
    forms: dict[Outcome, tuple[str, str]] = {
        "fail": ("fails", "fail"),
        "pass": ("passes", "pass"),
        "inconclusive": ("inconclusive",) * 2,
        "not_assessed": ("not assessed",) * 2,
    }
    parts: list[str] = []
    for outcome in ("fail", "pass", "inconclusive", "not_assessed"):
        n = counts[outcome]
        if n:
            noun = "" if parts else (" criterion" if n == 1 else " criteria")
            word = forms[outcome][0 if n == 1 else 1]
            parts.append(f"{n}{noun} {word}")
    return ", ".join(parts) + "."


def metric_label(metric: str, group: str = "all") -> str:
    """``sycophancy.stance_flip`` in group ``maths`` -> ``Stance flip (maths)``."""
    name = humanise(metric.rpartition(".")[2])
    return name if group == "all" else f"{name} ({lower_first(humanise(group))})"


def unit_of(metric: Metric | None) -> str:
    return metric.unit if metric is not None else "proportion"


def requirement(criterion: Criterion, metric: Metric | None) -> str:
    """``must be below 10 %``."""
    return f"{'must' if criterion.required else 'should'} be {numbers.bound(criterion.bound, criterion.direction, unit_of(metric))}"


def statement(verdict: Verdict) -> str:
    """The number with its interval, and what it is held against: one sentence."""
    metric = verdict.metric
    must = requirement(verdict.criterion, metric)
    if metric is None or metric.value is None:
        return f"No value; it {must}."
    return f"{numbers.value_with_interval(metric)}; it {must}."


def basis(metric: Metric | None) -> str:
    """``240 samples in 60 clusters, 3 unscored``; empty where nothing was measured."""
    if metric is None or not (metric.n or metric.n_unscored):
        return ""
    clusters = f" in {numbers.plural(metric.n_clusters, 'cluster')}" if metric.n_clusters else ""
    unscored = f", {metric.n_unscored:,} unscored" if metric.n_unscored else ""
    return f"{numbers.plural(metric.n, 'sample')}{clusters}{unscored}"


def remainder(verdict: Verdict) -> str:
    """What the outcome's own heading does not say: the n that would settle it, or why it was not assessed."""
    if verdict.outcome == "inconclusive":
        return settling(verdict)
    if verdict.outcome == "not_assessed":
        return sentence(verdict.reason or "no reason was recorded")
    return ""


def settling(verdict: Verdict) -> str:
    """``About 3,210 samples would settle it if the estimate stays (now 240).``"""
    if verdict.n_needed and verdict.metric is not None:
        return f"About {numbers.plural(verdict.n_needed, 'sample')} would settle it if the estimate stays (now {verdict.metric.n:,})."
    return "No number of samples can be named that would settle it: the estimate is too close to the bound."


def summary_p(verdicts: Sequence[Verdict]) -> str:
    """The one statement that Holm's adjustment governs: that at least one criterion fails."""
    adjusted = [verdict.p_adjusted for verdict in verdicts if verdict.p_adjusted is not None]
    if not adjusted:
        return ""
    least = min(adjusted)
    shown = "below 0.001" if least < 0.001 else f"{least:.3f}"
    claim = (
        "the claim that at least one criterion fails is supported"
        if least < 0.05
        else "the claim that at least one criterion fails is not supported"
    )
    return f"Over all criteria together, {claim} (smallest p after Holm’s adjustment: {shown}). Each single verdict uses its own interval."


def p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def sentence(text: str) -> str:
    """The text with a capital at its start and a full stop at its end."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")
