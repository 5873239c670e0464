"""Files that are not ours, or not whole, or of another version: said clearly, and left as they are."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import duckdb
import pytest

from auditor.errors import StoreError
from auditor.store import RunWriter, Store, database
from auditor.store.database import connect
from auditor.store.migrations import MIGRATIONS


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make) -> bytes:
    """A database with one run, as bytes."""
    path = tmp_path_factory.mktemp("whole") / "audit.duckdb"
    items = make.samples(2000)
    with RunWriter.create(path, make.record()) as writer:
        for _ in range(2):  # the second commit leaves free blocks behind
            writer.samples("tone", items)
            writer.replies("tone", "model", make.replies(items))
            writer.scores("tone", make.scores(items))
            writer.commit()
        writer.finish()
    return path.read_bytes()


def refused(path: Path, record, match: str) -> None:
    """Neither a reader nor a writer takes the file, and neither touches it."""
    before = path.read_bytes()
    with pytest.raises(StoreError, match=match):
        Store.open(path).scores_frame()
    with pytest.raises(StoreError, match=match):
        RunWriter.create(path, record)
    assert path.read_bytes() == before
    assert not path.with_name(path.name + ".wal").exists()
    assert not list(path.parent.glob("*.journal/*"))


def test_a_file_that_is_no_database(tmp_path, make):
    path = tmp_path / "notes.txt"
    path.write_text("a shopping list\n" * 1000)
    refused(path, make.record(), r"notes.txt is not a DuckDB database; it was left as it is: pass --db")


def test_a_database_of_another_kind(tmp_path, make):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    refused(path, make.record(), "is not a DuckDB database")


def test_a_duckdb_database_of_something_else(tmp_path, make):
    path = tmp_path / "sales.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE sales (amount INTEGER); INSERT INTO sales VALUES (3)")
    refused(path, make.record(), r"is a DuckDB database of something else \(tables: sales\)")


def test_an_empty_file(tmp_path, make, monkeypatch):
    monkeypatch.setattr(database, "_CREATION", 0.1)
    path = tmp_path / "empty.duckdb"
    path.touch()
    refused(path, make.record(), "empty.duckdb is empty, so it is no database: delete it")


@pytest.mark.parametrize("keep", [9, 5000, 12_288, 13_000, 0.5, 0.9, -1])
def test_a_truncated_database(tmp_path, make, monkeypatch, whole, keep):
    monkeypatch.setattr(database, "_CREATION", 0.1)
    path = tmp_path / "cut.duckdb"
    path.write_bytes(whole[:int(keep * len(whole)) if 0 < keep < 1 else keep])
    refused(path, make.record(), r"cut.duckdb is (damaged or )?truncated .*restore a copy")


def test_a_damaged_database(tmp_path, whole):
    path = tmp_path / "bad.duckdb"
    path.write_bytes(whole[:12_288] + b"\xff" * (len(whole) - 12_288))
    with pytest.raises(StoreError, match=r"bad.duckdb is damaged or truncated .*checksum"):
        Store.open(path)
    data_begins = 12_288 + 262_144  # the first block tells where everything is, and stays
    path.write_bytes(whole[:data_begins] + b"\xff" * (len(whole) - data_begins))
    with pytest.raises(StoreError, match=r"bad.duckdb is damaged or truncated .*checksum"):
        Store.open(path).scores_frame()


def test_a_newer_database(tmp_path, make, whole):
    path = tmp_path / "new.duckdb"
    path.write_bytes(whole)
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (99, now()::TIMESTAMP)")
    refused(path, make.record(), rf"new.duckdb has schema version 99, this auditor knows versions up to {len(MIGRATIONS)}.*upgrade auditor")


def test_an_older_database_is_migrated_by_readers_and_writers(tmp_path, make, whole, monkeypatch):
    paths = [tmp_path / "read.duckdb", tmp_path / "write.duckdb"]
    for path in paths:
        path.write_bytes(whole)
    script = "ALTER TABLE run ADD COLUMN training_step BIGINT; CREATE TABLE extra (a INTEGER)"
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, script))
    assert len(Store.open(paths[0]).scores_frame()) == 2000
    RunWriter.create(paths[1], make.record("run-2")).finish()
    for path in paths:
        with connect(path, read_only=True) as connection:
            assert connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall() == [(n + 1,) for n in range(len(MIGRATIONS) + 1)]
            assert connection.execute("SELECT training_step FROM run WHERE run_id = 'run-1'").fetchall() == [(None,)]


def test_a_failing_migration_changes_nothing(tmp_path, whole, monkeypatch):
    path = tmp_path / "old.duckdb"
    path.write_bytes(whole)
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE extra (a INTEGER)", "ALTER TABLE nowhere ADD COLUMN b INTEGER"))
    with pytest.raises(duckdb.CatalogException):
        Store.open(path)
    monkeypatch.undo()
    with connect(path, read_only=True) as connection:
        assert connection.execute("SELECT max(version) FROM schema_version").fetchall() == [(len(MIGRATIONS),)]
        assert connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'extra'").fetchall() == [(0,)]


def test_a_database_without_tables_is_taken_over(tmp_path, make):
    """What is left of a process killed while it created the file."""
    path = tmp_path / "bare.duckdb"
    duckdb.connect(str(path)).close()
    assert Store.open(path).runs() == []
    RunWriter.create(path, make.record()).finish()
    assert len(Store.open(path).runs()) == 1


def test_a_folder_where_nothing_can_be_written(make):
    """/proc refuses new files to everybody, the superuser included."""
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    with pytest.raises(StoreError, match=r"/proc/audit\.duckdb.*pass .*--db"):
        RunWriter.create(Path("/proc/audit.duckdb"), make.record())
    with pytest.raises(StoreError, match="cannot create the folder /proc/sub"):
        RunWriter.create(Path("/proc/sub/audit.duckdb"), make.record())


def test_a_read_only_folder(tmp_path, make, whole, monkeypatch):
    """Reading works; writing says what to do. The refusal is the system's, or given in its name where we are superuser."""
    path = tmp_path / "audit.duckdb"
    path.write_bytes(whole)
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    real = duckdb.connect

    def refusing(name: str, read_only: bool = False, **more: object) -> duckdb.DuckDBPyConnection:
        if not read_only:
            raise duckdb.IOException(f'IO Error: Cannot open file "{name}": Permission denied')
        return real(name, read_only=read_only, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(duckdb, "connect", refusing)
    try:
        assert len(Store.open(path).runs()) == 1
        with pytest.raises(StoreError, match=r"no permission for .*audit\.duckdb.*pass --db with a file in a folder that you may write to"):
            RunWriter.create(path, make.record("run-2"))
    finally:
        tmp_path.chmod(0o700)


def test_a_mistake_in_our_own_sql_is_not_blamed_on_the_file(tmp_path, whole):
    path = tmp_path / "audit.duckdb"
    path.write_bytes(whole)
    with pytest.raises(duckdb.BinderException), connect(path, read_only=True) as connection:
        connection.execute("SELECT nothing FROM run")
