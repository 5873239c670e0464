"""Recording a run: every batch goes to the run's journal at once, and from there to the database in short commits.

What a method of :class:`RunWriter` returned from is on the disk. The database follows every half minute, or later if
another process holds it; each journal line reaches it exactly once, because the offset up to which the journal was
taken over is stored in the same transaction as the rows.

The journal of a finished run is deleted once the database holds all of it: it would double the disk space, and so a
journal that exists always means a run that can be resumed.
"""

from __future__ import annotations

import datetime
import logging
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from auditor.errors import InputError, StoreError, StoreLockedError, UnknownNameError
from auditor.schema import Metric, Reply, Request, RunRecord, Sample, Score, Verdict, to_dict
from auditor.store import codec, journal, lines
from auditor.store.database import connect
from auditor.store.journal import Journal
from auditor.store.seal import Seal, seal_rows
from auditor.store.transfer import transfer

log = logging.getLogger(__name__)

Status = Literal["running", "interrupted", "failed", "done"]

COMMIT_EVERY = 30.0  # seconds between commits while replies and scores come in
FINAL_WAIT = 60.0  # seconds that the last commit waits for another process
_PATIENCE = 1.0  # seconds that a commit on the way waits: the run matters more
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class RunWriter:
    """The one writer of a run. Use as a context manager; call :meth:`finish` when the run is complete.

    Leaving the block with an exception records the run as interrupted (KeyboardInterrupt) or failed, and keeps the journal.
    All methods raise StoreError if the disk is full or not writable; what was recorded before stays.
    """

    def __init__(self, database: Path, record: RunRecord, held: Journal) -> None:
        self.database = database
        self.record = record
        self._journal = held
        self._positions: dict[str, int] = {}
        self._next_commit = time.monotonic() + COMMIT_EVERY
        self._closed = False

    @classmethod
    def create(cls, database: Path, record: RunRecord) -> RunWriter:
        """Start recording a new run; the database file and its folder are created where absent.

        Raises InputError on a run id that cannot name a file, and StoreError if the database cannot be used or has the run already.
        """
        if not RUN_ID.fullmatch(record.run_id):
            raise InputError(f"run id {record.run_id!r}: use letters, digits, '.', '_' and '-', at most 128")
        database = Path(database)
        make_folder(database.parent)
        _refuse_known(database, record.run_id)
        writer = cls(database, record, Journal(_journal_path(database, record.run_id), create=True))
        writer._append([{"table": "run", "n": 1, "record": to_dict(record)}])
        writer._commit_or_postpone()
        return writer

    @classmethod
    def resume(cls, database: Path, run_id: str) -> RunWriter:
        """Go on recording a run that was interrupted or killed; commits what its journal still holds.

        Raises UnknownNameError for an unknown run, InputError for one that is done, StoreError if another process is writing it.
        """
        database = Path(database)
        path = _journal_path(database, run_id)
        stored, known = _stored_record(database, run_id)
        if stored is None and not (RUN_ID.fullmatch(run_id) and path.exists()):
            raise UnknownNameError("run", run_id, known)
        if stored is not None and stored.status == "done":
            path.unlink(missing_ok=True)  # left if the process was killed right after the last commit
            raise InputError(f"run {run_id} is done: there is nothing to resume; see it with `auditor show {run_id}`")
        held = Journal(path)
        try:
            writer = cls(database, stored or _first_record(held), held)
            if held.size == 0:
                writer._forget_old_journal()
            writer.status("running")
            writer.commit(wait=FINAL_WAIT)
        except BaseException:
            held.close()
            raise
        return writer

    def samples(self, suite: str, samples: Sequence[Sample]) -> None:
        """Record a suite's samples, in their order."""
        lines.refuse_surrogates(suite, samples)
        first = self._positions.get(suite, 0)
        records = []
        for chunk in lines.chunks(samples):
            records.append(lines.build("sample", codec.sample_columns(chunk, first), suite=suite))
            first += len(chunk)
        self._append(records)
        self._positions[suite] = first

    def replies(self, suite: str, role: Literal["model", "judge"], pairs: Sequence[tuple[Request, Reply]]) -> None:
        """Record a batch of requests and their replies. Raises StoreError on a NaN or infinite log-probability."""
        self._append([lines.build("generation", codec.reply_columns(chunk), suite=suite, role=role) for chunk in lines.chunks(pairs)])
        self._commit_if_due()

    def scores(self, suite: str, scores: Sequence[Score]) -> None:
        """Record scores. Raises StoreError on a NaN or infinite value: no score is None, never a number."""
        self._append([lines.build("score", codec.score_columns(chunk), suite=suite) for chunk in lines.chunks(scores)])
        self._commit_if_due()

    def metrics(self, metrics: Sequence[Metric]) -> None:
        """Record all metrics of one or several suites; they replace every earlier metric of these suites."""
        suites = lines.grouped((metric.suite, metric) for metric in metrics)
        self._append([lines.build("metric", codec.metric_columns(group), suite=suite) for suite, group in suites.items()])

    def verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Record all verdicts on one or several suites; they replace every earlier verdict on these suites."""
        suites = lines.grouped((verdict.criterion.metric.partition(".")[0], verdict) for verdict in verdicts)
        self._append([lines.build("verdict", codec.verdict_columns(group), suite=suite) for suite, group in suites.items()])

    def status(self, status: Status, error: str | None = None) -> None:
        """Record how the run stands."""
        finished = _now() if status in ("failed", "done") else None
        self._append([{"table": "status", "n": 1, "status": status, "error": error, "finished": finished}])

    def commit(self, *, wait: float = _PATIENCE, seal: Seal | None = None) -> None:
        """Take over into the database what the journal holds beyond it, in one transaction, with the seal of a finished run.

        Raises StoreLockedError if another process holds the database for longer than ``wait`` seconds.
        """
        with connect(self.database, read_only=False, wait=wait) as connection:
            transfer(connection, self.record.run_id, self._journal, seal)
        self._next_commit = time.monotonic() + COMMIT_EVERY

    def completed(self) -> dict[tuple[str, str, int, int, int], Reply]:
        """All replies recorded so far, by (suite, sample id, epoch, turn, slot)."""
        columns = "suite, sample_id, epoch, turn, slot, text, reasoning, finish_reason, logprobs, judgment, prompt_tokens, " \
                  "completion_tokens, reasoning_tokens, latency, model, error"
        rows = self._rows(f"SELECT {columns} FROM generation WHERE run_id = ?", [self.record.run_id])
        return {tuple(row[name] for name in ("suite", "sample_id", "epoch", "turn", "slot")): codec.reply_from_row(row) for row in rows}

    def scored(self, suite: str) -> list[Score]:
        """All scores of a suite recorded so far."""
        rows = self._rows("SELECT * FROM score WHERE run_id = ? AND suite = ?", [self.record.run_id, suite])
        return [codec.score_from_row(row) for row in rows]

    def finish(self) -> None:
        """Commit everything (waiting up to a minute for the database), seal the run, record it as done and delete the journal."""
        self._final_commit()
        with connect(self.database, read_only=True, wait=FINAL_WAIT) as connection:
            seal = seal_rows(connection, self.record.run_id)
        self.status("done")
        self._final_commit(seal)
        self._journal.remove()
        self._closed = True

    def close(self) -> None:
        """Commit what can be committed and let go of the journal, which stays."""
        if self._closed:
            return
        try:
            self._final_commit()
        finally:
            self._journal.close()
            self._closed = True

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._closed:
            return
        if error is None:
            self.close()
            return
        try:
            self.status("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", f"{type(error).__name__}: {error}")
            self.commit()
        except StoreError as second:  # the exception that ended the run is the one to report
            log.warning("run %s: %s", self.record.run_id, second)
        finally:
            self._journal.close()
            self._closed = True

    def _append(self, records: Sequence[Mapping[str, Any]]) -> None:
        try:
            self._journal.append(records)
        except ValueError as error:
            raise StoreError(f"run {self.record.run_id}: {lines.not_finite(records) or error}; nothing of this batch was recorded") from error

    def _commit_if_due(self) -> None:
        if time.monotonic() >= self._next_commit:
            self._commit_or_postpone()

    def _commit_or_postpone(self) -> None:
        try:
            self.commit()
        except StoreLockedError as error:
            self._next_commit = time.monotonic() + COMMIT_EVERY
            log.warning("%s; the run goes on and is kept in its journal %s", error, self._journal.path)

    def _final_commit(self, seal: Seal | None = None) -> None:
        try:
            self.commit(seal=seal)
            return
        except StoreLockedError as error:
            log.warning("%s; waiting up to %.0f s", error, FINAL_WAIT)
        try:
            self.commit(wait=FINAL_WAIT, seal=seal)
        except StoreLockedError as error:
            recovery = f"`auditor run --resume {self.record.run_id} --db {self.database}` stores it"
            raise StoreLockedError(f"{error}. The journal {self._journal.path} holds everything: {recovery}") from error

    def _forget_old_journal(self) -> None:
        """The journal was deleted: the offset in the database belongs to a file that is gone."""
        with connect(self.database, read_only=False, wait=FINAL_WAIT) as connection:
            connection.execute("UPDATE run SET journal_offset = 0 WHERE run_id = ?", [self.record.run_id])

    def _rows(self, sql: str, parameters: list[Any]) -> list[dict[str, Any]]:
        with connect(self.database, read_only=False, wait=FINAL_WAIT) as connection:
            transfer(connection, self.record.run_id, self._journal)
            cursor = connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _refuse_known(database: Path, run_id: str) -> None:
    """Also creates the database, or says why it cannot be used, before anything is recorded."""
    try:
        with connect(database, read_only=False, wait=_PATIENCE) as connection:
            if connection.execute("SELECT 1 FROM run WHERE run_id = ?", [run_id]).fetchone():
                raise StoreError(f"{database} has a run {run_id} already: choose another run id, or go on with --resume {run_id}")
    except StoreLockedError as error:
        log.info("%s; the run starts with its journal", error)


def _stored_record(database: Path, run_id: str) -> tuple[RunRecord | None, list[str]]:
    """The run's record in the database, if any, and the ids of all runs there."""
    from auditor.store.records import stored_record

    if not database.exists():
        return None, []
    with connect(database, read_only=False, wait=FINAL_WAIT) as connection:
        known = [name for (name,) in connection.execute("SELECT run_id FROM run").fetchall()]
        return stored_record(connection, run_id), known


def _first_record(held: Journal) -> RunRecord:
    for line, _ in held.read():
        if line.get("table") == "run":
            return codec.record_from_dict(line["record"])
        break
    raise StoreError(f"the journal {held.path} does not begin with a run: delete it and start the run anew")


def _journal_path(database: Path, run_id: str) -> Path:
    return journal.directory(database) / f"{run_id}.jsonl"


def make_folder(folder: Path) -> None:
    """Raises StoreError where the folder cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot create the folder {folder}: {error.strerror or error}; pass another file with --db") from error


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
