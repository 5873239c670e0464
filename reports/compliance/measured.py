"""Criteria and metrics as rows of the report: on whose word each rests, and which controls it bears on."""

from __future__ import annotations

from auditor.reports.build import suite_of
from auditor.reports.compliance.about import LABELS, NOT_STATED, stated
from auditor.reports.compliance.model import ControlView, Coverage, Fact, Measurement, Shown, Source
from auditor.reports.compliance.provenance import gate_passed
from auditor.reports.compliance.standards import Control, Evidence, Standard
from auditor.schema import Metric, Verdict

NO_JUDGE = "needs no judge"


def measurements(source: Source, standard: Standard | None) -> tuple[Measurement, ...]:
    """One row a criterion, in the run's order, with the numbers of the controls that name it."""
    return tuple(_of_verdict(source, verdict, f"m{k}", standard) for k, verdict in enumerate(source.verdicts, 1))


def _of_verdict(source: Source, verdict: Verdict, row: str, standard: Standard | None) -> Measurement:
    metric, key = verdict.metric, verdict.criterion.metric
    bears = tuple(c.number for c in standard.controls if any(matches(p, key) for e in c.evidence for p in e.metrics)) if standard is not None else ()
    judged = metric is not None and metric.judge_based
    return Measurement(id=row, suite=suite_of(verdict), key=key, metric=metric, verdict=verdict, judge=judged_by(source, metric), bears_on=bears,
                       independent=not judged or source.run.spec.judge_is_independent)


def measurement_of(metric: Metric, source: Source) -> Measurement:
    """A metric that no criterion judges."""
    return Measurement(id="", suite=metric.suite, key=f"{metric.suite}.{metric.name}", metric=metric, verdict=None, judge=judged_by(source, metric),
                       independent=not metric.judge_based or source.run.spec.judge_is_independent)


def judged_by(source: Source, metric: Metric | None) -> str:
    """Whether a number rests on a judge, whether that judge passed its own audit, and whether it is independent."""
    if metric is None or not metric.judge_based:
        return NO_JUDGE
    if source.run.spec.judge is None:
        return "rests on a judge; none was given"
    passed = {True: "passed its own audit", False: "did not pass its own audit", None: "was not audited"}[gate_passed(source)]
    return f"judge {passed}, " + ("independent" if source.run.spec.judge_is_independent else "not independent: a pass is withheld")


def matches(pattern: str, key: str) -> bool:
    """Whether a standard's ``*``, ``suite.*`` or ``suite.metric`` means the criterion ``key``."""
    return pattern in ("*", key) or (pattern.endswith(".*") and key.startswith(pattern[:-1]))


def controls(source: Source, standard: Standard, rows: tuple[Measurement, ...], facts: dict[str, Fact]) -> tuple[ControlView, ...]:
    """Each control of the standard with what this run has of its evidence."""
    return tuple(_control(source, control, f"c{k}", rows, facts) for k, control in enumerate(standard.controls, 1))


def _control(source: Source, control: Control, place: str, rows: tuple[Measurement, ...], facts: dict[str, Fact]) -> ControlView:
    shown = tuple(_shown(source, evidence, rows, facts) for evidence in control.evidence)
    return ControlView(id=place, control=control, coverage=coverage(shown), shown=shown)


def coverage(shown: tuple[Shown, ...]) -> Coverage:
    """``measured``: something was decided. ``not decided``: measured, but no verdict stands. ``recorded``: records or statements only. Else ``gap``."""
    found = [one for part in shown for one in part.measurements]
    if any(one.outcome in ("pass", "fail") for one in found):
        return "measured"
    if any(one.metric is not None and one.metric.value is not None for one in found):
        return "not decided"
    return "recorded" if any(fact.present for part in shown for fact in part.facts) else "gap"


def _shown(source: Source, evidence: Evidence, rows: tuple[Measurement, ...], facts: dict[str, Fact]) -> Shown:
    chosen = [one for one in rows if any(matches(pattern, one.key) for pattern in evidence.metrics)]
    keys = {one.key for one in rows}
    plain = [m for m in source.metrics if m.group == "all" and m.key in evidence.metrics and m.key not in keys and m.value is not None]
    chosen += [measurement_of(metric, source) for metric in plain]
    found = {one.key for one in chosen} | {one.suite + ".*" for one in chosen} | ({"*"} if chosen else set())
    absent = tuple(pattern for pattern in evidence.metrics if pattern not in found)
    return Shown(evidence=evidence, measurements=tuple(chosen), absent=absent,
                 facts=(*(facts[name] for name in evidence.records), *(_statement(source, name) for name in evidence.stated)))


def _statement(source: Source, name: str) -> Fact:
    said = stated(source.options.about, name)
    return Fact(label=LABELS[name], text=said or NOT_STATED, present=bool(said), stated=True)
