"""Sealing a finished run: the links of its hash chain go into the table ``chain``, the last of them into ``run.head``.

Hashing a million rows takes seconds, in which nobody should have to wait for the database: the rows are hashed while it is open for reading
only, and the transaction that marks the run as done adds the run's own row and stores the links.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditor.errors import StoreError
from auditor.store.chain import CHAINED, GENESIS, RUN, Chained, Rows, extend, read_rows

if TYPE_CHECKING:
    import duckdb
    import pyarrow


class Seal:
    """The chain of a run as far as its rows were read. ``head`` is the last link."""

    def __init__(self) -> None:
        self.head = GENESIS
        self.entries: list[pyarrow.Table] = []
        self.n = 0

    def add(self, table: Chained, rows: Rows) -> None:
        """Append rows to the chain."""
        import pyarrow

        links = extend(self.head, rows.hashes())
        n = len(links)
        self.entries.append(pyarrow.table({
            "position": pyarrow.array(range(self.n, self.n + n), type=pyarrow.int64()),
            "table_name": pyarrow.array([table.name] * n, type=pyarrow.string()),
            "row_key": pyarrow.array(rows.keys, type=pyarrow.string()),
            "link": pyarrow.array(links, type=pyarrow.binary()),
        }))
        self.head = links[-1]
        self.n += n


def seal_rows(connection: duckdb.DuckDBPyConnection, run_id: str) -> Seal:
    """Chain all rows of a run but the run's own, which changes until it is done. Raises StoreError on NaN or infinity."""
    seal = Seal()
    for table in CHAINED[:-1]:
        _add_all(seal, connection, run_id, table)
    return seal


def store_seal(connection: duckdb.DuckDBPyConnection, run_id: str, seal: Seal) -> None:
    """Chain the run's own row, as it stands now, and store the seal in place of an earlier one. Must run inside a transaction."""
    _add_all(seal, connection, run_id, RUN)
    connection.execute("DELETE FROM chain WHERE run_id = ?", [run_id])
    for entries in seal.entries:
        connection.register("incoming", entries)
        try:
            connection.execute("INSERT INTO chain (run_id, position, table_name, row_key, link) "
                               "SELECT ?, position, table_name, row_key, link FROM incoming", [run_id])
        finally:
            connection.unregister("incoming")
    connection.execute("UPDATE run SET head = ? WHERE run_id = ?", [seal.head.hex(), run_id])


def _add_all(seal: Seal, connection: duckdb.DuckDBPyConnection, run_id: str, table: Chained) -> None:
    try:
        for rows in read_rows(connection, run_id, table, strict=True):
            seal.add(table, rows)
    except ValueError as error:
        raise StoreError(f"run {run_id} cannot be sealed: the table {table.name} holds a number that is none ({error})") from error
