"""Scoring again from stored replies: the same numbers, nothing loaded, and what was not asked is missing, never 0."""

from __future__ import annotations

import dataclasses

import pytest

from auditor.engine import rescore as module
from auditor.engine.audit import AuditOptions, execute, prepare, reopen, start
from auditor.engine.rescore import UNASKED, StoredReplies, rescore
from auditor.engine.suites import load_suites
from auditor.errors import InputError, UnknownNameError
from auditor.reports.compliance import page
from auditor.reports.compliance.assemble import assemble
from auditor.reports.compliance.model import Options
from auditor.schema import Context, Suite
from auditor.store import Store
from auditor.store.exchanges import exchanges


@pytest.fixture(scope="module")
def audited(tiny_checkpoint, tmp_path_factory):
    """A run with a judge on three suites, one of several turns."""
    db = tmp_path_factory.mktemp("score") / "a.duckdb"
    prepared = prepare(AuditOptions(model=str(tiny_checkpoint), judge=str(tiny_checkpoint), db=db, suites=("sycophancy", "confidence", "refusal"), limit=8))
    writer = start(prepared)
    with writer:
        execute(prepared, writer)
    return db, writer.record.run_id


def test_the_numbers_are_those_of_the_run(audited):
    db, run_id = audited
    again, verdicts, unasked = rescore(db, run_id)
    store = Store.open(db)
    assert unasked == 0
    assert store.metrics(again) == store.metrics(run_id)
    assert store.verdicts(again) == store.verdicts(run_id)
    stored = {verdict.criterion.metric: verdict for verdict in store.verdicts(again)}
    assert {verdict.criterion.metric: verdict for verdict in verdicts}.items() <= stored.items()
    assert store.run(again).spec.sampling["scored_from"] == run_id
    assert store.run(again).hardware == store.run(run_id).hardware  # what made the replies, not what scored them
    # The new run stands by itself: its replies are in it, and it can be scored again too.
    assert rescore(db, again, ("refusal",))[2] == 0


def test_a_compliance_report_does_not_claim_bounds_older_than_the_replies(audited):
    db, run_id = audited
    again, _, _ = rescore(db, run_id, ("confidence",))
    suites = {suite.name: suite for suite in load_suites(())}
    for run, scored_again in ((run_id, False), (again, True)):
        text = page.render(assemble(Store.open(db), run, suites=suites, options=Options(standard="nist-ai-rmf", draft=True)))
        assert (f"The replies are those of run {run_id}, scored again" in text) is scored_again
        assert ("Bounds of a later scoring" in text) is scored_again


def test_one_suite_alone(audited):
    db, run_id = audited
    again, _, _ = rescore(db, run_id, ("confidence",))
    store = Store.open(db)
    assert {metric.suite for metric in store.metrics(again)} == {"confidence", "judge_gate"}
    assert [metric for metric in store.metrics(again) if metric.suite == "confidence"] == [m for m in store.metrics(run_id) if m.suite == "confidence"]


def test_what_was_not_asked_is_missing_and_counted(audited, monkeypatch):
    db, run_id = audited

    def longer(names: tuple[str, ...]) -> list[Suite]:
        suite = load_suites(names)[0]

        def solve(sample, context):
            asking, replies = suite.solve(sample, context), None
            while True:
                try:
                    requests = asking.send(replies)
                except StopIteration:
                    return
                replies = yield [dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, max_tokens=999)) for request in requests]

        return [dataclasses.replace(suite, solve=solve)]

    monkeypatch.setattr(module, "load_suites", longer)
    again, _, unasked = rescore(db, run_id, ("refusal",))
    assert unasked > 0
    metrics = [metric for metric in Store.open(db).metrics(again) if metric.suite == "refusal" and metric.group == "all"]
    assert all(metric.value is None for metric in metrics)
    assert any(metric.n_unscored > 0 for metric in metrics)


def test_a_stored_reply_answers_its_own_request_alone(audited):
    db, run_id = audited
    found = exchanges(db, run_id)
    model = StoredReplies(Store.open(db).run(run_id).spec.model, found)
    suite = load_suites(("refusal",))[0]
    sample = Store.open(db).samples(run_id, "refusal")[0]
    request = dataclasses.replace(next(suite.solve(sample, Context(seed=0)))[0], suite="refusal", sample_id=sample.id)
    assert next(model.run([request])).error is None
    assert next(model.run([dataclasses.replace(request, sample_id="other")])).error == UNASKED


def test_bad_input(audited, tmp_path):
    db, run_id = audited
    with pytest.raises(UnknownNameError, match="did you mean 'refusal'"):
        rescore(db, run_id, ("refusals",))
    with pytest.raises(UnknownNameError, match="unknown run"):
        rescore(db, "2001")
    with pytest.raises(InputError, match="does not exist"):
        rescore(tmp_path / "none.duckdb", "latest")


def test_a_stopped_rescoring_is_started_anew(audited, monkeypatch):
    db, run_id = audited

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "execute", stop)
    with pytest.raises(KeyboardInterrupt):
        rescore(db, run_id, ("refusal",))
    stopped = Store.open(db).runs()[-1]
    assert stopped.status == "interrupted"
    with pytest.raises(InputError, match=f"auditor score {run_id}"):
        reopen(db, stopped.run_id)
