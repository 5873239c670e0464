"""An audit's preparation: what the record of a run must hold so that it can go on anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.engine.audit import AuditOptions, execute, prepare, reopen, start
from auditor.items import shipped


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
