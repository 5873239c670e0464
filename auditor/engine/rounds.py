"""Driving one suite: all samples advance together, a round of requests at a time.

Every sample is a generator that yields requests and is sent their replies. The requests of a round are batched
across samples; each batch is recorded before the next one starts. On resume the same rounds are planned again, batches
that are recorded whole are skipped and the others replayed whole, so that the numbers equal an uninterrupted run's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from auditor.engine.plan import placed
from auditor.engine.progress import Progress, Silent
from auditor.errors import EngineError
from auditor.schema import Context, Judge, Judgment, Message, Model, Replies, Reply, Request, Sample, Score, Suite, SuiteData
from auditor.store import RunWriter

Place = tuple[str, int]  # sample id, epoch
Key = tuple[str, str, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """Who answers: the audited model, and the judge if there is one. ``system`` goes before every prompt of the model."""

    model: Model
    judge: Judge | None = None
    system: str | None = None


@dataclass(slots=True, kw_only=True)
class SuiteRun:
    """One suite on one model. ``name`` is what it is recorded under (``judge_gate`` for the judge's own audit)."""

    suite: Suite
    samples: Sequence[Sample]
    engines: Engines
    writer: RunWriter
    context: Context
    name: str = ""
    epochs: int = 1
    recorded: Mapping[Key, Reply] = field(default_factory=dict)
    progress: Progress = field(default_factory=Silent)
    replies: dict[Place, Replies] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)

    def execute(self) -> SuiteData:
        """Run every sample to its end and return what aggregation needs.

        Raises EngineError or StoreError; what was recorded before stays.
        """
        self.name = self.name or self.suite.name
        by_id = {sample.id: sample for sample in self.samples}
        self.progress.suite(self.name, len(by_id) * self.epochs)
        running = {(sample.id, epoch): self.suite.solve(sample, self.context) for sample in self.samples for epoch in range(self.epochs)}
        asked = self._first(running)
        turn = 0
        while asked:
            answers = self._answer([request for requests in asked.values() for request in requests])
            for place, requests in asked.items():
                self.replies[place] = (*self.replies.get(place, ()), tuple(answers[request.key] for request in requests))
            turn += 1
            following = {place: self._send(running[place], place, turn) for place in asked}
            self._score(by_id, [place for place, requests in following.items() if requests is None])
            asked = {place: requests for place, requests in following.items() if requests is not None}
        self.progress.done(self.name)
        return SuiteData(samples=tuple(self.samples), replies=self.replies, scores=tuple(self.scores), context=self.context)

    def _first(self, running: Mapping[Place, Generator[list[Request], list[Reply], None]]) -> dict[Place, list[Request]]:
        asked = {}
        for place, solving in running.items():
            requests = next(solving, None)
            if requests is None:
                raise EngineError(f"suite {self.name}: sample {place[0]!r} asks nothing")
            asked[place] = self._place(requests, place, 0)
        return asked

    def _send(self, solving: Generator[list[Request], list[Reply], None], place: Place, turn: int) -> list[Request] | None:
        try:
            return self._place(solving.send(list(self.replies[place][-1])), place, turn)
        except StopIteration:
            return None

    def _place(self, requests: Iterable[Request], place: Place, turn: int) -> list[Request]:
        filled = [placed(request, self.name, place, (turn, slot), self.context.seed) for slot, request in enumerate(requests)]
        if self.engines.system is None:
            return filled
        system = Message(role="system", content=self.engines.system)
        return [request if request.kind == "judge" else replace(request, messages=(system, *request.messages)) for request in filled]

    def _answer(self, requests: Sequence[Request]) -> dict[Key, Reply]:
        self.progress.expect(len(requests))
        judged = [request for request in requests if request.kind == "judge"]
        asked = [request for request in requests if request.kind != "judge"]
        answers: dict[Key, Reply] = {}
        if asked:
            for batch in self.engines.model.plan(asked):
                answers.update(self._batch(batch))
        judge = self.engines.judge
        if judged and judge is None:
            self.progress.advance(len(judged))
            answers.update({request.key: Judgment(a=request.options[0], b=request.options[1], status="no_judge") for request in judged})
        elif judged and judge is not None:
            for batch in judge.plan(judged):
                answers.update(self._batch(batch))
        return answers

    def _batch(self, batch: list[Request]) -> dict[Key, Reply]:
        if all(request.key in self.recorded for request in batch):
            self.progress.advance(len(batch))
            return {request.key: self.recorded[request.key] for request in batch}
        by_judge = batch[0].kind == "judge"
        if by_judge and self.engines.judge is not None:
            replies: list[Reply] = list(self.engines.judge.judge(batch))
        else:
            replies = list(self.engines.model.run(batch))
        pairs = list(zip(batch, replies, strict=True))
        self.writer.replies(self.name, "judge" if by_judge else "model", pairs)
        self.progress.advance(len(batch))
        return {request.key: reply for request, reply in pairs}

    def _score(self, by_id: Mapping[str, Sample], finished: Sequence[Place]) -> None:
        new = [replace(score, epoch=place[1]) for place in finished
               for score in self.suite.score(by_id[place[0]], self.replies[place], self.context)]
        if new:
            self.writer.scores(self.name, new)
            self.scores.extend(new)
