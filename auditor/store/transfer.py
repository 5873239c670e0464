"""From the journal into the database: each line exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from auditor.errors import StoreError
from auditor.schema import canonical_json
from auditor.store import codec
from auditor.store.database import transaction
from auditor.store.journal import Journal
from auditor.store.seal import Seal, store_seal
from auditor.store.tables import TABLES, replace_rows

if TYPE_CHECKING:
    import duckdb

_BULK = 100_000  # rows handed to DuckDB at once: bounds the memory of a large commit


def committed_offset(connection: duckdb.DuckDBPyConnection, run_id: str) -> int:
    """Up to which byte of its journal a run is in the database."""
    row = connection.execute("SELECT journal_offset FROM run WHERE run_id = ?", [run_id]).fetchone()
    return int(row[0]) if row else 0


def transfer(connection: duckdb.DuckDBPyConnection, run_id: str, held: Journal, seal: Seal | None = None) -> None:
    """Store all journal lines beyond the run's offset, the new offset, and the seal if there is one, in one transaction.

    A seal is that of all rows in the database but the run's own; the lines may change only this one.
    """
    start = committed_offset(connection, run_id)
    if start >= held.size:
        return
    with transaction(connection):
        pending = _Pending(connection, run_id)
        for line, _ in held.read(start):
            pending.add(line)
        pending.flush()
        connection.execute("UPDATE run SET journal_offset = ? WHERE run_id = ?", [held.size, run_id])
        if seal is not None:
            store_seal(connection, run_id, seal)


class _Pending:
    """Rows collected from journal lines, by table, until there are enough for a bulk insert."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
        self._connection = connection
        self._run_id = run_id
        self._columns: dict[str, dict[str, list[Any]]] = {}
        self._single: Mapping[str, Callable[[Mapping[str, Any]], None]] = {"run": self._insert_run, "status": self._set_status}

    def add(self, line: Mapping[str, Any]) -> None:
        name = line["table"]
        if name in self._single:
            self._single[name](line)
            return
        if name not in TABLES:
            problem = f"the journal of run {self._run_id} has a line for the unknown table {name!r}"
            raise StoreError(f"{problem}: it was written by another version of auditor")
        rows = line["columns"] | {key: [value] * line["n"] for key, value in line["constant"].items()}
        if TABLES[name].wholesale:
            replace_rows(self._connection, self._run_id, TABLES[name], rows)
            return
        collected = self._columns.setdefault(name, {column: [] for column in TABLES[name].columns})
        for column, values in collected.items():
            values.extend(rows[column])
        if len(collected["suite"]) >= _BULK:
            self._flush_table(name)

    def flush(self) -> None:
        for name in list(self._columns):
            self._flush_table(name)

    def _flush_table(self, name: str) -> None:
        replace_rows(self._connection, self._run_id, TABLES[name], self._columns.pop(name))

    def _insert_run(self, line: Mapping[str, Any]) -> None:
        record = codec.record_from_dict(line["record"])
        spec = record.spec
        row = {
            "run_id": record.run_id, "created": record.created, "status": record.status, "spec": canonical_json(spec),
            "spec_hash": spec.hash, "model_uri": spec.model.uri, "weights_hash": spec.model.weights_hash, "profile": spec.profile,
            "evidence": spec.limit is None and spec.profile != "quick", "git_commit": record.git_commit,
            "packages": canonical_json(record.packages), "hardware": canonical_json(record.hardware), "journal_offset": 0,
        }
        self._connection.execute("DELETE FROM run WHERE run_id = ?", [self._run_id])
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT INTO run ({', '.join(row)}) VALUES ({marks})", list(row.values()))

    def _set_status(self, line: Mapping[str, Any]) -> None:
        values = [line["status"], line["error"], line["finished"], self._run_id]
        self._connection.execute("UPDATE run SET status = ?, error = ?, finished = ? WHERE run_id = ?", values)
