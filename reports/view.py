"""The view model: what the templates print, made from the store and the suites' texts. Nothing here computes a statistic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditor.reports import numbers, wording
from auditor.reports.figures import Row, bullet, row_of
from auditor.reports.images import Figure, Image, Table, image
from auditor.reports.transcripts import TranscriptGroup
from auditor.schema import Metric, Outcome, Verdict
from auditor.store import StoredRun

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One verdict in words, with a small picture of its interval against the bound."""

    outcome: Outcome
    label: str
    suite_id: str
    suite_title: str
    statement: str
    basis: str
    meaning: str
    remainder: str
    rationale: str
    source: str
    required: bool
    p: str = ""
    p_adjusted: str = ""
    warnings: tuple[str, ...] = ()
    bullet: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLine:
    """One row of the table of measurements, all of it text."""

    label: str
    value: str
    interval: str
    n: str
    clusters: str
    unscored: str
    design_effect: str
    method: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteView:
    """One suite's section."""

    id: str
    position: int
    name: str
    title: str
    question: str
    method: str
    limits: str
    reference: str
    stage: str
    version: str
    findings: tuple[Finding, ...]
    lines: tuple[MetricLine, ...]
    figures: tuple[Figure, ...]
    transcripts: tuple[TranscriptGroup, ...]
    unscored: Facts = ()
    redacted: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeView:
    """``present`` False: no judge was given. ``gate`` are the verdicts of the judge's own audit."""

    present: bool
    facts: Facts = ()
    gate: tuple[Finding, ...] = ()
    gate_lines: tuple[MetricLine, ...] = ()
    resting: tuple[MetricLine, ...] = ()
    not_independent: tuple[str, ...] = ()
    withheld: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several runs beside each other: (letter, model, run id), a table of values, and for each run after the first its paired differences from it."""

    runs: tuple[tuple[str, str, str], ...]
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: tuple[Figure, ...]
    differences: tuple[tuple[str, Table], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The whole page."""

    run: StoredRun
    model: str
    date: str
    headline: str
    counts: tuple[tuple[Outcome, int], ...]
    groups: tuple[tuple[Outcome, tuple[Finding, ...]], ...]
    summary_p: str
    suites: tuple[SuiteView, ...]
    overview: Figure | None
    key_figure: Figure | None
    loop: Figure | None
    stages: tuple[tuple[str, tuple[Finding, ...]], ...]
    unplaced: tuple[tuple[str, str], ...]
    not_evidence: str
    notice: str
    judge: JudgeView
    setup: Facts
    settings: Facts
    packages: Facts
    hashes: Facts
    carried: str
    earlier: tuple[tuple[str, ...], ...]
    comparison: Comparison | None = None
    redact: bool = False


def finding(verdict: Verdict, suite_id: str, suite_title: str) -> Finding:
    """A verdict as people read it."""
    criterion, metric = verdict.criterion, verdict.metric
    return Finding(
        outcome=verdict.outcome,
        label=wording.metric_label(criterion.metric, criterion.group),
        suite_id=suite_id,
        suite_title=suite_title,
        statement=wording.statement(verdict),
        basis=wording.basis(metric),
        meaning=wording.HEADINGS[verdict.outcome][1],
        remainder=wording.remainder(verdict),
        rationale=wording.sentence(criterion.rationale),
        source=criterion.source.rstrip("."),
        required=criterion.required,
        p=wording.p_value(verdict.p_value),
        p_adjusted=wording.p_value(verdict.p_adjusted),
        warnings=tuple(wording.sentence(flag) for flag in metric.flags) if metric is not None else (),
        bullet=_bullet(verdict),
    )


def forest_row(verdict: Verdict, place: str = "") -> Row | None:
    """The verdict's metric with its bound, or None where it has no value; ``place`` names the suite where several share a figure."""
    criterion, metric = verdict.criterion, verdict.metric
    if metric is None:
        return None
    label = wording.metric_label(criterion.metric, criterion.group)
    must = numbers.bound(criterion.bound, criterion.direction, metric.unit)
    sub = f"{place} · {must}" if place else f"must be {must}"
    return row_of(metric, label, sub=sub, bound=criterion.bound, direction=criterion.direction, outcome=verdict.outcome)


def _bullet(verdict: Verdict) -> Image | None:
    row = forest_row(verdict)
    return image(bullet(row)) if row is not None else None


def metric_line(metric: Metric) -> MetricLine:
    """One measurement as a row of text; the notes hold the reason of a missing value, the flags, and how it was made."""
    notes = [wording.sentence(text) for text in ((metric.reason,) if metric.value is None and metric.reason else ()) + metric.flags]
    if metric.judge_based:
        notes.append("Rests on a judge.")
    deff = metric.design_effect
    return MetricLine(
        label=wording.metric_label(metric.name, metric.group),
        value=numbers.number(metric.value, metric.unit),
        interval=numbers.interval(metric.ci, metric.unit),
        n=numbers.count(metric.n),
        clusters=numbers.count(metric.n_clusters),
        unscored=numbers.count(metric.n_unscored),
        design_effect="–" if deff is None else f"{deff:.2f}",
        method=metric.ci.method if metric.ci is not None else "–",
        notes=tuple(notes),
    )


def grouped(findings: Sequence[Finding]) -> tuple[tuple[Outcome, tuple[Finding, ...]], ...]:
    """Findings by outcome, what fails first; empty groups left out."""
    by_outcome: Mapping[Outcome, tuple[Finding, ...]] = {o: tuple(f for f in findings if f.outcome == o) for o in wording.ORDER}
    return tuple((outcome, group) for outcome, group in by_outcome.items() if group)
