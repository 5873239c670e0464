"""A run's rows as canonical JSON, in a fixed order, and the hash chain over them.

The canonical text of a row is ``["score",{"answer":"A","epoch":0,…}]``: the table's name and the columns, with sorted keys, no spaces, text
as it is (only ``"``, ``\\`` and characters below U+0020 escaped), numbers in their shortest exact form. A NULL is left out, so that a column
added later leaves the hashes of earlier rows as they are. A column of type JSON counts as the text that is stored.

    link[0]     = SHA-256("auditor chain 1")
    link[i + 1] = SHA-256(link[i] || SHA-256(canonical text of row i))

The rows come in the order of :data:`CHAINED`, the run's own row last; the last link is the run's *head*. Whoever knows the head can tell that
no row was changed, dropped, added or reordered; the stored links say which.

Rows are hashed a column at a time: equal values of a batch are encoded once, and a million rows take seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import pyarrow

GENESIS = hashlib.sha256(b"auditor chain 1").digest()
BATCH = 50_000  # rows held at once

_sha256 = hashlib.sha256
_LOOK = 1000  # values looked at to tell whether a column repeats itself
_SEPARATOR = "\n"  # between the values of a column that are encoded in one call: no encoded value holds one


@dataclass(frozen=True, slots=True, kw_only=True)
class Chained:
    """What the chain covers of a table: its columns, those that name a row, and those that put the rows in order."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    order: tuple[str, ...]
    json: frozenset[str] = frozenset()
    integers: frozenset[str] = frozenset()  # columns of whole numbers that Arrow has no type for; they are read as text

    def select(self, where: str) -> str:
        """SQL for the rows in their order, with columns that every version of Arrow has a type for."""
        columns = (f"{name}::VARCHAR AS {name}" if name in self.json | self.integers else name for name in self.columns)
        return f"SELECT {', '.join(columns)} FROM {self.name} WHERE {where} ORDER BY {', '.join(self.order)}"


def _table(name: str, columns: str, *, key: str, order: str, json: str = "", integers: str = "") -> Chained:
    return Chained(name=name, columns=tuple(sorted(columns.split())), key=tuple(key.split()), order=tuple(order.split()),
                   json=frozenset(json.split()), integers=frozenset(integers.split()))


RUN = _table(
    "run", "run_id created finished status error spec spec_hash model_uri weights_hash profile evidence git_commit packages hardware",
    key="run_id", order="run_id", json="spec packages hardware")

CHAINED: tuple[Chained, ...] = (
    _table("sample", "run_id suite sample_id position cluster_id messages target choices source metadata",
           key="suite sample_id", order="suite position sample_id", json="messages choices metadata"),
    _table("generation", "run_id suite sample_id epoch turn slot role kind messages options sampling seed text reasoning finish_reason "
                         "logprobs judgment prompt_tokens completion_tokens reasoning_tokens latency model error",
           key="suite sample_id epoch turn slot", order="suite sample_id epoch turn slot", json="messages options sampling logprobs judgment",
           integers="seed"),
    _table("score", "run_id suite sample_id epoch scorer turn slot value status answer explanation",
           key="suite sample_id epoch scorer turn slot", order="suite sample_id epoch scorer turn slot"),
    _table("metric", "run_id suite name group_name position value ci_low ci_high ci_level ci_method n n_clusters n_unscored higher_is_better "
                     "unit design_effect judge_based reason flags",
           key="suite name group_name", order="suite position name group_name", json="flags"),
    _table("verdict", "run_id suite metric group_name position outcome bound direction source rationale required reason n_needed p_value "
                      "p_adjusted metric_record",
           key="suite metric group_name", order="suite position metric group_name bound direction", json="metric_record"),
    RUN,
)
UNCHAINED = {"run": frozenset({"journal_offset", "head"})}  # bookkeeping of the store itself
BY_NAME: Mapping[str, Chained] = {table.name: table for table in CHAINED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A batch of rows in their order: the key of each as JSON text, and its canonical text."""

    keys: Sequence[str]
    texts: Sequence[str]

    def hashes(self) -> list[bytes]:
        """SHA-256 of each canonical text."""
        return [_sha256(text.encode("utf-8")).digest() for text in self.texts]


def canonical(table: Chained, row: Mapping[str, Any]) -> str:
    """The canonical text of one row, given by its columns; what :func:`rows_of` gives for many at once."""
    present = {name: int(row[name]) if name in table.integers else row[name] for name in table.columns if row[name] is not None}
    return json.dumps([table.name, present], ensure_ascii=False, separators=(",", ":"))


def extend(link: bytes, hashes: Sequence[bytes]) -> list[bytes]:
    """The links after ``link`` that rows of these hashes add to the chain."""
    links = []
    for one in hashes:
        link = _sha256(link + one).digest()
        links.append(link)
    return links


def read_rows(connection: duckdb.DuckDBPyConnection, run_id: str, table: Chained, *, strict: bool = False) -> Iterator[Rows]:
    """All rows of a run's table in their order, in batches; nothing else may be asked of the connection meanwhile.

    ``strict`` raises ValueError on NaN and infinity, which no canonical text holds; otherwise they are written as such and match no seal.
    """
    for batch in read_batches(connection, run_id, table):
        yield rows_of(table, batch, strict=strict)


def read_batches(connection: duckdb.DuckDBPyConnection, run_id: str, table: Chained) -> Iterator[pyarrow.RecordBatch]:
    """Like :func:`read_rows`, as Arrow batches. One suite after the other, which bounds what DuckDB has to sort at once."""
    if table is RUN:
        yield from arrow_batches(connection, table.select("run_id = ?"), [run_id])
        return
    suites = connection.execute(f"SELECT DISTINCT suite FROM {table.name} WHERE run_id = ? ORDER BY suite", [run_id]).fetchall()
    for (suite,) in suites:
        yield from arrow_batches(connection, table.select("run_id = ? AND suite = ?"), [run_id, suite])


def arrow_batches(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any]) -> Iterator[pyarrow.RecordBatch]:
    """The result in batches of at most :data:`BATCH` rows."""
    relation = connection.sql(sql, params=list(parameters))
    reader = relation.to_arrow_reader(BATCH) if hasattr(relation, "to_arrow_reader") else relation.fetch_record_batch(BATCH)  # DuckDB before 2.0
    yield from (batch for batch in reader if batch.num_rows)


def rows_of(table: Chained, batch: pyarrow.RecordBatch | pyarrow.Table, *, strict: bool = False) -> Rows:
    """Keys and canonical texts of a batch that has the table's columns; ``strict`` as for :func:`read_rows`."""
    encoded = {name: _encoded(batch.column(name), whole=name in table.integers, strict=strict) for name in table.columns}
    keys = _joined("[", [("", encoded[name]) for name in table.key], "]", batch.num_rows)
    texts = _joined(f'["{table.name}",{{', [(f'"{name}":', encoded[name]) for name in table.columns], "}]", batch.num_rows)
    return Rows(keys=keys, texts=texts)


Encoded = str | list[str] | list[str | None]  # the JSON text of each value, None for NULL; one text where all are the same


def _joined(start: str, members: Sequence[tuple[str, Encoded]], end: str, n: int) -> list[str]:
    """Row by row, each member's prefix and JSON text between commas; a NULL goes with its prefix and comma."""
    template = ""
    columns: list[Sequence[str | None]] = []
    for prefix, values in members:
        if isinstance(values, str):
            template += ("," + prefix + values).replace("%", "%%")
        elif None in values:
            template += "%s"
            columns.append(["" if value is None else f",{prefix}{value}" for value in values])
        else:
            template += f",{prefix}%s"
            columns.append(values)
    leads = template.startswith(",")  # else the first member may be a NULL, and its comma stands or falls with it
    template = start.replace("%", "%%") + template[leads:] + end
    rows = [template % row for row in zip(*columns, strict=True)] if columns else [template.replace("%%", "%")] * n
    return rows if leads else [row.replace(start + ",", start, 1) for row in rows]


def values_of(batch: pyarrow.RecordBatch) -> list[list[Any]]:
    """The Python values of each column, none of which may hold a NULL."""
    return [_values(column) for column in batch.columns]


def _encoded(column: pyarrow.Array, *, whole: bool, strict: bool) -> Encoded:
    """The JSON text of each value. Values that come again and again are encoded once."""
    import pyarrow

    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
    present = column.drop_null() if column.null_count else column
    few = len(present) > 0 and 2 * len(present[:_LOOK].unique()) < len(present[:_LOOK])
    if not few:
        rest = iter(_texts(_values(present), whole, strict))
        return list(rest) if not column.null_count else [next(rest) if there else None for there in _values(column.is_valid())]
    coded = column.dictionary_encode()
    texts = _texts(_values(coded.dictionary), whole, strict)
    if column.null_count == 0 and len(texts) == 1:
        return texts[0]
    return list(map([*texts, None].__getitem__, _values(coded.indices.fill_null(len(texts)))))


def _values(column: pyarrow.Array) -> list[Any]:
    """Python values of a column without NULL; many times quicker than its own ``to_pylist``."""
    values: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    return values


def _texts(values: list[Any], whole: bool, strict: bool) -> list[str]:
    if whole:
        return [str(int(value)) for value in values]
    encode = (_STRICT if strict else _LENIENT).encode
    return encode(values)[1:-1].split(_SEPARATOR) if values else []


_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(_SEPARATOR, ":"))
_LENIENT = json.JSONEncoder(ensure_ascii=False, separators=(_SEPARATOR, ":"))
