"""kill -9 at any moment, a full disk, a commit that fails half-way: nothing acknowledged is lost, nothing is stored twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from auditor.errors import InputError, StoreError
from auditor.store import RunWriter, Store, tables, transfer
from auditor.store.journal import directory

# Records batches of five scores for ever, committing all the time, and says after each one that it was recorded.
ENDLESS = """
import sys
from pathlib import Path
from auditor.schema import ModelSpec, RunRecord, RunSpec, Sample, Score
from auditor.store import RunWriter
spec = RunSpec(suites=("tone",), suite_versions=("1",), model=ModelSpec(uri="tiny"))
db = Path(sys.argv[1])
first = int(sys.argv[2])
writer = RunWriter.resume(db, "run-1") if first else RunWriter.create(db, RunRecord(run_id="run-1", spec=spec, created="2025-03-01"))
batch = first
while True:
    ids = [f"{batch}-{k}" for k in range(5)]
    writer.samples("tone", [Sample(id=name, messages=(), cluster_id="c") for name in ids])
    writer.scores("tone", [Score(sample_id=name, scorer="rate", value=float(batch), explanation="e" * 3000) for name in ids])
    print(batch, flush=True)
    if batch % 3 == 0:
        writer.commit()
    batch += 1
"""


def killed_after(process: subprocess.Popen[str], seconds: float) -> int:
    """The number of the last batch that the process said it had recorded before it was killed."""
    first = process.stdout.readline()
    assert first, process.stderr.read()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    lines = [line for line in (first + out).split("\n")[:-1] if line]
    return int(lines[-1])


def test_killed_again_and_again_and_resumed_loses_and_doubles_nothing(db, make):
    draw = random.Random(7)
    acknowledged: set[int] = set()
    first = 0
    for _ in range(4):
        last = killed_after(make.spawn(ENDLESS, db, first), draw.uniform(0.0, 0.5))
        acknowledged |= set(range(first, last + 1))
        stopped = Store.open(db).run("run-1")
        assert stopped.status == "interrupted"
        first = last + 2  # batch last + 1 may or may not have been recorded
    assert "go on with `auditor run --resume run-1`" in stopped.notice
    with RunWriter.resume(db, "run-1") as writer:
        writer.finish()
    scores = Store.open(db).scores_frame("run-1")
    assert not scores.duplicated(["sample_id", "scorer"]).any()
    sizes = scores.groupby("value").size()
    assert (sizes == 5).all(), "a batch is recorded whole or not at all"
    assert acknowledged <= {int(value) for value in sizes.index}


def test_what_the_journal_holds_of_a_killed_run_is_announced_and_recovered(db, make):
    script = ENDLESS.replace("batch % 3 == 0", "batch < 0")
    last = killed_after(make.spawn(script, db, 0), 0.2)
    run = Store.open(db).run("run-1")
    assert (run.status, run.pending >= 10 * (last + 1)) == ("interrupted", True)
    assert f"{run.pending} records are in its journal only" in run.notice
    assert Store.open(db).scores_frame("run-1").empty
    with RunWriter.resume(db, "run-1") as writer:
        assert len(writer.scored("tone")) >= 5 * (last + 1)
        assert Store.open(db).run("run-1").pending == 0
        assert Store.open(db).run("run-1").status == "running"
        writer.finish()


def test_a_torn_line_is_dropped_on_resume(db, make):
    items = make.samples()
    writer = RunWriter.create(db, make.record())
    writer.replies("tone", "model", make.replies(items[:4]))
    writer.close()
    journal = directory(db) / "run-1.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"table":"generation","n":6,"constant":{"suite"')
    assert Store.open(db).run("run-1").pending == 0
    with RunWriter.resume(db, "run-1") as writer:
        assert len(writer.completed()) == 4
        writer.replies("tone", "model", make.replies(items[4:]))
        assert len(writer.completed()) == 10
        writer.finish()


def test_a_commit_that_fails_half_way_stores_nothing_and_is_made_good(db, make, monkeypatch):
    items = make.samples()
    with RunWriter.create(db, make.record()) as writer:
        writer.samples("tone", items)
        writer.scores("tone", make.scores(items))
        real = tables.replace_rows

        def fail_at_scores(connection, run_id, table, columns):
            if table.name == "score":
                raise RuntimeError("pulled the plug")
            real(connection, run_id, table, columns)

        monkeypatch.setattr(transfer, "replace_rows", fail_at_scores)
        with pytest.raises(RuntimeError):
            writer.commit()
        assert Store.open(db).samples_frame("run-1").empty
        monkeypatch.undo()
        writer.commit()
        assert len(Store.open(db).samples_frame("run-1")) == len(Store.open(db).scores_frame("run-1")) == 10
        writer.finish()


def test_a_large_commit_goes_in_several_pieces_of_one_transaction(db, make, monkeypatch):
    monkeypatch.setattr(transfer, "_BULK", 7)
    monkeypatch.setattr("auditor.store.lines._ROWS_PER_LINE", 3)
    items = make.samples(20)
    with RunWriter.create(db, make.record()) as writer:
        writer.samples("tone", items)
        writer.scores("tone", make.scores(items))
        writer.scores("tone", make.scores(items))
        writer.finish()
    assert Store.open(db).samples("run-1", "tone") == items
    assert len(Store.open(db).scores_frame("run-1")) == 20


def test_a_deleted_journal_costs_only_what_was_not_committed(db, make):
    items = make.samples()
    writer = RunWriter.create(db, make.record())
    writer.replies("tone", "model", make.replies(items[:6]))
    writer.close()
    (directory(db) / "run-1.jsonl").unlink()
    with RunWriter.resume(db, "run-1") as writer:
        assert len(writer.completed()) == 6
        writer.replies("tone", "model", make.replies(items[6:]))
        writer.finish()
    with Store.open(db).session() as store:
        assert store._connection.execute("SELECT count(*) FROM generation").fetchall() == [(10,)]


def test_a_deleted_database_is_rebuilt_from_the_journal(db, make):
    items = make.samples()
    writer = RunWriter.create(db, make.record())
    writer.samples("tone", items)
    writer.scores("tone", make.scores(items))
    writer.close()
    db.unlink()
    with RunWriter.resume(db, "run-1") as writer:
        assert writer.record == make.record()
        writer.finish()
    assert Store.open(db).samples("run-1", "tone") == items
    assert len(Store.open(db).scores_frame("run-1")) == 10


def test_a_finished_run_whose_journal_was_not_deleted_any_more(db, make, monkeypatch):
    writer = RunWriter.create(db, make.record())
    monkeypatch.setattr(writer._journal, "remove", writer._journal.close)
    writer.finish()
    run = Store.open(db).run("run-1")
    assert (run.status, run.pending) == ("done", 0)
    with pytest.raises(InputError, match="is done"):
        RunWriter.resume(db, "run-1")
    assert list(directory(db).iterdir()) == []


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "interrupted"), (ValueError("bad \ud800 thing"), "failed")])
def test_an_exception_is_recorded_and_the_run_stays_resumable(db, make, error, status):
    def fail() -> None:
        with RunWriter.create(db, make.record()) as writer:
            writer.scores("tone", make.scores(make.samples()))
            raise error

    with pytest.raises(type(error)):
        fail()
    run = Store.open(db).run("run-1")
    assert (run.status, run.pending) == (status, 0)
    assert type(error).__name__ in run.error
    with RunWriter.resume(db, "run-1") as writer:
        assert len(writer.scored("tone")) == 10
        writer.finish()
    assert (Store.open(db).run("run-1").status, Store.open(db).run("run-1").error) == ("done", None)


def test_replies_and_scores_commit_by_themselves_when_it_is_time(db, make, monkeypatch):
    items = make.samples()
    with RunWriter.create(db, make.record()) as writer:
        writer.scores("tone", make.scores(items))
        assert Store.open(db).scores_frame("run-1").empty
        writer._next_commit = 0.0
        writer.replies("tone", "model", make.replies(items))
        assert len(Store.open(db).scores_frame("run-1")) == 10
        assert Store.open(db).run("run-1").pending == 0
        writer.finish()


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not allowed here ({mounted.stderr.strip() or 'no message'}); runs as superuser only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * max(0, free - leave))
    return ballast


def test_a_full_disk_stops_the_run_and_loses_nothing(small_disk, make):
    db = small_disk / "audit.duckdb"
    items = make.samples(400)
    acknowledged = []

    def run_into_the_wall() -> None:
        with RunWriter.create(db, make.record()) as writer:
            writer.samples("tone", items)
            writer.commit()
            fill(small_disk, 60_000)
            for start in range(0, 400, 5):
                writer.replies("tone", "model", make.replies(items[start:start + 5], text="z" * 500))
                acknowledged.extend(items[start:start + 5])

    with pytest.raises(StoreError, match=r"no space left on the disk of .*nothing recorded so far is lost.*--resume"):
        run_into_the_wall()
    recorded = len(acknowledged)
    assert 5 <= recorded < 400
    assert Store.open(db).samples("run-1", "tone") == items
    assert Store.open(db).run("run-1").status == "interrupted"
    (small_disk / "ballast").unlink()
    with RunWriter.resume(db, "run-1") as writer:
        assert len(writer.completed()) == recorded
        writer.replies("tone", "model", make.replies(items))
        writer.finish()
    assert Store.open(db).run("run-1").status == "done"


def test_a_disk_too_full_for_a_commit_leaves_the_journal_to_resume_from(small_disk, make):
    db = small_disk / "audit.duckdb"
    items = make.samples(400)
    writer = RunWriter.create(db, make.record())
    writer.samples("tone", items)
    ballast = fill(small_disk, 8192)
    with pytest.raises(StoreError, match=r"no space left on the disk of .*audit\.duckdb:"):
        writer.close()
    assert Store.open(db).samples_frame("run-1").empty
    assert Store.open(db).run("run-1").pending == 400
    ballast.unlink()
    with RunWriter.resume(db, "run-1") as writer:
        writer.finish()
    assert Store.open(db).samples("run-1", "tone") == items
