"""The judge gate: a judge is audited itself before any of its judgments may decide anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from auditor.engine.plan import QUICK_LIMIT, load_samples, select
from auditor.engine.progress import Progress
from auditor.engine.rounds import Engines, SuiteRun
from auditor.engine.suites import load_suite
from auditor.schema import Context, Criterion, Judge, Reply
from auditor.store import RunWriter
from auditor.verdict import decide_all

if TYPE_CHECKING:
    from auditor.engine.audit import Prepared

GATE = "judge_gate"


def open_gate(prepared: Prepared, writer: RunWriter, recorded: Mapping[tuple[str, str, int, int, int], Reply],
              progress: Progress) -> tuple[Judge | None, bool | None]:
    """Audit the judge with the judge_agreement suite; return it and whether it passed (None without a judge)."""
    if prepared.judge_model is None:
        return None, None
    from auditor.judges.gate import gate
    from auditor.judges.pairwise import PairwiseJudge

    suite = load_suite("judge_agreement")
    spec = prepared.spec
    limit = spec.limit if spec.limit is not None else (QUICK_LIMIT if spec.profile == "quick" else None)
    samples = prepared.gate_samples
    if samples is None:
        samples = select(load_samples(suite.load, None, GATE), limit, spec.seed)
    writer.samples(GATE, samples)
    run = SuiteRun(suite=suite, name=GATE, samples=samples, writer=writer, progress=progress, context=Context(seed=spec.seed),
                   engines=Engines(model=prepared.judge_model), recorded={key: reply for key, reply in recorded.items() if key[0] == GATE})
    metrics = [replace(metric, suite=GATE) for metric in suite.aggregate(run.execute())]
    verdicts = decide_all([_for_gate(criterion) for criterion in suite.criteria], metrics)
    writer.metrics(metrics)
    writer.verdicts(verdicts)
    passed, _ = gate(verdicts)
    return prepared.judge or PairwiseJudge(prepared.judge_model), passed


def _for_gate(criterion: Criterion) -> Criterion:
    return replace(criterion, metric=criterion.metric.replace("judge_agreement.", f"{GATE}.", 1), required=False)
