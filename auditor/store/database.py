"""Opening the DuckDB file: retry while another process holds it, refuse what is not ours, migrate what is older.

DuckDB locks the whole file while it is open for writing, so nobody keeps it open: :func:`connect` is a context
manager around one short transaction or a few queries.
"""

from __future__ import annotations

import errno
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from auditor.errors import StoreError, StoreLockedError
from auditor.store.migrations import MIGRATIONS

log = logging.getLogger(__name__)

READ_WAIT = 5.0  # seconds that a reader waits for a writer's short commit
_PAUSE = 0.05
_CREATION = 3.0  # seconds within which another process must have finished writing a new file's header
_MAGIC = slice(8, 12)  # DuckDB's storage format: an 8-byte checksum, then "DUCK"
_OURS = frozenset({"run", "sample", "generation", "score", "metric", "verdict", "training_run", "training_stage", "training_step", "chain"})
_HEADER_BYTES = 3 * 4096  # one main header and two database headers
_DAMAGE = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
_ANOTHER = "it was left as it is: pass --db with another file"
_RESTORE = "it was left as it is: restore a copy of it, or pass --db with another file"
_NO_SPACE = ("No space left", "Disk quota exceeded", "File too large")  # of the operating system, inside DuckDB's messages
_CONFIG: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}

# POSIX file locks belong to a process: closing any descriptor of the file drops them all. So a process opens one at a time.
_ONE_AT_A_TIME = threading.RLock()


class _NotReady(Exception):
    """The file may be one that another process is creating at this moment."""


@contextmanager
def connect(path: Path, *, read_only: bool, wait: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the store's database for a short while; creates it (or brings it up to date) when opened for writing.

    ``wait`` is how many seconds (5 by default) to retry while another process holds the file. Raises StoreLockedError after that, and
    StoreError for a file that is damaged, foreign or newer (left untouched), for missing permission and for a full disk.
    """
    with _ONE_AT_A_TIME:
        with _explained(path, duckdb.Error, OSError):
            connection = _retry(path, read_only, time.monotonic() + (READ_WAIT if wait is None else wait))
        with _explained(path, duckdb.Error):  # an OSError in here is about something else that the caller does
            try:
                if not read_only:
                    _migrate(connection)
                yield connection
            finally:
                connection.close()


@contextmanager
def _explained(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Turn complaints about the file into a StoreError; errors in our own SQL pass as they are."""
    try:
        yield
    except kinds as error:
        explained = explain(error, path)
        if explained is None:
            raise
        raise explained from error


def explain(error: Exception, path: Path) -> StoreError | None:
    """The StoreError that tells a user what ``error`` means for the file ``path``; None if it is not about the file."""
    text = str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or any(words in text for words in _NO_SPACE):
        return no_space(path)
    if _is_lock(error):
        holder = re.search(r"\(PID (\d+)\)", text)
        who = f"another process (PID {holder[1]})" if holder else "another process"
        return StoreLockedError(f"{who} holds the database {path}: wait until it has finished, or pass another file with --db")
    if isinstance(error, PermissionError) or "Permission denied" in text or "Read-only file system" in text:
        return StoreError(f"no permission for {path} ({_first_line(text)}): pass --db with a file in a folder that you may write to")
    if isinstance(error, OSError):
        return StoreError(f"cannot open {path}: {error.strerror or error}; pass another file with --db")
    if isinstance(error, _DAMAGE) or "Corrupt database file" in text:
        return StoreError(f"the database {path} is damaged or truncated ({_first_line(text)}); {_RESTORE}")
    return None


def no_space(path: Path) -> StoreError:
    """The same words for the journal and the database."""
    return StoreError(f"no space left on the disk of {path}: nothing recorded so far is lost; free space and go on with --resume RUN")


def _is_lock(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, duckdb.Error) and ("Could not set lock" in text or "different configuration than existing" in text)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else "no details"


def _retry(path: Path, read_only: bool, deadline: float) -> duckdb.DuckDBPyConnection:
    created_by = time.monotonic() + _CREATION
    while True:
        try:
            return _open(path, read_only)
        except _NotReady as error:
            if time.monotonic() >= created_by:
                raise StoreError(str(error)) from None
        except duckdb.Error as error:
            if not _is_lock(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


def _open(path: Path, read_only: bool) -> duckdb.DuckDBPyConnection:
    if path.exists():
        _check_header(path)
        # A look before a writer opens the file, since opening for writing may already change it.
        looked_at = duckdb.connect(str(path), read_only=True, config=_CONFIG)
        try:
            version = _check_content(looked_at, path)
        except BaseException:
            looked_at.close()
            raise
        if read_only and version == len(MIGRATIONS):
            return looked_at
        looked_at.close()
        if read_only:
            return _upgraded(path)
    elif read_only:
        raise StoreError(f"there is no database {path}: pass --db with the file of an earlier `auditor run`")
    return duckdb.connect(str(path), config=_CONFIG)


def _upgraded(path: Path) -> duckdb.DuckDBPyConnection:
    """An older file cannot be read as it is: migrate it first."""
    log.info("bringing %s up to schema version %d", path, len(MIGRATIONS))
    writer = duckdb.connect(str(path), config=_CONFIG)
    try:
        _migrate(writer)
    finally:
        writer.close()
    return duckdb.connect(str(path), read_only=True, config=_CONFIG)


def _check_header(path: Path) -> None:
    """Refuse at once what is no DuckDB file: DuckDB itself might try to load an extension for it."""
    with path.open("rb") as handle:
        header = handle.read(_HEADER_BYTES)
    if len(header) >= _MAGIC.stop and header[_MAGIC] != b"DUCK":
        raise StoreError(f"{path} is not a DuckDB database; {_ANOTHER}")
    if not header:
        raise _NotReady(f"the file {path} is empty, so it is no database: delete it, or pass another file with --db")
    if len(header) < _HEADER_BYTES:
        raise _NotReady(f"the database {path} is truncated ({len(header)} bytes); {_RESTORE}")


def _check_content(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """The file's schema version, 0 for a database without tables. Raises StoreError if truncated, foreign or newer."""
    names = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()}
    if not names:
        return 0
    if "schema_version" not in names:
        listing = ", ".join(sorted(names)[:5])
        raise StoreError(f"{path} is a DuckDB database of something else (tables: {listing}); {_ANOTHER}")
    _check_size(connection, path, names)
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} has schema version {version}, this auditor knows versions up to {len(MIGRATIONS)}; it was left as it is: "
            "upgrade auditor, or pass --db with another file"
        )
    return version


def _check_size(connection: duckdb.DuckDBPyConnection, path: Path, tables: set[str]) -> None:
    """DuckDB reads lazily and would report a lost tail only on the query that meets it."""
    row = connection.execute("SELECT block_size, total_blocks, used_blocks FROM pragma_database_size()").fetchone()
    block_size, total, used = row if row else (0, 0, 0)
    actual = path.stat().st_size
    if actual >= _HEADER_BYTES + block_size * total:
        return
    # Free blocks at the end of the file need not exist; what counts is the last one in use.
    sources = ["pragma_metadata_info()", *(f"pragma_storage_info('{name}')" for name in sorted(tables & _OURS))]
    last = max(connection.execute(f"SELECT coalesce(max(block_id), -1) FROM {source}").fetchall()[0][0] for source in sources)
    expected = _HEADER_BYTES + block_size * max(used, last + 1)
    if actual < expected:
        raise StoreError(f"the database {path} is truncated ({actual} of {expected} bytes); {_RESTORE}")


def _version(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    return int(row[0]) if row else 0


def _migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Apply the scripts that the file lacks, all in one transaction."""
    known = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'schema_version'").fetchone()
    version = _version(connection) if known else 0
    if version == len(MIGRATIONS):
        return
    with transaction(connection):
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, applied TIMESTAMP NOT NULL)")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            connection.execute(script)
            connection.execute("INSERT INTO schema_version VALUES (?, now()::TIMESTAMP)", [number])


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        # The first error is the one to report; after a fatal one DuckDB refuses the rollback too.
        try:
            connection.execute("ROLLBACK")
        except duckdb.Error as error:
            log.debug("rollback failed: %s", error)
        raise
    connection.execute("COMMIT")
