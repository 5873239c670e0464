"""Checking a run's rows against its seal, and naming those that do not agree.

Each stored link is checked against the one stored before it and the row as it stands now, so one altered row is one finding: whoever also
alters its link breaks the next one, and so on up to the head. Whoever rebuilds all links and the head leaves a store that agrees with itself;
that is found only with a head that was kept elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from auditor.errors import InputError
from auditor.store.chain import BATCH, CHAINED, GENESIS, Chained, arrow_batches, read_rows, values_of
from auditor.store.moved import Changed, Difference, Entry, Kind, explain, key_of

if TYPE_CHECKING:
    import duckdb

LISTED = 20  # differences that are named; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of checking a run. ``rows`` counts the rows of each table, ``counts`` the differences of each kind.

    ``chain`` says in words what is wrong with the chain itself. ``expected`` is the head kept elsewhere, None if there was none; then
    ``agrees`` means only that the store agrees with itself.
    """

    run_id: str
    head: str
    rows: Mapping[str, int]
    counts: Mapping[str, int] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    chain: tuple[str, ...] = ()
    expected: str | None = None

    @property
    def agrees(self) -> bool:
        return not self.counts and not self.chain


def verify_rows(connection: duckdb.DuckDBPyConnection, run_id: str, expected: str | None = None) -> Verification:
    """Check a run's rows, its stored head, and the head that is ``expected``. Raises InputError for a run that is not sealed."""
    stored, last = _heads(connection, run_id)
    reader = _Reader(connection, run_id)
    for table in CHAINED:
        reader.check(table)
    named = explain(connection, run_id, reader.changed)
    moved = sum(one.kind == "moved" for one in named)
    counts = {**reader.counts, "changed": reader.counts["changed"] - moved, "moved": moved}
    problems = _places(connection, run_id, reader)
    if stored != last:
        problems.append(f"the chain ends with {last or 'nothing'}, but the run's head is {stored or 'gone'}: its end or the head was altered")
    if expected is not None and expected != last:
        problems.append(f"the head is {last or 'gone'}, not {expected}: rows were altered and the chain rebuilt, or that is another run's head")
    return Verification(run_id=run_id, head=stored or last, rows=dict(reader.rows), counts={kind: n for kind, n in counts.items() if n},
                        differences=tuple([*named, *reader.others][:LISTED]), chain=tuple(problems), expected=expected)


def _heads(connection: duckdb.DuckDBPyConnection, run_id: str) -> tuple[str, str]:
    """The run's stored head and the last link of its chain, "" where there is none."""
    found = connection.execute("SELECT status, head FROM run WHERE run_id = ?", [run_id]).fetchall()
    status, stored = found[0] if found else ("not in the database yet", None)
    last = connection.execute("SELECT hex(link) FROM chain WHERE run_id = ? ORDER BY position DESC LIMIT 1", [run_id]).fetchall()
    if stored is None and not last:
        why = "it was recorded by a version without hash chains" if status == "done" else f"only a run that is done has a chain, this one is {status}"
        raise InputError(f"run {run_id} is not sealed: {why}; nothing can be said about its rows")
    return stored or "", last[0][0].lower() if last else ""


def _places(connection: duckdb.DuckDBPyConnection, run_id: str, reader: _Reader) -> list[str]:
    """What is wrong with the chain's own places, in words."""
    known = [table.name for table in CHAINED]
    sql = f"SELECT count(*) FROM chain WHERE run_id = ? AND table_name NOT IN ({', '.join('?' * len(known))})"
    (foreign,) = connection.execute(sql, [run_id, *known]).fetchall()[0]
    problems = [f"{foreign:,} places of the chain name a table that it does not cover"] if foreign else []
    if reader.sealed.gaps:
        problems.append(f"{len(reader.sealed.gaps):,} places of the chain are missing or stand twice, the first before place {reader.sealed.gaps[0]:,}")
    if reader.unchecked:
        problems.append(f"without them {len(reader.unchecked):,} rows cannot be checked, the first of them {reader.unchecked[0]}")
    return problems


class _Sealed:
    """Reads a run's chain table by table, in the order of its places, and notes where a place is missing or stands twice."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
        self._connection, self._run_id = connection, run_id
        self._position, self._link = -1, GENESIS
        self.gaps: list[int] = []

    def open(self, table: Chained) -> None:
        sql = "SELECT position, row_key, link FROM chain WHERE run_id = ? AND table_name = ? ORDER BY position"
        self._batches = list(arrow_batches(self._connection, sql, [self._run_id, table.name]))
        self._columns: list[Sequence[Any]] = [(), (), ()]

    def take(self, n: int) -> tuple[Sequence[str], Sequence[Entry]]:
        """The next entries, fewer than ``n`` only at the table's end: the keys, and what was sealed of each."""
        positions, keys, links = self._next(n)
        before = [self._link, *links]
        if positions == list(range(self._position + 1, self._position + 1 + len(positions))):
            entries = list(map(Entry, positions, before, links))
        else:
            entries = [Entry(position, link if position == earlier + 1 else None, own)
                       for earlier, position, link, own in zip([self._position, *positions], positions, before, links, strict=False)]
            self.gaps += [entry.position for entry in entries if entry.before is None]
        if entries:
            self._position, self._link = entries[-1].position, entries[-1].link
        return keys, entries

    def _next(self, n: int) -> list[list[Any]]:
        while len(self._columns[0]) < n and self._batches:
            more = values_of(self._batches.pop(0))
            self._columns = [[*old, *new] for old, new in zip(self._columns, more, strict=True)]
        taken = [list(column[:n]) for column in self._columns]
        self._columns = [column[n:] for column in self._columns]
        return taken


class _Reader:
    """Goes through rows and chain side by side. What has no counterpart at its place waits until one comes along."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
        self._connection, self._run_id = connection, run_id
        self.sealed = _Sealed(connection, run_id)
        self._entries: dict[str, list[Entry]] = {}
        self._hashes: dict[str, list[bytes]] = {}
        self.unchecked: list[str] = []
        self.rows: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.changed: list[Changed] = []
        self.others: list[Difference] = []

    def check(self, table: Chained) -> None:
        """Compare a table with its part of the chain."""
        self.sealed.open(table)
        for rows in read_rows(self._connection, self._run_id, table):
            hashes = rows.hashes()
            self.rows[table.name] += len(hashes)
            keys, entries = self.sealed.take(len(hashes))
            waiting = self._entries or self._hashes
            if waiting or keys != rows.keys or not all(map(Entry.seals, entries, hashes)):
                self._match(table, (keys, entries), (rows.keys, hashes))
        while (rest := self.sealed.take(BATCH))[0]:
            self._match(table, rest, ((), ()))
        self._leave(table)

    def _match(self, table: Chained, sealed: tuple[Sequence[str], Sequence[Entry]], rows: tuple[Sequence[str], Sequence[bytes]]) -> None:
        """Pair rows and entries of equal key. Among rows of one key those that agree go first; what is left of a pair was changed."""
        for key, entry in zip(*sealed, strict=True):
            self._entries.setdefault(key, []).append(entry)
        for key, row_hash in zip(*rows, strict=True):
            self._hashes.setdefault(key, []).append(row_hash)
        for key in [key for key in self._entries if key in self._hashes]:  # in the order of the chain
            entries, hashes = self._entries.pop(key), self._hashes.pop(key)
            for entry in list(entries):
                found = next((one for one in hashes if entry.seals(one)), None)
                if found is not None:
                    entries.remove(entry)
                    hashes.remove(found)
            while entries and hashes:
                self._disagree(table, key, entries.pop(0))
                hashes.pop(0)
            if entries:
                self._entries[key] = entries
            if hashes:
                self._hashes[key] = hashes

    def _disagree(self, table: Chained, key: str, entry: Entry) -> None:
        if entry.before is None:
            self.unchecked.append(f"{table.name} {key}")
            return
        self.counts["changed"] += 1
        self.changed.append(Changed(table, key, entry))

    def _leave(self, table: Chained) -> None:
        """What has found no counterpart in the whole table was dropped or added."""
        self._note("dropped", table, self._entries)
        self._note("added", table, self._hashes)

    def _note(self, kind: Kind, table: Chained, waiting: dict[str, list[Any]]) -> None:
        for key, ones in waiting.items():
            self.counts[kind] += len(ones)
            if len(self.others) < LISTED:
                self.others += [Difference(kind=kind, table=table.name, key=key_of(key))] * len(ones)
        waiting.clear()
