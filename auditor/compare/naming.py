"""Which run is meant: an id, a beginning of one, `latest`, or DB_FILE:RUN for a run in another database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.compare.result import RunFacts
from auditor.errors import InputError
from auditor.store import Store, StoredRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A run in its database."""

    store: Store
    run: StoredRun

    @property
    def key(self) -> str:
        return f"{self.store.path.resolve()}:{self.run.run_id}"

    @property
    def facts(self) -> RunFacts:
        spec, run = self.run.spec, self.run
        return RunFacts(run_id=run.run_id, db=str(self.store.path), model=spec.model.uri, weights_hash=spec.model.weights_hash, created=run.created,
                        profile=spec.profile, limit=spec.limit, epochs=spec.epochs, evidence=run.evidence, status=run.status,
                        judge=spec.judge.uri if spec.judge else None, notice=run.notice or "")


def choose(name: str, db: Path) -> Chosen:
    """The run that ``name`` means, in ``db`` unless it names a database of its own.

    ``FILE`` alone is its latest run. Raises InputError where the database does not exist, UnknownNameError for an unknown run.
    """
    file, colon, run = name.rpartition(":")
    if colon and Path(file).is_file():
        return _in(Path(file), run or "latest")
    if Path(name).is_file():
        return _in(Path(name), "latest")
    if colon:
        raise InputError(f"run {name!r}: there is no database {file!r}; write DB_FILE:RUN, for instance main.duckdb:latest")
    if Path(name).suffix in (".duckdb", ".db"):
        raise InputError(f"run {name!r}: there is no such database file; pass one, or a run of --db {db}")
    return _in(db, name)


def _in(db: Path, name: str) -> Chosen:
    store = Store.open(db)
    return Chosen(store=store, run=store.run(name))


def choose_all(names: Sequence[str], db: Path) -> list[Chosen]:
    """The named runs, the baseline first. Raises InputError for fewer than two, or for the same run twice."""
    if len(names) < 2:
        raise InputError("compare needs a baseline and at least one candidate: auditor compare BASELINE CANDIDATE")
    chosen = [choose(name, db) for name in names]
    seen: dict[tuple[str, Path], str] = {}
    for name, one in zip(names, chosen, strict=True):
        key = (one.run.run_id, one.store.path.resolve())
        if key in seen:
            raise InputError(f"{seen[key]!r} and {name!r} are the same run, {one.run.run_id}: pass another; `auditor runs` lists them")
        seen[key] = name
    return chosen
