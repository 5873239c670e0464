"""The hash chain: what it is made of, that it comes out the same, and that it holds for everything a run stores."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import duckdb
import pyarrow
import pytest

from auditor.errors import InputError, StoreError
from auditor.schema import Generation, Request, Sample, Score, user
from auditor.store import RunWriter, Store, chain, transfer, writer
from auditor.store.chain import CHAINED, UNCHAINED, canonical, rows_of
from auditor.store.database import connect
from auditor.store.migrations import MIGRATIONS

HOSTILE = ['"quoted" \\ and 100 % %s', "nul \x00 \x1f \x7f", "line\nbreak\r\n\t\b\f", "emoji 🤖 \u202e \u2028", "", "{,", "[1,null]"]


def record(path, make, run_id="run-1", **fields):
    """A finished run with every kind of row; returns its head."""
    items = make.samples(30)
    with RunWriter.create(path, replace(make.record(run_id), **fields)) as held:
        held.samples("tone", items)
        held.replies("tone", "model", [*make.replies(items), *make.options(items)])
        held.replies("tone", "judge", make.judgments(items))
        held.scores("tone", make.scores(items))
        held.metrics([make.metric(), make.metric("none", None, reason="not made")])
        held.verdicts([make.verdict()])
        held.finish()
    return Store.open(path).head(run_id)


def by_hand(path, run_id="run-1"):
    """The head as docs/store.md defines it, computed row by row from what any DuckDB client sees."""
    orders = {"sample": "suite, position", "generation": "suite, sample_id, epoch, turn, slot", "score": "suite, sample_id, epoch, scorer, turn, slot",
              "metric": "suite, position", "verdict": "suite, position", "run": "run_id"}
    link = hashlib.sha256(b"auditor chain 1").digest()
    with duckdb.connect(str(path), read_only=True) as connection:
        for table, order in orders.items():
            cursor = connection.execute(f"SELECT * FROM {table} WHERE run_id = ? ORDER BY {order}", [run_id])
            names = [column[0] for column in cursor.description]
            for values in cursor.fetchall():
                row = {name: value for name, value in zip(names, values, strict=True) if value is not None and name not in ("journal_offset", "head")}
                text = json.dumps([table, row], sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
                link = hashlib.sha256(link + hashlib.sha256(text.encode()).digest()).digest()
    return link.hex()


def test_the_head_is_what_the_documentation_says(db, make):
    assert record(db, make) == by_hand(db)
    found = Store.open(db).verify("run-1")
    assert (found.agrees, found.expected, found.head) == (True, None, by_hand(db))
    assert found.rows == {"sample": 30, "generation": 90, "score": 30, "metric": 2, "verdict": 1, "run": 1}
    assert Store.open(db).verify("latest", by_hand(db)).agrees


def test_hostile_text_and_exact_numbers(db, make):
    numbers = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 0.0, 1.0, 1e16, 1e-7]
    with RunWriter.create(db, make.record()) as held:
        samples = [Sample(id=f"{k} {text}", messages=(user(text),), cluster_id=text, target=text, metadata={text: text}) for k, text in enumerate(HOSTILE)]
        held.samples("tone", samples)
        pairs = [(Request(kind="generate", messages=one.messages, suite="tone", sample_id=one.id, seed=2**64 - 1), Generation(sample_id=one.id, text=text))
                 for one, text in zip(samples, HOSTILE, strict=True)]
        held.replies("tone", "model", pairs)
        held.scores("tone", [Score(sample_id=f"item-{k}", scorer="rate", value=value) for k, value in enumerate(numbers)])
        held.finish()
    assert Store.open(db).head("run-1") == by_hand(db)


def test_many_rows_are_hashed_as_few_are(db, make, monkeypatch):
    """Batches, repeated values and NULLs in any place of a batch change nothing."""
    head = record(db, make)
    for size in (1, 7, 64):
        monkeypatch.setattr(chain, "BATCH", size)
        monkeypatch.setattr(chain, "_LOOK", size)
        assert Store.open(db).verify("run-1").agrees
    monkeypatch.undo()
    table = CHAINED[3]
    rows = [dict.fromkeys(table.columns) | {"run_id": "r", "suite": "s", "name": f"m{k % 2}", "group_name": "all", "ci_high": high}
            for k, high in enumerate([None, 0.5, 0.5, -0.0, None, 0.0])]
    batch = pyarrow.table({name: pyarrow.array([row[name] for row in rows], pyarrow.float64() if name == "ci_high" else pyarrow.string())
                           for name in table.columns})
    assert list(rows_of(table, batch).texts) == [canonical(table, row) for row in rows]
    assert head == by_hand(db)


def test_sealing_equal_rows_again_gives_the_same_head(tmp_path, make, monkeypatch):
    monkeypatch.setattr(writer, "_now", lambda: "2025-03-01T11:00:00+00:00")
    first, second = (record(tmp_path / name, make) for name in ("a.duckdb", "b.duckdb"))
    other = record(tmp_path / "c.duckdb", make, git_commit="def")
    assert first == second != other


def test_an_interrupted_run_has_no_head_until_it_is_resumed_and_finished(db, make):
    items = make.samples()
    held = RunWriter.create(db, make.record())
    held.samples("tone", items)
    held.scores("tone", make.scores(items[:4]))
    held.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert Store.open(db).head("run-1") is None
    with pytest.raises(InputError, match="run-1 is not sealed: only a run that is done has a chain"):
        Store.open(db).verify("run-1")
    with RunWriter.resume(db, "run-1") as held:
        held.samples("tone", items)
        held.scores("tone", make.scores(items))
        held.finish()
    assert Store.open(db).head("run-1") == by_hand(db)
    assert Store.open(db).verify("run-1").agrees


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_run_killed_between_its_last_line_and_its_last_commit_is_sealed_on_resume(db, make, monkeypatch):
    with RunWriter.create(db, make.record()) as held:
        held.samples("tone", make.samples())
        monkeypatch.setattr(transfer, "store_seal", interrupt)
        with pytest.raises(KeyboardInterrupt):
            held.finish()
        monkeypatch.undo()
        held._journal.close()  # as the end of the process would
        held._closed = True
    assert Store.open(db).head("run-1") is None
    with RunWriter.resume(db, "run-1") as held:
        assert held.scored("tone") == []
        held.finish()
    assert Store.open(db).verify("run-1").agrees


def test_runs_of_one_file_do_not_touch_each_other(db, make):
    heads = [record(db, make, run_id) for run_id in ("run-1", "run-2")]
    assert len(set(heads)) == 2
    assert [Store.open(db).head(run_id) for run_id in ("run-1", "run-2")] == heads
    assert all(Store.open(db).verify(run_id).agrees for run_id in ("run-1", "run-2"))


def test_a_run_from_before_there_were_chains(db, make, monkeypatch):
    """A file of schema version 2 is brought up to date; its run is done, and not sealed."""
    record(db, make)
    with duckdb.connect(str(db)) as connection:
        connection.execute("ALTER TABLE run DROP COLUMN head; DROP TABLE chain; DELETE FROM schema_version WHERE version > 2")
    store = Store.open(db)
    assert (store.run("run-1").status, store.head("run-1")) == ("done", None)
    with pytest.raises(InputError, match="run-1 is not sealed: it was recorded by a version without hash chains"):
        store.verify("run-1")
    assert len(MIGRATIONS) >= 3


def test_a_number_that_is_none_is_not_sealed(db, make):
    with RunWriter.create(db, make.record()) as held:
        held.scores("tone", make.scores(make.samples(3)))
        held.commit()
        with duckdb.connect(str(db)) as connection:
            connection.execute("UPDATE score SET value = 'nan'::DOUBLE WHERE value IS NOT NULL")
        with pytest.raises(StoreError, match="run-1 cannot be sealed: the table score holds a number that is none"):
            held.finish()
    assert math.isnan(float(duckdb.connect(str(db), read_only=True).execute("SELECT max(value) FROM score").fetchall()[0][0]))


def test_every_column_is_covered(db, make):
    """Whoever adds a column to these tables adds it to the chain, or says here that it is bookkeeping."""
    record(db, make)
    with connect(db, read_only=True) as connection:
        for table in CHAINED:
            rows = connection.execute("SELECT column_name, data_type, is_nullable FROM duckdb_columns() WHERE table_name = ?", [table.name]).fetchall()
            assert {name for name, _, _ in rows} == set(table.columns) | UNCHAINED.get(table.name, frozenset()), table.name
            assert {name for name, kind, _ in rows if kind == "JSON"} == table.json
            assert {name for name, kind, _ in rows if kind == "HUGEINT"} == table.integers
            assert not [name for name, _, nullable in rows if name in (*table.key, *table.order) and nullable]
