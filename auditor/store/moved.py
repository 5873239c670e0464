"""Rows that do not agree with their seal, and what can be told of each: changed, or sealed for another place or another row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from auditor.store.chain import Chained, arrow_batches, canonical

if TYPE_CHECKING:
    import duckdb

Kind = Literal["changed", "dropped", "added", "moved"]
EXAMINED = 200  # changed rows of which it is asked whether they were only moved: each is compared with all others


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One row that does not agree with the seal: its table, the columns that name it, and what is known beyond the kind.

    ``moved``: what the row holds was sealed, but for another place in its suite or for another row.
    """

    kind: Kind
    table: str
    key: tuple[Any, ...]
    detail: str = ""


class Entry(NamedTuple):
    """A row as it was sealed. ``before`` is the link before it, None where that is gone."""

    position: int
    before: bytes | None
    link: bytes

    def seals(self, row_hash: bytes) -> bool:
        return self.before is not None and hashlib.sha256(self.before + row_hash).digest() == self.link


class Changed(NamedTuple):
    """A row that is not as it was sealed."""

    table: Chained
    key: str
    entry: Entry


def key_of(text: str) -> tuple[Any, ...]:
    """The columns that name a row, from their JSON text; a text that is none (the chain itself may be altered) as it is."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return (text,)
    return tuple(values) if isinstance(values, list) else (text,)


class _Candidate(NamedTuple):
    """A changed row as it stands now, and the place in its suite that it was sealed for."""

    changed: Changed
    row: Mapping[str, Any]
    place: int


def explain(connection: duckdb.DuckDBPyConnection, run_id: str, changed: Sequence[Changed]) -> list[Difference]:
    """A difference for each of the first changed rows, in their order."""
    examined = changed[:EXAMINED]
    candidates = {one: _candidate(connection, run_id, one) for one in examined}
    return [_difference(one, candidates[one], [other for other in candidates.values() if other and other.changed.table is one.table]) for one in examined]


def _candidate(connection: duckdb.DuckDBPyConnection, run_id: str, changed: Changed) -> _Candidate | None:
    """None where several rows have the key, or the key is none: then nothing more can be told."""
    table, key = changed.table, key_of(changed.key)
    if len(key) != len(table.key):
        return None
    where = " AND ".join(["run_id = ?", *(f"{name} = ?" for name in table.key)])
    rows = [row for batch in arrow_batches(connection, table.select(where), [run_id, *key]) for row in batch.to_pylist()]
    sql = "SELECT min(position) FROM chain WHERE run_id = ? AND table_name = ? AND starts_with(row_key, ?)"
    (first,) = connection.execute(sql, [run_id, table.name, f"[{json.dumps(key[0], ensure_ascii=False)}"]).fetchall()[0]
    return _Candidate(changed, rows[0], changed.entry.position - (first or 0)) if len(rows) == 1 else None


def _difference(changed: Changed, found: _Candidate | None, others: Sequence[_Candidate]) -> Difference:
    table, key = changed.table, key_of(changed.key)
    if found is not None and "position" in table.columns and _seals(changed, {**found.row, "position": found.place}):
        return Difference(kind="moved", table=table.name, key=key, detail=f"at place {found.row['position']} of its suite, sealed at place {found.place}")
    for other in others:
        if found is not None and other.changed is not changed and _seals(other.changed, {**found.row, **_identity(other)}):
            return Difference(kind="moved", table=table.name, key=key, detail=f"holds what was sealed as {other.changed.key}")
    return Difference(kind="changed", table=table.name, key=key)


def _identity(candidate: _Candidate) -> dict[str, Any]:
    """The columns by which a row is told from others of its table: its key, and its place."""
    table = candidate.changed.table
    names = dict(zip(table.key, key_of(candidate.changed.key), strict=True))
    return names | ({"position": candidate.place} if "position" in table.columns else {})


def _seals(changed: Changed, row: Mapping[str, Any]) -> bool:
    return changed.entry.seals(hashlib.sha256(canonical(changed.table, row).encode("utf-8")).digest())
