"""An audit's preparation: what the record of a run must hold so that it can go on anywhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from auditor.engine.audit import AuditOptions, execute, new_record, prepare, reopen, start
from auditor.items import shipped
from auditor.store import RunWriter, Store


def test_a_run_on_relative_paths_is_resumed_from_another_folder(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    Path("replies.jsonl").write_text(json.dumps({"sample_id": "nobody", "completion": "x"}) + "\n")
    Path("mine.jsonl").write_text("".join(shipped("refusal").read_text(encoding="utf-8").splitlines(keepends=True)[:6]))
    options = AuditOptions(model="recorded:replies.jsonl", db=Path("a.duckdb"), suites=("refusal",), items={"refusal": Path("mine.jsonl")},
                           judge="recorded:replies.jsonl")
    prepared = prepare(options)
    with pytest.raises(KeyboardInterrupt), start(prepared):
        raise KeyboardInterrupt
    monkeypatch.chdir(there)
    again, writer = reopen(here / "a.duckdb", "latest")
    assert again.spec == prepared.spec
    assert again.spec.model.uri == f"recorded:{here / 'replies.jsonl'}"
    with writer:
        assert execute(again, writer)


def test_runs_of_one_second_are_told_apart_in_the_order_in_which_they_began(tmp_path):
    options = AuditOptions(model="recorded:replies.jsonl", db=tmp_path / "a.duckdb", suites=("refusal",))
    (tmp_path / "replies.jsonl").write_text(json.dumps({"sample_id": "nobody", "completion": "x"}) + "\n")
    spec = prepare(dataclasses.replace(options, model=f"recorded:{tmp_path / 'replies.jsonl'}")).spec
    records = [new_record(spec, {}) for _ in range(8)]
    for record in records:
        RunWriter.create(options.db, record).finish()
    store = Store.open(options.db)
    assert [run.run_id for run in store.runs()] == [record.run_id for record in records]
    assert store.run("latest").run_id == records[-1].run_id
