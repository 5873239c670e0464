"""Taking an exported run into a store: only whole, only if its hash chain holds, all or nothing."""

from __future__ import annotations

import itertools
import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.errors import DataError, InputError, StoreError
from auditor.store.chain import BATCH, BY_NAME, CHAINED, Chained, rows_of
from auditor.store.database import connect, transaction
from auditor.store.exporting import CHAIN, FORMAT, MANIFEST, VERSION
from auditor.store.journal import directory
from auditor.store.migrations import MIGRATIONS
from auditor.store.records import stored_record
from auditor.store.verify import Verification, verify_rows
from auditor.store.writer import RUN_ID, make_folder

if TYPE_CHECKING:
    import duckdb
    import pyarrow

_LONGEST = 64 * 2**20  # characters of one line: a row, with its prompt and its reply
_ENTRY = {"position": "int64", "table_name": "string", "row_key": "string", "link": "binary"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was taken over. ``new`` is False where the store had the very same run already."""

    run_id: str
    head: str
    rows: Mapping[str, int]
    new: bool


def import_run(database: Path, path: Path) -> Imported:
    """Store an exported run (a file of JSON lines, or a folder of Parquet files) with its chain.

    Raises InputError (DataError with the line or row) for a file that is no export, was made by a newer version, is damaged, or holds a run
    of which the store has another one by the same id. Then the store is as it was.
    """
    source = _Parquet(path) if path.is_dir() else _Lines(path)
    said = _checked(source.manifest(), source.place)
    if (directory(database) / f"{said['run_id']}.jsonl").exists():
        raise InputError(f"run {said['run_id']} is being recorded into {database}: pass --db with another file")
    make_folder(database.parent)
    with connect(database, read_only=False) as connection:
        known = connection.execute("SELECT head FROM run WHERE run_id = ?", [said["run_id"]]).fetchall()
        if known and known[0][0] == said["head"]:
            return Imported(run_id=said["run_id"], head=said["head"], rows=said["rows"], new=False)
        if known:
            raise InputError(f"{database} has another run {said['run_id']} already (head {known[0][0] or 'none'}, the export's is {said['head']}): "
                             "pass --db with another file")
        with transaction(connection):
            for name, batch in source.tables():
                _insert(connection, said["run_id"], name, batch, source.place)
            connection.execute("UPDATE run SET head = ? WHERE run_id = ?", [said["head"], said["run_id"]])
            found = _held(connection, said, source.place)
    return Imported(run_id=said["run_id"], head=said["head"], rows=found.rows, new=True)


def _checked(said: Any, place: str) -> dict[str, Any]:
    """The manifest, if it is one that this version can read."""
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise InputError(f"{place} is no export of auditor: pass a file or folder that `auditor export` wrote")
    version, schema = said.get("version"), said.get("schema")
    if not isinstance(version, int) or not isinstance(schema, int) or version > VERSION or schema > len(MIGRATIONS):
        raise InputError(f"{place} is an export of version {version} from a store of schema version {schema}; this auditor knows versions up to {VERSION} "
                         f"and {len(MIGRATIONS)}: upgrade auditor")
    rows, run_id = said.get("rows"), said.get("run_id")
    right = isinstance(run_id, str) and RUN_ID.fullmatch(run_id) and isinstance(said.get("head"), str)
    if not right or not isinstance(rows, dict) or not all(name in BY_NAME and isinstance(n, int) for name, n in rows.items()):
        raise InputError(f"{place} is damaged: what it says about itself is not whole; export the run again")
    return said


def _held(connection: duckdb.DuckDBPyConnection, said: Mapping[str, Any], place: str) -> Verification:
    """The verification of what was inserted; a DataError, which takes everything back, where it does not hold."""
    try:
        record = stored_record(connection, said["run_id"])
    except (StoreError, ValueError, TypeError, AttributeError) as error:
        raise DataError(place, None, f"the export is damaged: the specification of the run cannot be read ({error}); nothing was imported") from None
    if record is None:
        raise DataError(place, None, f"the export is damaged: the row of run {said['run_id']} is missing; nothing was imported")
    if record.status != "done" or not isinstance(record.packages, dict) or not isinstance(record.hardware, dict):  # only a run that is done is sealed
        raise DataError(place, None, f"the export is damaged: run {said['run_id']} is {record.status!r} or its record is of another form; nothing was imported")
    found = verify_rows(connection, said["run_id"], said["head"])
    problems = [f"{one.kind} {one.table} {' · '.join(map(str, one.key))}" for one in found.differences] + list(found.chain)
    problems += [f"{found.rows.get(name, 0):,} rows of {name} instead of {n:,}" for name, n in said["rows"].items() if found.rows.get(name, 0) != n]
    if problems:
        more = f" and {len(problems) - 3:,} more" if len(problems) > 3 else ""
        raise DataError(place, None, f"the export is damaged, its hash chain does not hold: {'; '.join(problems[:3])}{more}; nothing was imported")
    return found


def _insert(connection: duckdb.DuckDBPyConnection, run_id: str, name: str, batch: pyarrow.Table, place: str) -> None:
    """Insert rows of this run only: an export must not reach any other."""
    import duckdb
    import pyarrow.compute

    if name != CHAIN and not pyarrow.compute.all(pyarrow.compute.equal(batch.column("run_id"), run_id), skip_nulls=False).as_py():
        raise DataError(place, None, f"the export is damaged: the table {name} has rows of another run than {run_id}; nothing was imported")
    columns = ", ".join(batch.column_names)
    extra = {CHAIN: (", run_id", ", ?", [run_id]), "run": (", journal_offset", ", ?", [0])}.get(name, ("", "", []))
    connection.register("incoming", batch)
    try:
        connection.execute(f"INSERT INTO {name} ({columns}{extra[0]}) SELECT {columns}{extra[1]} FROM incoming", extra[2])
    except (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException) as error:
        raise DataError(place, None, f"the export is damaged: a value of the table {name} is of the wrong kind ({str(error).splitlines()[0][:200]}); "
                                     "nothing was imported") from None
    connection.unregister("incoming")


def _schema(table: Chained | None) -> pyarrow.Schema:
    """The Arrow types of a table's columns, or of the chain's (None)."""
    import pyarrow

    if table is None:
        return pyarrow.schema(list(_ENTRY.items()))
    return pyarrow.schema([(name, _KINDS.get(name, "string")) for name in table.columns])


_KINDS = {
    **dict.fromkeys(("position", "epoch", "turn", "slot"), "int32"),
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "reasoning_tokens", "n", "n_clusters", "n_unscored", "n_needed"), "int64"),
    **dict.fromkeys(("value", "latency", "ci_low", "ci_high", "ci_level", "design_effect", "bound", "p_value", "p_adjusted"), "double"),
    **dict.fromkeys(("higher_is_better", "judge_based", "required", "evidence"), "bool"),
}


class _Lines:
    """An export as JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, str(path)

    def manifest(self) -> Any:
        """The first line."""
        return next(self._lines(), (0, None))[1]

    def tables(self) -> Iterator[tuple[str, pyarrow.Table]]:
        """Batches of rows of one table each, every one followed by its part of the chain."""
        rows = ((number, _row(line, self.path, number)) for number, line in itertools.islice(self._lines(), 1, None))
        position = 0
        for name, group in itertools.groupby(rows, key=lambda found: found[1][1]):
            while batch := list(itertools.islice(group, BATCH)):
                table = BY_NAME[name]
                found = self._table(table, batch)
                yield name, found
                yield CHAIN, _entries(name, rows_of(table, found).keys, [link for _, (link, _, _) in batch], position)
                position += len(batch)

    def _table(self, table: Chained, batch: list[tuple[int, tuple[bytes, str, dict[str, Any]]]]) -> pyarrow.Table:
        import pyarrow

        columns = {name: [row.get(name) for _, (_, _, row) in batch] for name in table.columns}
        for name in table.integers:
            columns[name] = [None if value is None else str(value) for value in columns[name]]
        try:
            return pyarrow.table(columns, schema=_schema(table))
        except (pyarrow.ArrowException, TypeError, OverflowError) as error:
            raise DataError(self.path, batch[0][0], f"here, or in one of the {len(batch):,} lines from here on, a value is of the wrong kind ({error}); "
                                                    "nothing was imported") from None

    def _lines(self) -> Iterator[tuple[int, Any]]:
        try:
            with self.path.open(encoding="utf-8", newline="\n") as file:
                for number in itertools.count(1):
                    line = file.readline(_LONGEST)
                    if not line:
                        return
                    yield number, _json(line, self.path, number)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}; pass what `auditor export` wrote") from None
        except UnicodeDecodeError:
            raise InputError(f"{self.path} is no export of auditor, or is damaged: it is not UTF-8 text") from None


def _json(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(path, number, "the line is no JSON: this is no export of auditor, or it is damaged; nothing was imported") from None


def _row(found: Any, path: Path, number: int) -> tuple[bytes, str, dict[str, Any]]:
    """Link, table and columns of a line."""
    try:
        link, name, row = found
        if name in BY_NAME and isinstance(row, dict) and set(row) <= set(BY_NAME[name].columns):
            return bytes.fromhex(link), name, row
    except (ValueError, TypeError):
        pass
    raise DataError(path, number, "the line is no row of a run; the export is damaged, or of a newer version; nothing was imported") from None


def _entries(name: str, keys: Any, links: list[bytes], first: int) -> pyarrow.Table:
    import pyarrow

    columns = {"position": list(range(first, first + len(links))), "table_name": [name] * len(links), "row_key": list(keys), "link": links}
    return pyarrow.table(columns, schema=_schema(None))


class _Parquet:
    """An export as a folder of Parquet files. Only files of the names that an export has are opened, and no link out of the folder is followed."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, str(path)

    def manifest(self) -> Any:
        """What the folder says of itself."""
        path = self._file(MANIFEST)
        if path is None or path.stat().st_size > _LONGEST:
            return None
        return _json(path.read_text(encoding="utf-8", errors="replace"), path, 1)

    def tables(self) -> Iterator[tuple[str, pyarrow.Table]]:
        """Batches of the rows of each table, then of the chain."""
        import pyarrow
        import pyarrow.parquet

        for name, table in [*((table.name, table) for table in CHAINED), (CHAIN, None)]:
            path = self._file(f"{name}.parquet")
            if path is None:
                continue
            try:
                with pyarrow.parquet.ParquetFile(path) as file:
                    for batch in file.iter_batches(BATCH):
                        yield name, self._typed(pyarrow.Table.from_batches([batch]), table, path)
            except (pyarrow.ArrowException, OSError) as error:
                raise InputError(f"{path} is damaged or no Parquet file ({str(error).splitlines()[0][:200]}); nothing was imported") from None

    def _typed(self, batch: pyarrow.Table, table: Chained | None, path: Path) -> pyarrow.Table:
        import pyarrow

        schema = _schema(table)
        unknown = sorted(set(batch.column_names) - set(schema.names))
        if unknown:
            raise InputError(f"{path} has the unknown column {unknown[0]!r}: the export is damaged, or of a newer version; nothing was imported")
        columns = [batch.column(name) if name in batch.column_names else pyarrow.nulls(batch.num_rows) for name in schema.names]
        return pyarrow.table(columns, names=schema.names).cast(schema)

    def _file(self, name: str) -> Path | None:
        """A regular file of the folder; None if there is none. Raises InputError for a link, which could point anywhere."""
        path = self.path / name
        try:
            mode = path.lstat().st_mode
        except OSError:
            return None
        if not stat.S_ISREG(mode):
            raise InputError(f"{path} is no regular file: an export holds none but such, and nothing outside its folder is read")
        return path
