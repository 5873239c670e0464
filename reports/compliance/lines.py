"""Measurements as text: the same words for the page and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from auditor.reports import numbers, wording
from auditor.reports.compliance.model import Compliance, Measurement
from auditor.reports.environment import to_the_second
from auditor.schema import Outcome

NO_CRITERION = "no criterion"
COVERAGE = {"measured": "Measured", "not decided": "Not decided", "recorded": "Records only", "gap": "Gap"}
STANDING = {"answered": "Answered by the store", "partly": "Answered in part", "stated": "Stated, not measured", "open": "Open"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measurement, all of it text."""

    id: str
    suite: str
    label: str
    outcome: Outcome | None
    verdict: str
    value: str
    interval: str
    n: str
    clusters: str
    unscored: str
    method: str
    bound: str
    rationale: str
    source: str
    required: bool
    p: str
    p_adjusted: str
    judge: str
    reason: str
    notes: tuple[str, ...]
    bears_on: tuple[str, ...]


def line(one: Measurement, titles: dict[str, str]) -> Line:
    """A measurement in words."""
    metric, verdict = one.metric, one.verdict
    criterion = verdict.criterion if verdict is not None else None
    unit = wording.unit_of(metric)
    group = criterion.group if criterion is not None else metric.group if metric is not None else "all"
    return Line(
        id=one.id, suite=titles.get(one.suite, one.suite), label=wording.metric_label(one.key, group), outcome=one.outcome,
        verdict=wording.WORDS[one.outcome] if one.outcome is not None else NO_CRITERION,
        value=numbers.number(metric.value, unit) if metric is not None else numbers.NOT_ASSESSED,
        interval=numbers.interval(metric.ci, unit) if metric is not None else "–", n=numbers.count(metric.n if metric is not None else None),
        clusters=numbers.count(metric.n_clusters if metric is not None else None),
        unscored=numbers.count(metric.n_unscored if metric is not None else None),
        method=metric.ci.method if metric is not None and metric.ci is not None else "",
        bound=numbers.bound(criterion.bound, criterion.direction, unit) if criterion is not None else "–",
        rationale=wording.sentence(criterion.rationale) if criterion is not None else "", source=criterion.source.rstrip(".") if criterion is not None else "",
        required=criterion.required if criterion is not None else False, p=wording.p_value(verdict.p_value if verdict is not None else None),
        p_adjusted=wording.p_value(verdict.p_adjusted if verdict is not None else None), judge=one.judge,
        reason=wording.remainder(verdict) if verdict is not None else "",
        notes=tuple(wording.sentence(flag) for flag in metric.flags) if metric is not None else (), bears_on=one.bears_on)


def counts_text(rows: tuple[Measurement, ...]) -> str:
    """``2 fail, 1 inconclusive, 5 without a criterion``."""
    told = [f"{n} {wording.WORDS[outcome].lower()}" for outcome in wording.ORDER if (n := sum(one.outcome == outcome for one in rows))]
    plain = sum(one.outcome is None for one in rows)
    return ", ".join([*told, *([f"{plain} without a criterion"] if plain else [])])


def name_of(report: Compliance) -> str:
    """The system by its owner's name for it, else the model's."""
    return report.about.system or report.run.spec.model.uri


def headline(report: Compliance) -> str:
    return wording.headline(report.verdicts)


STATEMENT = ("It holds what was measured beside the provisions that the measurements bear on. Whether a provision applies, and whether it is met, is decided "
             "by people with the law or the standard in hand. It certifies nothing, and a passed criterion does not show that the fault is absent elsewhere.")


def statement(report: Compliance) -> str:
    """The sentence that must stand at the top of every format."""
    return ("Neither evidence nor conformity. " if report.not_evidence else "Evidence, not conformity. ") + STATEMENT


def facts_of_run(report: Compliance) -> tuple[tuple[str, str], ...]:
    """Identity of what was tested, in the order a reader asks for it."""
    run, model = report.run, report.run.spec.model
    parents = [entry for entry in model.lineage.get("parents", ()) if isinstance(entry, Mapping)]
    return (
        ("Run", run.run_id), ("Started", to_the_second(run.created)), ("Finished", to_the_second(run.finished or "not finished")),
        ("Profile", run.spec.profile),
        ("Model", model.uri), ("Weights, SHA-256", model.weights_hash or "not recorded"), ("Chat template, SHA-256", model.template_hash or "not recorded"),
        *(("Trained from", f"{entry.get('uri', 'unnamed')}, SHA-256 {entry.get('weights_hash') or 'not recorded'}") for entry in parents),
        ("Run specification, SHA-256", run.spec.hash), ("Source commit of the auditor", run.git_commit or "not recorded"),
        ("Chain of evidence, head", report.chain_head or "not sealed"), ("Seed", str(run.spec.seed)),
        ("Newest run looked at", to_the_second(report.until or "–")),
    )
