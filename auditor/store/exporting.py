"""A sealed run as files that leave the database: every row and every link of its hash chain, as JSON lines or as a folder of Parquet files.

JSON lines: the first line says what it is; each other line is ``["<link in hex>","<table>",{row}]`` in the order of the chain. Without its
first element a line is the row's canonical text, so a few lines of Python check the file (docs/store.md has them).

Parquet: ``manifest.json``, which is the first line of the other form, a file for each table, and ``chain.parquet``. Whole numbers of more than 64 bits
and JSON columns are text. Neither form can hold code, and reading one runs none.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from auditor.errors import InputError, StoreError
from auditor.store.chain import CHAINED, Chained, arrow_batches, read_batches, rows_of, values_of
from auditor.store.migrations import MIGRATIONS
from auditor.store.verify import Verification, verify_rows

if TYPE_CHECKING:
    import duckdb

FORMAT, VERSION = "auditor-run", 1
MANIFEST = "manifest.json"
CHAIN = "chain"
_LINKS = "SELECT hex(link) AS link FROM chain WHERE run_id = ? AND table_name = ? ORDER BY position"
_ENTRIES = "SELECT position, table_name, row_key, link FROM chain WHERE run_id = ? ORDER BY position"


def manifest(found: Verification) -> dict[str, Any]:
    """What an export says of itself: format, the store's schema version, run, head, and the number of rows of each table."""
    return {"format": FORMAT, "version": VERSION, "schema": len(MIGRATIONS), "run_id": found.run_id, "head": found.head, "rows": dict(found.rows)}


def export_json(connection: duckdb.DuckDBPyConnection, run_id: str, out: Path) -> Verification:
    """Write the run to the file ``out`` and return its verification.

    Raises InputError if ``out`` exists or cannot be written or the run is not sealed, StoreError if the run does not agree with its seal.
    """
    found = _verified(connection, run_id)
    with _new(out) as place, place.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(manifest(found)) + "\n")
        for table in CHAINED:
            _write_lines(connection, run_id, table, file)
        _sync(file)
    return found


def export_parquet(connection: duckdb.DuckDBPyConnection, run_id: str, out: Path) -> Verification:
    """Write the run to the new folder ``out``; otherwise like :func:`export_json`."""
    import pyarrow.parquet

    found = _verified(connection, run_id)
    with _new(out) as place:
        place.mkdir()
        sources = {table.name: read_batches(connection, run_id, table) for table in CHAINED}
        for name, batches in (sources | {CHAIN: arrow_batches(connection, _ENTRIES, [run_id])}).items():
            first = next(batches, None)
            if first is None:
                continue
            with pyarrow.parquet.ParquetWriter(place / f"{name}.parquet", first.schema) as writer:
                for batch in (first, *batches):
                    writer.write_batch(batch)
        (place / MANIFEST).write_text(json.dumps(manifest(found)) + "\n", encoding="utf-8")
    return found


def _write_lines(connection: duckdb.DuckDBPyConnection, run_id: str, table: Chained, file: IO[str]) -> None:
    links = [link.lower() for batch in arrow_batches(connection, _LINKS, [run_id, table.name]) for link in values_of(batch)[0]]
    done = 0
    for batch in read_batches(connection, run_id, table):
        texts = rows_of(table, batch).texts
        file.writelines(f'["{link}",{text[1:]}\n' for link, text in zip(links[done:done + len(texts)], texts, strict=True))
        done += len(texts)


def _verified(connection: duckdb.DuckDBPyConnection, run_id: str) -> Verification:
    found = verify_rows(connection, run_id)
    if not found.agrees:
        raise StoreError(f"run {run_id} does not agree with its hash chain, so it is not exported; see `auditor verify {run_id}`")
    return found


@contextmanager
def _new(out: Path) -> Iterator[Path]:
    """A path to write to, which takes the name ``out`` when all has been written. Nothing that exists is replaced."""
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} exists already: nothing is replaced; pass -o with another name")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise _cannot(out, error) from None
    try:
        yield folder / "export"
        os.rename(folder / "export", out)
    except OSError as error:
        raise _cannot(out, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sync(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _cannot(out: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {out}: {error.strerror or error}; pass -o with a name in a folder that you may write to")
