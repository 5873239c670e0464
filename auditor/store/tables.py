"""What the writer knows of each table it fills in bulk: column types, and the key by which a row replaces an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import pyarrow


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_INTEGERS = _names("position epoch turn slot prompt_tokens completion_tokens reasoning_tokens n n_clusters n_unscored n_needed")
_REALS = _names("value latency ci_low ci_high ci_level design_effect bound p_value p_adjusted")
_BOOLEANS = _names("higher_is_better judge_based required")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """``key`` are the columns (besides run_id) in which a new row must equal an old one to replace it.

    A table is ``wholesale`` where one batch holds all rows of its key, so that earlier rows of the key go even if the batch
    has no successor for them (the metrics of a suite, aggregated anew).
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    wholesale: bool = False


TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        Table(
            name="sample",
            columns=_names("suite sample_id position cluster_id messages target choices source metadata"),
            key=("suite", "sample_id"),
        ),
        Table(
            name="generation",
            columns=_names(
                "suite sample_id epoch turn slot role kind messages options sampling seed text reasoning finish_reason logprobs "
                "judgment prompt_tokens completion_tokens reasoning_tokens latency model error"
            ),
            key=("suite", "sample_id", "epoch", "turn", "slot"),
        ),
        Table(
            name="score",
            columns=_names("suite sample_id epoch scorer turn slot value status answer explanation"),
            key=("suite", "sample_id", "epoch", "scorer", "turn", "slot"),
        ),
        Table(
            name="metric",
            columns=_names(
                "suite name group_name position value ci_low ci_high ci_level ci_method n n_clusters n_unscored higher_is_better "
                "unit design_effect judge_based reason flags"
            ),
            key=("suite",),
            wholesale=True,
        ),
        Table(
            name="verdict",
            columns=_names(
                "suite metric group_name position outcome bound direction source rationale required reason n_needed p_value "
                "p_adjusted metric_record"
            ),
            key=("suite",),
            wholesale=True,
        ),
    )
}


def replace_rows(connection: duckdb.DuckDBPyConnection, run_id: str, table: Table, columns: Mapping[str, Sequence[Any]]) -> None:
    """Insert the rows given column-wise; rows of the run with an equal key go, and of equal new ones the last is kept.

    Must run inside a transaction.
    """
    connection.register("incoming", _arrow(table, columns))
    same = " AND ".join(f"old.{name} = incoming.{name}" for name in table.key)
    keys, names = ", ".join(table.key), ", ".join(table.columns)
    last = f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY batch_order DESC) = 1"
    try:
        connection.execute(f"DELETE FROM {table.name} AS old USING incoming WHERE old.run_id = ? AND {same}", [run_id])
        distinct = table.wholesale or not _has_duplicates(connection, keys)
        rows = f"SELECT {names}, batch_order FROM incoming {'' if distinct else last}"
        connection.execute(f"INSERT INTO {table.name} (run_id, {names}) SELECT ?, {names} FROM ({rows}) ORDER BY batch_order", [run_id])
    finally:
        connection.unregister("incoming")


def _has_duplicates(connection: duckdb.DuckDBPyConnection, keys: str) -> bool:
    return connection.execute(f"SELECT 1 FROM incoming GROUP BY {keys} HAVING count(*) > 1 LIMIT 1").fetchone() is not None


def _arrow(table: Table, columns: Mapping[str, Sequence[Any]]) -> pyarrow.Table:
    import pyarrow

    types = {name: _type(name) for name in table.columns}
    arrays = {name: pyarrow.array(columns[name], type=types[name]) for name in table.columns}
    arrays["batch_order"] = pyarrow.array(range(len(columns[table.columns[0]])), type=pyarrow.int64())
    return pyarrow.table(arrays)


def _type(column: str) -> pyarrow.DataType:
    import pyarrow

    if column in _INTEGERS:
        return pyarrow.int64()
    if column in _REALS:
        return pyarrow.float64()
    return pyarrow.bool_() if column in _BOOLEANS else pyarrow.string()
