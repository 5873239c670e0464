"""Reading: runs by name, transcripts, values, frames, baselines."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.errors import InputError, StoreError, UnknownNameError
from auditor.schema import Score
from auditor.store import RunWriter, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory, make) -> Store:
    """Three runs of ten samples with three requests each; the second run has other weights."""
    db = tmp_path_factory.mktemp("queries") / "audit.duckdb"
    items = make.samples()
    for run_id, created, weights in (("2025-a1", "2025-03-01", "w1"), ("2025-b2", "2025-03-02", "w2"), ("2025-b3", "2025-03-03", "w1")):
        with RunWriter.create(db, make.record(run_id, created=created, weights=weights)) as writer:
            writer.samples("tone", items)
            writer.replies("tone", "model", [*make.replies(items), *make.options(items)])
            writer.replies("tone", "judge", make.judgments(items))
            writer.scores("tone", make.scores(items))
            writer.scores("tone", [Score(sample_id="item-1", scorer="judge", value=0.9, slot=2),
                                   Score(sample_id="item-1", scorer="option", value=0.9, slot=1),
                                   Score(sample_id="item-2", scorer="lost", value=1.0, slot=9)])
            writer.metrics([make.metric()])
            writer.verdicts([make.verdict()])
            writer.finish()
    return Store.open(db)


def test_runs_are_found_by_id_prefix_and_latest(store):
    assert [run.run_id for run in store.runs()] == ["2025-a1", "2025-b2", "2025-b3"]
    assert store.run("2025-a").run_id == "2025-a1"
    assert store.run("latest").run_id == "2025-b3"
    with pytest.raises(InputError, match=r"'2025-b' is ambiguous.*2025-b2, 2025-b3"):
        store.run("2025-b")
    with pytest.raises(UnknownNameError, match="unknown run 'nope'"):
        store.run("nope")
    with pytest.raises(UnknownNameError):
        store.run("")


def test_earlier_runs_of_the_same_weights(store):
    assert [run.run_id for run in store.earlier_runs("w1", "2025-03-03")] == ["2025-a1"]
    assert store.earlier_runs("w1", "2025-03-01") == []


def test_runs_of_unknown_weights_are_not_runs_of_the_same(tmp_path, make):
    for run_id, created in (("e1", "2025-03-01"), ("e2", "2025-03-02")):
        with RunWriter.create(tmp_path / "a.duckdb", make.record(run_id, created=created, weights="")) as writer:
            writer.finish()
    assert Store.open(tmp_path / "a.duckdb").earlier_runs("", "2025-03-03") == []


def test_transcripts_by_order(store):
    def values(order, **more):
        return [found.value for found in store.transcripts("2025-a1", "tone", "rate", order, limit=3, **more)]

    assert values("worst") == [2.0, 2.0, 2.0]
    assert values("worst", higher_is_better=True) == [0.0, 0.0, 0.0]
    assert values("best") == [0.0, 0.0, 0.0]
    assert values("best", higher_is_better=True) == [2.0, 2.0, 2.0]
    assert values("typical") == [1.0, 1.0, 1.0]
    (unscored,) = store.transcripts("2025-a1", "tone", "rate", "unscored")
    assert (unscored.sample_id, unscored.value, unscored.status) == ("item-0", None, "refused")


def test_ties_come_in_a_fixed_order_that_is_not_the_file_order(store):
    picked = [[t.sample_id for t in store.transcripts(run, "tone", "rate", "best", limit=3)] for run in ("2025-a1", "2025-b2", "2025-a1")]
    assert picked[0] == picked[1] == picked[2]
    assert sorted(picked[0]) == ["item-3", "item-6", "item-9"]
    assert [t.sample_id for t in store.transcripts("2025-a1", "tone", "rate", "best", limit=2)] == picked[0][:2]


def test_a_transcript_shows_the_request_that_its_score_points_to(store):
    (plain,) = store.transcripts("2025-a1", "tone", "rate", limit=1)
    assert plain.completion == f"completion of {plain.sample_id}"
    assert plain.messages[1] == {"role": "assistant", "content": "Answer:"}
    assert (plain.reasoning, plain.model, plain.finish_reason, plain.judgment, plain.options) == ("hm", "tiny", "stop", None, ())
    (option,) = store.transcripts("2025-a1", "tone", "option")
    assert [one["text"] for one in option.options] == [" A", " B"]
    assert option.options[0]["logprob"] == -0.1 - 1 / 3
    (judged,) = store.transcripts("2025-a1", "tone", "judge")
    assert judged.judgment is not None
    assert (judged.judgment.ab, judged.judgment.status) == (0.9, "unparseable")
    (lost,) = store.transcripts("2025-a1", "tone", "lost")
    assert (lost.completion, lost.messages[0]["content"]) == ("", "question 2?")


def test_values_histogram_and_counts(store):
    assert store.values("2025-a1", "tone", "rate").tolist() == [1, 2, 0, 1, 2, 0, 1, 2, 0]
    counts, edges = store.histogram("2025-a1", "tone", "rate", bins=4)
    assert counts.tolist() == [3, 0, 3, 3]
    assert edges.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert store.counts("2025-a1", "tone")["rate"] == {"refused": 1, "scored": 9}
    assert store.values("2025-a1", "tone", "none").shape == (0,)
    assert store.counts("2025-a1", "none") == {}


def test_baseline(store, make):
    found = store.baseline("2025-a1", "tone")
    expected = sorted(make.scores(make.samples()), key=lambda score: score.sample_id)
    assert [score for score in found.scores if score.scorer == "rate"] == expected
    assert found.texts == {(f"item-{k}", 0, 0, 0): f"completion of item-{k}" for k in range(10)}
    with pytest.raises(UnknownNameError, match=r"suite of baseline run 2025-a1 'nope'.*known: tone"):
        store.baseline("2025-a1", "nope")


def test_score_rows_hold_prompt_completion_and_score(store, monkeypatch):
    monkeypatch.setattr("auditor.store.queries._PAGE", 3)
    rows = list(store.score_rows("2025-a1"))
    assert len(rows) == 13
    assert [row["sample_id"] for row in rows if row["scorer"] == "rate"] == [f"item-{k}" for k in range(10)]
    assert rows[0] == {
        "suite": "tone", "sample_id": "item-0", "epoch": 0, "scorer": "rate", "cluster_id": "topic-0", "completion": "completion of item-0",
        "prompt": [{"role": "user", "content": "question 0?"}, {"role": "assistant", "content": "Answer:"}],
        "answer": "answer 0", "value": None, "status": "refused", "explanation": "why",
    }


def test_frames(store):
    assert store.metrics_frame("2025-a1").loc[0, "ci_high"] == 2 / 3
    assert store.verdicts_frame("latest").loc[0, "outcome"] == "inconclusive"
    assert store.samples_frame("2025-a1")["sample_id"].tolist() == [f"item-{k}" for k in range(10)]
    scores = store.scores_frame()
    assert scores.groupby("run_id").size().to_dict() == {"2025-a1": 13, "2025-b2": 13, "2025-b3": 13}
    assert np.isnan(scores[scores.status == "refused"].value).all()
    with pytest.raises(UnknownNameError):
        store.scores_frame("nope")


def test_a_session_keeps_one_state_and_lets_other_errors_pass(store, tmp_path):
    with store.session() as same:
        assert same is store
        assert len(store.runs()) == 3
    with pytest.raises(FileNotFoundError), store.session():
        (tmp_path / "absent").read_text()
    assert len(store.runs()) == 3


def test_a_database_that_does_not_exist(db, tmp_path, make, monkeypatch):
    with pytest.raises(InputError, match=r"audit.duckdb does not exist: pass --db"):
        Store.open(db)
    with pytest.raises(InputError, match="is a folder"):
        Store.open(tmp_path)
    with pytest.raises(InputError):
        RunWriter.resume(db, "run-1")
    RunWriter.create(db, make.record()).close()
    db.unlink()
    with pytest.raises(StoreError, match="auditor run --resume run-1"):
        Store.open(db)
