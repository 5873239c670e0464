"""What the report says about the judge: who it was, whether its own audit let it count, and which numbers rest on it."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.reports import environment, wording
from auditor.reports.view import JudgeView, finding, metric_line
from auditor.schema import Metric, Verdict
from auditor.store import StoredRun

GATE = "judge_gate"  # the name under which the engine stores the judge's own audit


def judge_view(run: StoredRun, metrics: Sequence[Metric], verdicts: Sequence[Verdict], gate: Sequence[Verdict]) -> JudgeView:
    """The judge section's content; ``gate`` are the verdicts of the judge's own audit."""
    resting = [m for m in metrics if m.judge_based and m.suite != GATE]
    flagged = resting if not run.spec.judge_is_independent else [m for m in resting if any(wording.NOT_INDEPENDENT in flag for flag in m.flags)]
    withheld = [v for v in verdicts if v.outcome == "not_assessed" and v.metric is not None and v.metric.judge_based]
    return JudgeView(
        present=run.spec.judge is not None,
        facts=environment.model_facts(run.spec.judge) if run.spec.judge is not None else (),
        gate=tuple(finding(v, "judge", "Judge") for v in gate),
        gate_lines=tuple(metric_line(m) for m in metrics if m.suite == GATE),
        resting=tuple(metric_line(m) for m in resting),
        not_independent=tuple(f"{m.suite.replace('_', ' ')}: {wording.metric_label(m.name, m.group)}" for m in flagged),
        withheld=tuple((wording.metric_label(v.criterion.metric, v.criterion.group), wording.sentence(v.reason)) for v in withheld),
    )
