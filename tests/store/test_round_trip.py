"""What is written is what is read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from auditor.errors import InputError, StoreError, UnknownNameError
from auditor.schema import Generation, Request, Sample, Score, Usage, user
from auditor.store import RunWriter, Store
from auditor.store.journal import directory

HOSTILE = [
    "it's \"quoted\"; DROP TABLE run; --",
    "nul \x00 inside",
    "emoji 🤖👩‍👩‍👧 and \u202e right-to-left",
    "line\nbreaks\r\n\tand \u2028 separators \u2029",
    "x" * 300_000,
    "",
    "{\"json\": [1, null]} \\u0000 \\",
]


@pytest.fixture
def full(db, make):
    """Records a finished run with every kind of record; returns what was put in."""
    items = make.samples()
    not_made = make.metric("other", None, group="b", reason="no judge", higher_is_better=True, judge_based=True, flags=("low mass", "ä"),
                           design_effect=1.25)
    put = {"items": items, "replies": [*make.replies(items), *make.options(items)], "judged": make.judgments(items),
           "scores": make.scores(items), "metrics": [make.metric(), not_made], "verdicts": [make.verdict()]}
    with RunWriter.create(db, make.record()) as writer:
        writer.samples("tone", items)
        writer.replies("tone", "model", put["replies"])
        writer.replies("tone", "judge", put["judged"])
        writer.scores("tone", put["scores"])
        writer.metrics(put["metrics"])
        writer.verdicts(put["verdicts"])
        put["completed"], put["scored"] = writer.completed(), writer.scored("tone")
        writer.finish()
    return put


def test_everything_comes_back_equal(db, make, full):
    store = Store.open(db)
    run = store.run("run-1")
    assert run.record == replace(make.record(), status="done")
    assert run.spec.hash == make.record().spec.hash
    assert (run.status, run.pending, run.error, run.notice, run.evidence) == ("done", 0, None, "", True)
    assert run.finished is not None
    assert store.metrics("run-1") == full["metrics"]
    assert store.verdicts("run-1") == full["verdicts"]
    assert store.samples("run-1", "tone") == full["items"]
    assert full["completed"] == {request.key: reply for request, reply in [*full["replies"], *full["judged"]]}
    assert full["scored"] == full["scores"]


def test_a_subset_is_not_evidence(db, make):
    record = make.record()
    RunWriter.create(db, replace(record, spec=replace(record.spec, limit=5))).finish()
    RunWriter.create(db, replace(record, run_id="quick", spec=replace(record.spec, profile="quick"))).finish()
    assert [run.evidence for run in Store.open(db).runs()] == [False, False]


def test_hostile_text_survives(db, make):
    samples = [Sample(id=f"{k} {text[:1000]}", messages=(user(text),), cluster_id=text[:50], target=text, metadata={text[:50]: text})
               for k, text in enumerate(HOSTILE)]
    requests = [Request(kind="generate", messages=sample.messages, suite="tone", sample_id=sample.id) for sample in samples]
    replies = [Generation(sample_id=sample.id, text=text, reasoning=text, error=text)
               for sample, text in zip(samples, HOSTILE, strict=True)]
    metrics = [make.metric("m", None, group=text, reason=text, flags=(text,)) for text in HOSTILE]
    with RunWriter.create(db, make.record()) as writer:
        writer.samples("tone", samples)
        writer.replies("tone", "model", list(zip(requests, replies, strict=True)))
        writer.scores("tone", [Score(sample_id=sample.id, scorer="rate", value=float(k), answer=HOSTILE[k], explanation=HOSTILE[k])
                               for k, sample in enumerate(samples)])
        writer.metrics(metrics)
        assert list(writer.completed().values()) == replies
        writer.finish()
    store = Store.open(db)
    assert store.samples("run-1", "tone") == samples
    assert store.metrics("run-1") == metrics
    found = store.transcripts("run-1", "tone", "rate", "best", limit=len(HOSTILE))
    assert [(one.completion, one.answer, one.error, one.messages[0]["content"]) for one in found] == [(text,) * 4 for text in HOSTILE]


def test_a_lone_surrogate_is_replaced_in_text_and_refused_in_an_id(db, make):
    with RunWriter.create(db, make.record()) as writer:
        writer.samples("tone", [Sample(id="a", messages=(user("half \ud83d here"),), cluster_id="c")])
        with pytest.raises(InputError, match=r"'\\udc00'.*another id"):
            writer.samples("tone", [Sample(id="\udc00", messages=(), cluster_id="c")])
        writer.finish()
    assert Store.open(db).samples("run-1", "tone")[0].messages[0].content == "half \ufffd here"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused_and_leaves_nothing(db, make, value):
    items = make.samples(3)
    with RunWriter.create(db, make.record()) as writer:
        with pytest.raises(StoreError, match=r"score item-1 rate: value is (nan|inf|-inf)"):
            writer.scores("tone", [make.scores(items)[2], Score(sample_id="item-1", scorer="rate", value=value)])
        with pytest.raises(StoreError, match="metric rate: value is"):
            writer.metrics([replace(make.metric(), value=value)])
        assert writer.scored("tone") == []
        writer.finish()


def test_extreme_numbers_are_exact(db, make):
    numbers = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 1 / 3]
    with RunWriter.create(db, make.record()) as writer:
        writer.samples("tone", make.samples(len(numbers)))
        writer.scores("tone", [Score(sample_id=f"item-{k}", scorer="rate", value=number) for k, number in enumerate(numbers)])
        writer.scores("tone", [Score(sample_id="item-0", scorer="numpy", value=np.float32(0.5))])
        writer.finish()
    assert Store.open(db).values("run-1", "tone", "rate").tolist() == numbers
    assert Store.open(db).values("run-1", "tone", "numpy").tolist() == [0.5]


def test_numpy_numbers_in_replies_and_metadata_are_stored(db, make):
    sample = Sample(id="a", messages=(), cluster_id="c", metadata={"weight": np.float32(0.5), "n": np.int64(3)})
    request = Request(kind="generate", messages=(), suite="tone", sample_id="a")
    with RunWriter.create(db, make.record()) as writer:
        writer.samples("tone", [sample])
        writer.replies("tone", "model", [(request, Generation(sample_id="a", usage=Usage(prompt_tokens=4)))])
        writer.finish()
    assert Store.open(db).samples("run-1", "tone")[0].metadata == {"weight": 0.5, "n": 3}


def test_a_replayed_batch_overwrites(db, make):
    items = make.samples()
    with RunWriter.create(db, make.record()) as writer:
        writer.samples("tone", items)
        writer.replies("tone", "model", make.replies(items, text="first"))
        writer.commit()
        writer.replies("tone", "model", make.replies(items[:4], text="second"))
        writer.replies("tone", "model", make.replies(items[:2], text="third"))
        writer.scores("tone", make.scores(items))
        writer.samples("tone", items)
        texts = [reply.text.split()[0] for reply in writer.completed().values()]
        writer.scores("tone", [replace(score, answer="again") for score in make.scores(items)])
        assert [score.answer for score in writer.scored("tone")] == ["again"] * 10
        writer.finish()
    assert sorted(texts) == ["first"] * 6 + ["second"] * 2 + ["third"] * 2
    assert len(Store.open(db).scores_frame("run-1")) == 10


def test_metrics_and_verdicts_of_a_suite_aggregated_again_replace_all_earlier_ones(db, make):
    other_suite = replace(make.metric(), suite="length")
    with RunWriter.create(db, make.record()) as writer:
        writer.metrics([make.metric("gone"), make.metric(), other_suite])
        writer.verdicts([make.verdict(), make.verdict()])
        writer.commit()
        writer.metrics([make.metric("rate", 0.5)])
        writer.verdicts([make.verdict("fail")])
        writer.finish()
    assert Store.open(db).metrics("run-1") == [other_suite, make.metric("rate", 0.5)]
    assert [verdict.outcome for verdict in Store.open(db).verdicts("run-1")] == ["fail"]


def test_a_finished_run_leaves_no_journal(db, full):
    assert list(directory(db).iterdir()) == []


def test_a_run_id_must_name_a_file_and_be_new(db, make):
    with pytest.raises(InputError, match=r"run id '\.\./x'"):
        RunWriter.create(db, make.record("../x"))
    RunWriter.create(db, make.record()).finish()
    with pytest.raises(StoreError, match="has a run run-1 already"):
        RunWriter.create(db, make.record())


def test_resume_refuses_unknown_and_finished_runs(db, make):
    RunWriter.create(db, make.record()).finish()
    with pytest.raises(UnknownNameError, match="did you mean 'run-1'"):
        RunWriter.resume(db, "run-2")
    with pytest.raises(InputError, match="run-1 is done"):
        RunWriter.resume(db, "run-1")
    assert list(directory(db).iterdir()) == []
