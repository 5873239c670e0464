"""Several processes and one database."""

from __future__ import annotations

import logging
import os
import time

import pytest

from auditor.errors import StoreError, StoreLockedError
from auditor.store import RunWriter, Store, database, writer
from auditor.store.journal import directory

# Holds the database, for writing or for reading, until its input is closed.
HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("held", flush=True)
sys.stdin.read()
"""

# Records a run of 300 samples, with many commits.
RUN = """
import sys
from pathlib import Path
from auditor.schema import ModelSpec, RunRecord, RunSpec, Sample, Score
from auditor.store import RunWriter
run_id = sys.argv[2]
spec = RunSpec(suites=("tone",), suite_versions=("1",), model=ModelSpec(uri="tiny"))
print("ready", flush=True)
sys.stdin.readline()
with RunWriter.create(Path(sys.argv[1]), RunRecord(run_id=run_id, spec=spec, created="2025-03-01")) as writer:
    for batch in range(6):
        ids = [f"{batch}-{k}" for k in range(50)]
        writer.samples("tone", [Sample(id=name, messages=(), cluster_id="c") for name in ids])
        writer.scores("tone", [Score(sample_id=name, scorer="rate", value=float(batch)) for name in ids])
        writer._commit_or_postpone()
    writer.finish()
"""


@pytest.fixture
def hold(db, make):
    """Starts a process that holds the database; ends it when called again, or with the test."""
    processes = []

    def start(mode: str):
        process = make.spawn(HOLDER, db, mode)
        processes.append(process)
        assert process.stdout.readline() == "held\n", process.stderr.read()
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.communicate("")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(database, "READ_WAIT", 0.2)
    monkeypatch.setattr(writer, "FINAL_WAIT", 0.3)
    monkeypatch.setattr(writer, "_PATIENCE", 0.1)


def test_two_runs_into_one_new_database_at_once_while_others_read(db, make):
    db.parent.mkdir()
    processes = [make.spawn(RUN, db, f"run-{k}") for k in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    seen = []
    while any(process.poll() is None for process in processes):
        if db.exists():
            seen.append(len(Store.open(db).runs()))
        time.sleep(0.25)
    for process in processes:
        _, complaints = process.communicate()
        assert process.returncode == 0, complaints
    assert seen == sorted(seen)
    store = Store.open(db)
    assert {run.run_id: (run.status, run.pending) for run in store.runs()} == {"run-0": ("done", 0), "run-1": ("done", 0)}
    assert store.scores_frame().groupby("run_id").size().to_dict() == {"run-0": 300, "run-1": 300}


def test_a_reader_waits_for_a_writer_and_then_says_who_holds_the_file(db, make, hold, impatient):
    RunWriter.create(db, make.record()).finish()
    holder = hold("write")
    start = time.monotonic()
    with pytest.raises(StoreLockedError, match=rf"another process \(PID {holder.pid}\) holds the database .*audit\.duckdb"):
        Store.open(db)
    assert time.monotonic() - start >= 0.2
    holder.communicate("")
    assert len(Store.open(db).runs()) == 1


def test_a_reader_that_comes_during_a_short_commit_succeeds(db, make, hold, monkeypatch):
    RunWriter.create(db, make.record()).finish()
    holder = hold("write")
    sleep, pauses = time.sleep, []

    def let_go_meanwhile(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            holder.communicate("")
        sleep(seconds)

    monkeypatch.setattr(database.time, "sleep", let_go_meanwhile)
    assert len(Store.open(db).runs()) == 1
    assert len(pauses) >= 3


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_run_goes_on_with_its_journal_while_the_database_is_held(db, make, hold, impatient, caplog, mode):
    items = make.samples()
    with RunWriter.create(db, make.record()) as run:
        holder = hold(mode)
        run._next_commit = 0.0
        with caplog.at_level(logging.WARNING):
            run.scores("tone", make.scores(items))
        assert "the run goes on and is kept in its journal" in caplog.text
        run.samples("tone", items)
        holder.communicate("")
        run.finish()
    assert len(Store.open(db).scores_frame("run-1")) == 10


def test_the_last_commit_waits_and_then_says_how_to_recover(db, make, hold, impatient, caplog):
    items = make.samples()
    run = RunWriter.create(db, make.record())
    holder = hold("read")
    run.samples("tone", items)
    run.scores("tone", make.scores(items))
    with pytest.raises(StoreError, match=r"The journal .*run-1\.jsonl holds everything: `auditor run --resume run-1"):
        run.finish()
    assert "waiting up to" in caplog.text
    run._journal.close()
    found = Store.open(db).run("run-1")
    assert (found.status, found.pending) == ("interrupted", 20)
    holder.communicate("")
    with RunWriter.resume(db, "run-1") as again:
        again.finish()
    assert len(Store.open(db).scores_frame("run-1")) == 10


def test_a_run_started_while_the_database_is_held_is_listed_from_its_journal(db, make, hold, impatient):
    RunWriter.create(db, make.record("old", created="2025-01-01")).finish()
    holder = hold("read")
    with RunWriter.create(db, make.record("new")) as run:
        run.samples("tone", make.samples())
        found = Store.open(db).runs()
        assert [(one.run_id, one.status, one.pending) for one in found] == [("old", "done", 0), ("new", "running", 11)]
        assert found[1].record == make.record("new")
        assert "is going on" in found[1].notice
        holder.communicate("")
        run.finish()
    assert [run.status for run in Store.open(db).runs()] == ["done", "done"]


def test_two_processes_cannot_write_one_run(db, make, monkeypatch):
    monkeypatch.setattr("auditor.store.journal._LOCK_PATIENCE", 0.1)
    with RunWriter.create(db, make.record()) as run:
        resume = "import sys; from pathlib import Path; from auditor.store import RunWriter; RunWriter.resume(Path(sys.argv[1]), 'run-1')"
        _, complaints = make.spawn(resume, db).communicate()
        assert "StoreError: another process is writing run run-1" in complaints
        run.finish()


def test_waiting_for_a_journal_that_is_deleted_meanwhile(db, make, monkeypatch):
    """The other process finishes the run while this one waits to resume it."""
    run = RunWriter.create(db, make.record())
    path = directory(db) / "run-1.jsonl"
    real = os.open

    def finish_first(name, *arguments):
        opened = real(name, *arguments)
        if name == path:
            monkeypatch.undo()
            run.finish()
        return opened

    monkeypatch.setattr(os, "open", finish_first)
    with pytest.raises(StoreError, match="has just finished run run-1"):
        RunWriter.resume(db, "run-1")
    assert Store.open(db).run("run-1").status == "done"
