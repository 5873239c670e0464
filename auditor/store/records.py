"""What the store gives back that `auditor.schema` has no type for: runs as they stand, and transcripts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.schema import Judgment, RunRecord, RunSpec, ScoreStatus
from auditor.store import codec, journal

if TYPE_CHECKING:
    import duckdb

_RUN_COLUMNS = "run_id, created, finished, status, error, spec, evidence, git_commit, packages, hardware, journal_offset, head"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as it stands.

    ``status`` is ``interrupted`` also for a run that says it is running while no process writes its journal (killed).
    ``pending`` is the number of records in the journal that the database does not hold yet: `auditor run --resume` stores
    them. ``evidence`` is False for a run on part of the items. ``head`` is the head of its hash chain, in hex; None if it is not sealed:
    not done, or recorded before the store had chains.
    """

    run_id: str
    spec: RunSpec
    created: str
    status: str
    git_commit: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    finished: str | None = None
    error: str | None = None
    evidence: bool = False
    pending: int = 0
    head: str | None = None

    @property
    def record(self) -> RunRecord:
        return RunRecord(**{name.name: getattr(self, name.name) for name in dataclasses.fields(RunRecord)})

    @property
    def notice(self) -> str:
        """What a reader must be told beside the run's numbers; empty for a complete run."""
        if self.status == "done" and not self.pending:
            return ""
        waiting = f"{self.pending} records are in its journal only; " if self.pending else ""
        if self.status == "running":
            return f"run {self.run_id} is going on: {waiting}what is shown is incomplete"
        return f"run {self.run_id} is {self.status} and incomplete: {waiting}go on with `auditor run --resume {self.run_id}`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One score with the request it rests on: prompt, reply, options with their log-probabilities, or the judge's verdict.

    ``messages`` are {role, content} of the request; where the score points to no stored request they are the sample's own.
    ``options`` are {text, logprob} of a log-probability request, logprob in nats.
    """

    suite: str
    sample_id: str
    cluster_id: str
    scorer: str
    value: float | None
    status: ScoreStatus
    answer: str = ""
    explanation: str = ""
    messages: tuple[Mapping[str, str], ...] = ()
    completion: str = ""
    reasoning: str = ""
    options: tuple[Mapping[str, Any], ...] = ()
    judgment: Judgment | None = None
    epoch: int = 0
    turn: int = 0
    slot: int = 0
    model: str = ""
    finish_reason: str | None = None
    error: str | None = None


def transcript_from_row(row: Mapping[str, Any]) -> Transcript:
    nested: dict[str, Any] = {
        "messages": tuple(json.loads(row["messages"])),
        "options": tuple({"text": option["text"], "logprob": option["logprob"]} for option in json.loads(row["logprobs"] or "[]")),
        "judgment": codec.from_dict(Judgment, json.loads(row["judgment"])) if row["judgment"] else None,
    }
    texts: dict[str, Any] = {name: row[name] or "" for name in ("completion", "reasoning", "model")}
    plain: dict[str, Any] = {name.name: row[name.name] for name in dataclasses.fields(Transcript) if name.name not in nested | texts}
    return Transcript(**plain, **texts, **nested)


def stored_runs(connection: duckdb.DuckDBPyConnection, database: Path) -> list[StoredRun]:
    """All runs of the database, the oldest first."""
    rows = connection.execute(f"SELECT {_RUN_COLUMNS} FROM run ORDER BY created, run_id").fetchall()
    names = [name.strip() for name in _RUN_COLUMNS.split(",")]
    return [_stored_run(dict(zip(names, row, strict=True)), database) for row in rows]


def stored_record(connection: duckdb.DuckDBPyConnection, run_id: str) -> RunRecord | None:
    row = connection.execute("SELECT spec, created, status, git_commit, packages, hardware FROM run WHERE run_id = ?", [run_id]).fetchone()
    if row is None:
        return None
    spec, created, status, commit, packages, hardware = row
    return RunRecord(run_id=run_id, spec=codec.spec_from_json(spec), created=created, status=status, git_commit=commit,
                     packages=json.loads(packages), hardware=json.loads(hardware))


def journalled_runs(database: Path, known: set[str]) -> list[StoredRun]:
    """Runs that so far are in their journal only, because another process held the database."""
    found = []
    for path in sorted(journal.directory(database).glob("*.jsonl")):
        first = next(journal.read(path), None) if path.stem not in known else None
        if first is None or first[0].get("table") != "run":
            continue
        record = codec.record_from_dict(first[0]["record"])
        state = _state(database, record.run_id, "running", 0)
        found.append(StoredRun(**{name.name: getattr(record, name.name) for name in dataclasses.fields(record)} | state))
    return found


def _stored_run(row: Mapping[str, Any], database: Path) -> StoredRun:
    plain = {name: row[name] for name in ("run_id", "created", "finished", "error", "evidence", "git_commit", "head")}
    nested = {name: json.loads(row[name]) for name in ("packages", "hardware")}
    state = _state(database, row["run_id"], row["status"], row["journal_offset"])
    return StoredRun(spec=codec.spec_from_json(row["spec"]), **plain, **nested, **state)


def _state(database: Path, run_id: str, status: str, offset: int) -> dict[str, Any]:
    """The run's status and its number of pending records, as its journal tells."""
    path = journal.directory(database) / f"{run_id}.jsonl"
    if not path.exists():
        return {"status": "interrupted" if status == "running" else status, "pending": 0}
    if status == "running" and not journal.is_held(path):
        status = "interrupted"
    if path.stat().st_size <= offset:
        return {"status": status, "pending": 0}
    return {"status": status, "pending": sum(line["n"] for line, _ in journal.read(path, offset) if line["table"] != "status")}
