"""Scoring a run again without asking its model again: for a suite whose scoring or criteria changed since.

The suite's own code drives the stored samples and is given the stored replies. Where it asks something that the run did not ask, that request has
no reply: its scores are missing and counted. The result is a run of its own, which names the one it was scored from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from auditor.engine.audit import Prepared, execute, new_record
from auditor.engine.gate import GATE
from auditor.engine.progress import Progress
from auditor.engine.suites import load_suites
from auditor.engine.training_steps import training_steps
from auditor.errors import InputError, UnknownNameError
from auditor.models.embed import load_embedder
from auditor.models.replies import place_of
from auditor.schema import Generation, Judgment, ModelSpec, Reply, Request, Verdict
from auditor.store import RunWriter, Store
from auditor.store.codec import asked
from auditor.store.exchanges import Key, exchanges

BATCH = 4096
UNASKED = "the run that is scored again did not ask this"


class StoredReplies:
    """A run's replies as a model and as a judge. Nothing is loaded."""

    def __init__(self, spec: ModelSpec, found: Mapping[Key, tuple[tuple[str, ...], Reply]]) -> None:
        self.spec, self.found = spec, found
        self.unasked = 0

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        return [list(requests[start:start + BATCH]) for start in range(0, len(requests), BATCH)]

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]:
        for request in requests:
            reply = self._reply(request)
            yield reply if isinstance(reply, Generation) else Generation(**place_of(request, self.spec.uri), finish_reason="error", error=UNASKED)

    def judge(self, requests: Sequence[Request]) -> Iterator[Judgment]:
        for request in requests:
            reply = self._reply(request)
            yield reply if isinstance(reply, Judgment) else Judgment(a=request.options[0], b=request.options[1], status="error", explanation=UNASKED)

    def _reply(self, request: Request) -> Reply | None:
        question, reply = self.found.get(request.key, ((), None))
        if question == asked(request):
            return reply
        self.unasked += 1
        return None


def rescore(db: Path, name: str, suites: Sequence[str] = (), progress: Progress | None = None) -> tuple[str, list[Verdict], int]:
    """Score a finished run's suites (all of them by default) again; returns the new run's id, its verdicts, and how many requests had no reply.

    Raises UnknownNameError for an unknown run, or a suite that the run does not have; InputError where it is not finished or too old to tell what it asked.
    """
    store = Store.open(db)
    stored = store.run(name)
    if stored.status != "done":
        raise InputError(f"run {stored.run_id} is {stored.status}; finish it first: auditor run --resume {stored.run_id}")
    unknown = next((suite for suite in suites if suite not in stored.spec.suites), None)
    if unknown is not None:
        raise UnknownNameError(f"suite of run {stored.run_id}", unknown, stored.spec.suites)
    chosen = load_suites(tuple(suites) or stored.spec.suites)
    old = stored.spec
    spec = replace(old, suites=tuple(suite.name for suite in chosen), suite_versions=tuple(suite.version for suite in chosen),
                   items=tuple(item for item in old.items if item[0] in {suite.name for suite in chosen}),
                   sampling={**old.sampling, "scored_from": stored.run_id}, criteria=tuple(criterion for suite in chosen for criterion in suite.criteria))
    wanted = any(suite.needs_embedder for suite in chosen)
    embed, embed_name = load_embedder(old.sampling.get("embedder")) if wanted else (None, "")
    found = exchanges(db, stored.run_id)
    model = StoredReplies(old.model, found)
    judge = StoredReplies(old.judge, found) if old.judge else None
    earlier = store.run(old.baseline) if old.baseline else None
    prepared = Prepared(spec=spec, db=db, model=model, judge_model=judge, judge=judge, suites=chosen, baseline=old.baseline,
                        samples={suite.name: store.samples(stored.run_id, suite.name) for suite in chosen}, embed=embed, embed_name=embed_name,
                        baseline_suites=earlier.spec.suites if earlier else (), training=training_steps(old.model),
                        gate_samples=store.samples(stored.run_id, GATE) if judge else None)
    record = new_record(spec, dict(stored.hardware))  # the hardware of the replies, with what their dtype changed
    writer = RunWriter.create(db, record)
    with writer:
        verdicts = execute(prepared, writer, progress)
    return record.run_id, verdicts, model.unasked + (judge.unasked if judge else 0)
