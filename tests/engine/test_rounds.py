"""Driving a suite: rounds, judging, errors, and above all that a killed and resumed run equals an uninterrupted one."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from auditor.engine.rounds import Engines, SuiteRun
from auditor.errors import EngineError
from auditor.models.resolve import EngineOptions, open_model
from auditor.schema import (
    Context,
    Generation,
    Judgment,
    ModelSpec,
    RunRecord,
    RunSpec,
    Sample,
    Score,
    Suite,
    ask,
    assistant,
    compare,
    score_options,
    to_dict,
    user,
)
from auditor.store import RunWriter, Store

TOPICS = ["sea", "law", "bread", "chess", "rain", "trains", "glass", "the fox", "one two three"]
SAMPLES = tuple(Sample(id=topic, messages=(user(f"Tell me about {topic}"),), cluster_id=topic[0]) for topic in TOPICS)


def solve(sample, context):
    """Two drawn completions; their texts decide what is asked next; a third round only for some."""
    first, second = yield [ask(sample.messages, max_tokens=6, temperature=1.0), ask(sample.messages, max_tokens=9, temperature=1.0)]
    follow = (*sample.messages, assistant(first.text), user("Sure?"))
    (options,) = yield [score_options(follow, ["A", "B and more"])]
    if options.logprobs[0].logprob > options.logprobs[1].logprob:
        yield [compare(sample.messages, first.text, second.text)]


def score(sample, replies, context):
    found = [Score(sample_id=sample.id, scorer="length", value=float(len(reply.text)), slot=slot, answer=reply.text) for slot, reply in enumerate(replies[0])]
    found.append(Score(sample_id=sample.id, scorer="logprob", value=replies[1][0].logprobs[0].logprob, turn=1))
    return found


def make_suite(**changes):
    texts = dict.fromkeys(("title", "question", "method", "limits", "reference", "feedback_stage"), "-")
    return Suite(**{"name": "toy", "version": "1", **texts, "load": lambda path: list(SAMPLES), "solve": solve, "score": score,
                    "aggregate": lambda data: [], "criteria": (), **changes})


@pytest.fixture
def model(tiny_checkpoint):
    return open_model(str(tiny_checkpoint), EngineOptions(batch_rows=4))


def record(model, name="r1"):
    spec = RunSpec(suites=("toy",), suite_versions=("1",), model=model.spec)
    return RunRecord(run_id=name, spec=spec, created=datetime.datetime.now(datetime.UTC).isoformat())


def drive(writer, model, *, suite=None, engines=None):
    writer.samples("toy", SAMPLES)
    run = SuiteRun(suite=suite or make_suite(), samples=SAMPLES, engines=engines or Engines(model=model), writer=writer, context=Context(seed=5),
                   recorded=writer.completed())
    return run.execute()


class Dying:
    """The model, until it has answered so many batches."""

    def __init__(self, model, batches):
        self.model, self.left, self.spec = model, batches, model.spec

    def plan(self, requests):
        return self.model.plan(requests)

    def run(self, requests):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.model.run(requests)


def stored_rows(db: Path, run_id: str):
    store = Store.open(db)
    frame = store.scores_frame(run_id).drop(columns=["run_id"])
    return json.loads(frame.to_json(orient="records"))


def test_replies_and_scores_are_recorded(model, tmp_path):
    with RunWriter.create(tmp_path / "a.duckdb", record(model)) as writer:
        data = drive(writer, model)
        writer.finish()
    assert len(data.scores) == 3 * len(SAMPLES)
    rows = stored_rows(tmp_path / "a.duckdb", "r1")
    assert len(rows) == 3 * len(SAMPLES)
    transcript = Store.open(tmp_path / "a.duckdb").transcripts("r1", "toy", "length", "best", limit=1)[0]
    assert transcript.messages[-1]["content"] == f"Tell me about {transcript.sample_id}"
    assert transcript.value == len(transcript.completion)


@pytest.mark.parametrize("batches", [0, 1, 3, 5, 6, 7])
def test_a_resumed_run_equals_an_uninterrupted_one(model, tmp_path, batches):
    whole, broken = tmp_path / "whole.duckdb", tmp_path / "broken.duckdb"
    with RunWriter.create(whole, record(model)) as writer:
        drive(writer, model)
        writer.finish()
    with pytest.raises(KeyboardInterrupt), RunWriter.create(broken, record(model)) as writer:
        drive(writer, Dying(model, batches))
    assert Store.open(broken).run("r1").status == "interrupted"
    with RunWriter.resume(broken, "r1") as writer:
        drive(writer, model)
        writer.finish()
    assert stored_rows(broken, "r1") == stored_rows(whole, "r1")


def test_without_a_judge_a_comparison_has_no_verdict(model, tmp_path):
    with RunWriter.create(tmp_path / "a.duckdb", record(model)) as writer:
        data = drive(writer, model)
    third = [replies[2][0] for replies in data.replies.values() if len(replies) == 3]
    assert third
    assert all(isinstance(judgment, Judgment) and judgment.status == "no_judge" and judgment.prefers_a is None for judgment in third)


class LongerWins:
    spec = ModelSpec(uri="longer")

    def plan(self, requests):
        return [list(requests)]

    def judge(self, requests):
        for request in requests:
            a, b = request.options
            yield Judgment(a=a, b=b, ab=float(len(a) > len(b)), ba=float(len(a) > len(b)))


def test_the_judge_answers_comparisons(model, tmp_path):
    with RunWriter.create(tmp_path / "a.duckdb", record(model)) as writer:
        data = drive(writer, model, engines=Engines(model=model, judge=LongerWins()))
        assert any(isinstance(reply, Judgment) for reply in writer.completed().values())
    third = [replies[2][0] for replies in data.replies.values() if len(replies) == 3]
    assert {judgment.prefers_a for judgment in third} <= {0.0, 1.0}
    assert all(judgment.prefers_a == float(len(judgment.a) > len(judgment.b)) for judgment in third)


def test_the_system_prompt_goes_before_every_prompt(model, tmp_path):
    seen = []

    class Watching(Dying):
        def run(self, requests):
            seen.extend(requests)
            return self.model.run(requests)

    with RunWriter.create(tmp_path / "a.duckdb", record(model)) as writer:
        drive(writer, model, engines=Engines(model=Watching(model, -1), system="Be brief."))
    assert seen
    assert all(to_dict(request.messages[0]) == {"role": "system", "content": "Be brief."} for request in seen)


def test_a_sample_that_asks_nothing_is_an_error(model, tmp_path):
    def silent(sample, context):
        yield from ()

    with RunWriter.create(tmp_path / "a.duckdb", record(model)) as writer, pytest.raises(EngineError, match="asks nothing"):
        drive(writer, model, suite=make_suite(solve=silent))


def test_an_error_reaches_the_score_function_as_an_error(model, tmp_path):
    long = (Sample(id="long", messages=(user("word " * 600),), cluster_id="l"),)

    def one(sample, context):
        yield [ask(sample.messages, max_tokens=3)]

    def fate(sample, replies, context):
        reply = replies[0][0]
        assert isinstance(reply, Generation)
        return [Score(sample_id=sample.id, scorer="x", value=None, status="error", explanation=str(reply.error))]

    with RunWriter.create(tmp_path / "a.duckdb", record(model)) as writer:
        writer.samples("toy", long)
        run = SuiteRun(suite=make_suite(solve=one, score=fate), samples=long, engines=Engines(model=model), writer=writer, context=Context())
        scores = run.execute().scores
    assert "context holds" in scores[0].explanation
    assert scores[0].value is None
