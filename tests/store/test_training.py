"""Training runs in the store: replayed steps replace, a locked or foreign file is left as it is."""

from __future__ import annotations

import dataclasses

import duckdb
import pandas
import pytest

from auditor.errors import InputError, StoreError, StoreLockedError, UnknownNameError
from auditor.store import Store
from auditor.store.database import connect
from auditor.store.training import TrainingRun, TrainingStage, store_training

RUN = TrainingRun(training_id="20250301-100000-aaaa", created="2025-03-01T10:00:00+00:00", status="running", recipe_name="tiny", recipe_hash="ff",
                  recipe={"stages": [{"name": "sft"}]}, out="/out", seed=3, model="smollm2", environment={"git_commit": "abc"})
STAGE = TrainingStage(stage="sft", position=1, method="sft", steps=3)


def rows(first: int, last: int, loss: float) -> list[dict]:
    return [{"step": step, "loss": loss, "kl": None} for step in range(first, last + 1)]


def stored(path) -> list[tuple]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("SELECT step, value FROM training_step WHERE name = 'loss' ORDER BY step").fetchall()


def test_steps_after_a_resume_replace_those_beyond_the_checkpoint(db):
    store_training(db, RUN, [dataclasses.replace(STAGE, rows=rows(1, 5, 1.0))], wait=1)
    store_training(db, RUN, [dataclasses.replace(STAGE, rows=rows(1, 5, 1.0))], wait=1)
    assert stored(db) == [(step, 1.0) for step in range(1, 6)]
    store_training(db, RUN, [dataclasses.replace(STAGE, rows=rows(1, 3, 2.0))], wait=1)
    assert stored(db) == [(1, 2.0), (2, 2.0), (3, 2.0)]
    store_training(db, RUN, [dataclasses.replace(STAGE, rows=rows(1, 4, 9.0), after=3, complete=True)], wait=1)
    assert stored(db) == [(1, 2.0), (2, 2.0), (3, 2.0), (4, 9.0)]
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM training_run), (SELECT list(complete) FROM training_stage)").fetchone() == (1, [True])


def test_frames(db):
    store_training(db, RUN, [dataclasses.replace(STAGE, rows=rows(1, 2, 1.0), measured={"accuracy": {"value": 0.7}})], wait=1)
    store_training(db, dataclasses.replace(RUN, training_id="20250302-aaaa", created="2025-03-02"), [], wait=1)
    store = Store.open(db)
    assert list(store.training().training_id) == [RUN.training_id, "20250302-aaaa"]
    assert list(store.training_stages(RUN.training_id).measured) == ['{"accuracy":{"value":0.7}}']
    steps = store.training_steps("20250301")
    assert list(steps[steps.name == "loss"].value) == [1.0, 1.0]
    assert pandas.isna(steps[steps.name == "kl"].value).all()
    assert len(store.training_steps("latest")) == 0
    with pytest.raises(InputError, match="ambiguous"):
        store.training_steps("2025")
    with pytest.raises(UnknownNameError, match="training run"):
        store.training_steps("2019")


def test_a_locked_database_stores_nothing(db, make):
    store_training(db, RUN, [], wait=1)
    holder = make.spawn("import sys, duckdb; held = duckdb.connect(sys.argv[1]); held.execute('CREATE TEMP TABLE x (y INT)'); print('on', flush=True); "
                        "sys.stdin.read()", db)
    assert holder.stdout.readline() == "on\n"
    try:
        with pytest.raises(StoreLockedError):
            store_training(db, RUN, [STAGE], wait=0.1)
    finally:
        holder.communicate("")
    store_training(db, RUN, [STAGE], wait=1)


def test_a_foreign_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "notes.duckdb"
    path.write_text("these are my notes")
    with pytest.raises(StoreError, match="not a DuckDB database"):
        store_training(path, RUN, [], wait=0.1)
    assert path.read_text() == "these are my notes"


def test_all_or_nothing(db):
    store_training(db, RUN, [], wait=1)
    broken = dataclasses.replace(STAGE, rows=[{"step": 1, "loss": "high"}])
    with pytest.raises(ValueError, match="high"):
        store_training(db, dataclasses.replace(RUN, status="done"), [broken], wait=1)
    with connect(db, read_only=True) as connection:
        assert connection.execute("SELECT status FROM training_run").fetchall() == [("running",)]


def test_an_older_database_is_brought_up_to_date(db, monkeypatch):
    from auditor.store import database
    from auditor.store.migrations import MIGRATIONS

    db.parent.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", MIGRATIONS[:1])
        with connect(db, read_only=False):
            pass
    assert len(Store.open(db).training()) == 0
    store_training(db, RUN, [STAGE], wait=1)
    assert len(Store.open(db).training()) == 1
