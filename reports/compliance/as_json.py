"""The compliance report as one JSON object: raw numbers, every table of the page (docs/compliance.md says what each key holds)."""

from __future__ import annotations

import json
from typing import Any

from auditor.reports.compliance import lines
from auditor.reports.compliance.about import NOT_STATED, names, stated, to_table
from auditor.reports.compliance.model import Compliance, ControlView, Fact, Measurement, Question
from auditor.reports.compliance.provenance import shapers
from auditor.schema import to_dict

FORMAT, VERSION = "auditor-compliance", 1


def as_object(report: Compliance) -> dict[str, Any]:
    """The report as plain data. ``verdict`` null: no criterion judges the metric; ``value`` null: not measured, ``reason`` says why."""
    run, spec = report.run, report.run.spec
    return {
        "format": FORMAT, "version": VERSION, "statement": lines.statement(report), "evidence": not report.not_evidence, "not_evidence": report.not_evidence,
        "standard": _standard(report), "system": {name: stated(report.about, name) or None for name in names()}, "options": options_table(report),
        "run": {"run_id": run.run_id, "created": run.created, "finished": run.finished, "status": run.status, "profile": spec.profile, "limit": spec.limit,
                "seed": spec.seed, "suites": dict(zip(spec.suites, spec.suite_versions, strict=False)), "spec_hash": spec.hash,
                "git_commit": run.git_commit, "packages": dict(run.packages), "hardware": to_dict(run.hardware), "chain_head": report.chain_head},
        "model": to_dict(spec.model),
        "shaped_by": [{"part": part, "model": name, "weights_hash": digest} for part, name, digest in shapers(spec.model.lineage)],
        "judge": {"model": to_dict(spec.judge), "independent": spec.judge_is_independent if spec.judge else None,
                  "audit": [to_dict(verdict) for verdict in report.gate]},
        "items": [to_dict(item) for item in report.items], "measurements": [_measurement(one) for one in report.measurements],
        "metrics": [to_dict(metric) for metric in report.metrics], "controls": [_control(one) for one in report.controls],
        "gaps": [{"title": group.title, "about": group.about, "gaps": [{"what": what, "why": why} for what, why in group.gaps]} for group in report.gaps],
        "feedback": [_question(one) for one in report.questions], "other_runs": [to_dict(one) for one in report.others],
        "limits": [{"of": title, "limits": text} for title, text in (("owner", stated(report.about, "limits") or NOT_STATED), *report.limits)],
        "sign_off": {"name": report.about.reviewer.name or None, "role": report.about.reviewer.role or None, "date": None, "signature": None, "decision": None},
    }


def render(report: Compliance) -> str:
    """The object as text with a final newline: keys in a fixed order, no NaN."""
    return json.dumps(as_object(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def options_table(report: Compliance) -> dict[str, Any]:
    """What the report was made from besides the store, so that it can be made again."""
    options = report.options
    return {"standard": options.standard, "about": to_table(options.about), "draft": options.draft, "until": report.until}


def _standard(report: Compliance) -> dict[str, Any] | None:
    found = report.standard
    return {name: getattr(found, name) for name in ("name", "title", "reference", "source", "as_of", "note")} if found is not None else None


def _measurement(one: Measurement) -> dict[str, Any]:
    metric, verdict = one.metric, one.verdict
    judged = to_dict(verdict) if verdict is not None else None
    if judged is not None:
        del judged["metric"]
    return {"id": one.id, "suite": one.suite, "key": one.key, "metric": to_dict(metric), "verdict": judged, "judge": one.judge,
            "independent": one.independent, "bears_on": list(one.bears_on)}


def _reference(one: Measurement) -> dict[str, Any]:
    return {"id": one.id} if one.id else _measurement(one)


def _fact(fact: Fact) -> dict[str, Any]:
    return {"label": fact.label, "text": fact.text, "present": fact.present, "stated_by_owner": fact.stated}


def _control(one: ControlView) -> dict[str, Any]:
    return {"number": one.control.number, "title": one.control.title, "coverage": one.coverage, "not_shown": one.control.missing,
            "evidence": [{"why": part.evidence.why, "measurements": [_reference(found) for found in part.measurements], "absent": list(part.absent),
                          "records": [_fact(fact) for fact in part.facts]} for part in one.shown]}


def _question(one: Question) -> dict[str, Any]:
    return {"id": one.id, "question": one.question, "standing": one.standing, "records": [_fact(fact) for fact in one.facts],
            "measurements": [_reference(found) for found in one.measurements], "stated_by_owner": one.stated or None, "open": one.open or None}
