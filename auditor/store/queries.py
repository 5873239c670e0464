"""Reading the store: every method opens the database read-only for its own queries and closes it again.

An open reader keeps writers waiting, so a :class:`Store` holds nothing open, unless inside :meth:`Store.session`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from auditor.errors import InputError, StoreError, UnknownNameError
from auditor.schema import Baseline, Metric, Sample, Verdict
from auditor.store import codec, journal
from auditor.store.database import connect
from auditor.store.records import StoredRun, Transcript, journalled_runs, stored_runs, transcript_from_row
from auditor.store.verify import Verification, verify_rows

if TYPE_CHECKING:
    import duckdb
    import pandas

Order = Literal["worst", "typical", "best", "unscored"]

_PAGE = 20_000  # samples whose score rows are read at once

_SAME_SAMPLE = "p.run_id = $run AND p.suite = $suite AND p.sample_id = s.sample_id"
_SAME_REQUEST = (
    "g.run_id = $run AND g.suite = $suite AND g.sample_id = s.sample_id AND g.epoch = s.epoch AND g.turn = s.turn AND g.slot = s.slot"
)

# Ties (a proportion has nothing else) are broken by a hash of the sample's id: arbitrary, but the same every time.
_TRANSCRIPTS = """
WITH picked AS (
    SELECT * FROM score AS s WHERE run_id = $run AND suite = $suite AND scorer = $scorer AND {where}
    ORDER BY {order} md5(sample_id), epoch, turn, slot LIMIT $limit
)
SELECT s.suite, s.sample_id, p.cluster_id, s.scorer, s.value, s.status, s.answer, s.explanation, s.epoch, s.turn, s.slot,
    coalesce(g.messages, p.messages) AS messages, g.text AS completion, g.reasoning, g.logprobs, g.judgment, g.model,
    g.finish_reason, g.error
FROM picked AS s
JOIN sample AS p ON {same_sample}
LEFT JOIN generation AS g ON {same_request}
ORDER BY {order} md5(s.sample_id), s.epoch, s.turn, s.slot
"""

_SCORE_ROWS = """
SELECT s.suite, s.sample_id, s.epoch, s.scorer, p.cluster_id, coalesce(g.messages, p.messages) AS prompt, g.text AS completion,
    s.answer, s.value, s.status, s.explanation
FROM score AS s
JOIN sample AS p ON {same_sample}
LEFT JOIN generation AS g ON {same_request}
WHERE s.run_id = $run AND s.suite = $suite AND p.position >= $start AND p.position < $stop
ORDER BY p.position, s.epoch, s.scorer, s.turn, s.slot
"""


class Store:
    """The recorded runs of one database file. Make one with :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: duckdb.DuckDBPyConnection | None = None

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Raises InputError if there is no such file, StoreError if it is no store of ours or another process holds it for 5 s."""
        path = Path(path)
        if not path.is_file():
            _refuse_missing(path)
        store = cls(path)
        with store._reading():
            return store

    @contextmanager
    def session(self) -> Iterator[Store]:
        """Keep the database open for several calls, which then see one state of it; writers have to wait meanwhile."""
        if self._connection is not None:
            yield self
            return
        with connect(self.path, read_only=True) as self._connection:
            try:
                yield self
            finally:
                self._connection = None

    def runs(self) -> list[StoredRun]:
        """All runs, the oldest first."""
        with self._reading() as connection:
            runs = stored_runs(connection, self.path)
        runs += journalled_runs(self.path, {run.run_id for run in runs})
        return sorted(runs, key=lambda run: (run.created, run.run_id))

    def run(self, name: str) -> StoredRun:
        """The run of this id, or of this beginning of an id, or the ``latest``. Raises UnknownNameError, or InputError if several match."""
        runs = self.runs()
        if name == "latest" and runs:
            return runs[-1]
        found = [run for run in runs if run.run_id == name] or [run for run in runs if name and run.run_id.startswith(name)]
        if not found:
            raise UnknownNameError("run", name, [run.run_id for run in runs])
        if len(found) > 1:
            raise InputError(f"run {name!r} is ambiguous: pass more of one of {', '.join(run.run_id for run in found)}")
        return found[0]

    def earlier_runs(self, weights_hash: str, before: str) -> list[StoredRun]:
        """Runs of the same weights created before the time ``before`` (ISO 8601, as `StoredRun.created`), the oldest first; none of unknown weights."""
        return [run for run in self.runs() if weights_hash and run.spec.model.weights_hash == weights_hash and run.created < before]

    def head(self, run_id: str) -> str | None:
        """The head of a run's hash chain, in hex; None if it is not sealed. ``run_id`` as for :meth:`run`."""
        return self.run(run_id).head

    def verify(self, run_id: str, head: str | None = None) -> Verification:
        """Check every row of a run against its hash chain, and the chain against a ``head`` (hex) kept elsewhere.

        Without one, agreement means only that the store agrees with itself: whoever can write it could have rebuilt the chain. Raises
        InputError for a run that is not sealed, StoreError where its tables are no longer of the form that a store has.
        """
        import duckdb

        try:
            with self.session(), self._reading() as connection:
                return verify_rows(connection, self._resolve(run_id), head)
        except (duckdb.ProgrammingError, AttributeError, TypeError, ValueError) as error:
            raise StoreError(f"{self.path}: run {run_id} cannot be checked, its tables were altered beyond their form ({str(error)[:200]}); do not rely "
                             "on this file: restore a copy of it") from error

    def metrics(self, run_id: str) -> list[Metric]:
        """A run's metrics, suite by suite as they were recorded. ``run_id`` as for :meth:`run`."""
        with self.session():
            rows = self._rows("SELECT * FROM metric WHERE run_id = ? ORDER BY suite, position", [self._resolve(run_id)])
        return [codec.metric_from_row(row) for row in rows]

    def verdicts(self, run_id: str) -> list[Verdict]:
        """A run's verdicts, suite by suite as they were recorded. ``run_id`` as for :meth:`run`."""
        with self.session():
            rows = self._rows("SELECT * FROM verdict WHERE run_id = ? ORDER BY suite, position", [self._resolve(run_id)])
        return [codec.verdict_from_row(row) for row in rows]

    def samples(self, run_id: str, suite: str) -> list[Sample]:
        """A suite's samples, in their order."""
        rows = self._rows("SELECT * FROM sample WHERE run_id = ? AND suite = ? ORDER BY position", [run_id, suite])
        return [codec.sample_from_row(row) for row in rows]

    def transcripts(self, run_id: str, suite: str, scorer: str, order: Order = "worst", *, limit: int = 5,
                    higher_is_better: bool | None = None) -> list[Transcript]:
        """Scores with their prompt and reply.

        ``worst`` and ``best`` are the extreme values, where ``higher_is_better`` None counts as lower is better; ``typical``
        are those nearest to the median; ``unscored`` those without a value. Equal values come in an arbitrary, fixed order.
        """
        up = bool(higher_is_better) == (order == "worst")
        orders = {"worst": "s.value " + ("ASC," if up else "DESC,"), "typical": f"abs(s.value - ({_MEDIAN})),", "unscored": ""}
        by = orders.get(order, orders["worst"])
        where = "status != 'scored'" if order == "unscored" else "status = 'scored'"
        sql = _TRANSCRIPTS.format(where=where, order=by, same_sample=_SAME_SAMPLE, same_request=_SAME_REQUEST)
        rows = self._rows(sql, {"run": run_id, "suite": suite, "scorer": scorer, "limit": limit})
        return [transcript_from_row(row) for row in rows]

    def values(self, run_id: str, suite: str, scorer: str) -> np.ndarray:
        """All values of a scorer, (n,) float64, in the order of the samples; unscored ones are left out."""
        sql = """
            SELECT s.value FROM score AS s JOIN sample AS p ON p.run_id = s.run_id AND p.suite = s.suite AND p.sample_id = s.sample_id
            WHERE s.run_id = ? AND s.suite = ? AND s.scorer = ? AND s.status = 'scored' ORDER BY p.position, s.epoch, s.turn, s.slot"""
        return self._array(sql, [run_id, suite, scorer])

    def histogram(self, run_id: str, suite: str, scorer: str, bins: int = 20) -> tuple[np.ndarray, np.ndarray]:
        """Counts (bins,) and edges (bins + 1,) of a scorer's values, as `numpy.histogram`."""
        sql = "SELECT value FROM score WHERE run_id = ? AND suite = ? AND scorer = ? AND status = 'scored'"
        return np.histogram(self._array(sql, [run_id, suite, scorer]), bins=bins)

    def counts(self, run_id: str, suite: str) -> dict[str, dict[str, int]]:
        """How many scores of each status each scorer gave: {scorer: {status: n}}."""
        sql = "SELECT scorer, status, count(*) AS n FROM score WHERE run_id = ? AND suite = ? GROUP BY ALL ORDER BY ALL"
        rows = self._rows(sql, [run_id, suite])
        counts: dict[str, dict[str, int]] = {}
        for row in rows:
            counts.setdefault(row["scorer"], {})[row["status"]] = row["n"]
        return counts

    def baseline(self, run_id: str, suite: str) -> Baseline:
        """A run's scores and completions on a suite. Raises UnknownNameError if the run has none of that suite."""
        by_run = [run_id, suite]
        scores = self._rows("SELECT * FROM score WHERE run_id = ? AND suite = ? ORDER BY sample_id, epoch, scorer, turn, slot", by_run)
        if not scores:
            known = self._rows("SELECT DISTINCT suite FROM score WHERE run_id = ?", [run_id])
            raise UnknownNameError(f"suite of baseline run {run_id}", suite, [row["suite"] for row in known])
        texts = self._rows("SELECT sample_id, epoch, turn, slot, text FROM generation WHERE run_id = ? AND suite = ? "
                           "AND kind = 'generate' AND error IS NULL ORDER BY sample_id, epoch, turn, slot", by_run)
        return Baseline(
            run_id=run_id,
            scores=tuple(codec.score_from_row(row) for row in scores),
            texts={(row["sample_id"], row["epoch"], row["turn"], row["slot"]): row["text"] for row in texts},
        )

    def score_rows(self, run_id: str) -> Iterator[dict[str, Any]]:
        """Every score with its prompt and completion, suite by suite in the order of the samples.

        Read in pages, with the database closed in between, so that a slow consumer keeps no writer waiting.
        """
        run_id = self._resolve(run_id)
        suites = self._rows("SELECT suite, max(position) + 1 AS n FROM sample WHERE run_id = ? GROUP BY suite ORDER BY suite", [run_id])
        sql = _SCORE_ROWS.format(same_sample=_SAME_SAMPLE, same_request=_SAME_REQUEST)
        for suite in suites:
            for start in range(0, suite["n"], _PAGE):
                for row in self._rows(sql, {"run": run_id, "suite": suite["suite"], "start": start, "stop": start + _PAGE}):
                    yield row | {"prompt": json.loads(row["prompt"])}

    def metrics_frame(self, run_id: str | None = None) -> pandas.DataFrame:
        """The metric table, of one run (named as for :meth:`run`) or of all."""
        return self._frame("metric", "run_id, suite, position", run_id)

    def verdicts_frame(self, run_id: str | None = None) -> pandas.DataFrame:
        """The verdict table, of one run (named as for :meth:`run`) or of all."""
        return self._frame("verdict", "run_id, suite, position", run_id)

    def samples_frame(self, run_id: str | None = None) -> pandas.DataFrame:
        """The sample table, of one run (named as for :meth:`run`) or of all."""
        return self._frame("sample", "run_id, suite, position", run_id)

    def scores_frame(self, run_id: str | None = None) -> pandas.DataFrame:
        """The score table, of one run (named as for :meth:`run`) or of all."""
        return self._frame("score", "run_id, suite, sample_id, epoch, scorer, turn, slot", run_id)

    def training(self) -> pandas.DataFrame:
        """The training_run table, the oldest run first; empty where nothing was trained."""
        return self._select("SELECT * FROM training_run ORDER BY created, training_id", [])

    def training_stages(self, training_id: str) -> pandas.DataFrame:
        """The training_stage table of one training run, in the order of its recipe; the id as for :meth:`training_steps`."""
        return self._select("SELECT * FROM training_stage WHERE training_id = ? ORDER BY position", [self._training_id(training_id)])

    def training_steps(self, training_id: str) -> pandas.DataFrame:
        """The training_step table of one training run: one row a statistic of a step, NULL where it was not finite.

        The id may be a unique beginning of it, or ``latest``. Raises UnknownNameError, or InputError if several match.
        """
        sql = """
            SELECT step.* FROM training_step AS step LEFT JOIN training_stage AS stage USING (training_id, stage)
            WHERE training_id = ? ORDER BY stage.position, step.step, step.name"""
        return self._select(sql, [self._training_id(training_id)])

    def _training_id(self, name: str) -> str:
        known = [row["training_id"] for row in self._rows("SELECT training_id FROM training_run ORDER BY created, training_id", [])]
        if name == "latest" and known:
            return str(known[-1])
        found = [one for one in known if one == name] or [one for one in known if name and one.startswith(name)]
        if not found:
            raise UnknownNameError("training run", name, known)
        if len(found) > 1:
            raise InputError(f"training run {name!r} is ambiguous: pass more of one of {', '.join(found)}")
        return str(found[0])

    def _select(self, sql: str, parameters: Sequence[Any]) -> pandas.DataFrame:
        with self._reading() as connection:
            return connection.execute(sql, parameters).df()

    def _frame(self, table: str, order: str, run_id: str | None) -> pandas.DataFrame:
        with self.session(), self._reading() as connection:
            where, parameters = ("TRUE", []) if run_id is None else ("run_id = ?", [self._resolve(run_id)])
            return connection.execute(f"SELECT * FROM {table} WHERE {where} ORDER BY {order}", parameters).df()

    def _resolve(self, name: str) -> str:
        """The id of the run that ``name`` means, as for :meth:`run`; quick for a whole id."""
        return name if self._rows("SELECT 1 FROM run WHERE run_id = ?", [name]) else self.run(name).run_id

    def _array(self, sql: str, parameters: Sequence[Any]) -> np.ndarray:
        with self._reading() as connection:
            return np.asarray(connection.execute(sql, parameters).fetchnumpy()["value"], dtype=np.float64)

    def _rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any]) -> list[dict[str, Any]]:
        with self._reading() as connection:
            cursor = connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if self._connection is not None:
            yield self._connection
            return
        with connect(self.path, read_only=True) as connection:
            yield connection


_MEDIAN = "SELECT median(value) FROM score WHERE run_id = $run AND suite = $suite AND scorer = $scorer AND status = 'scored'"


def _refuse_missing(path: Path) -> None:
    waiting = sorted(journal.directory(path).glob("*.jsonl"))
    if waiting:
        command = f"auditor run --resume {waiting[0].stem} --db {path}"
        raise StoreError(f"there is no database {path} yet, but a run's journal: store it with `{command}`")
    what = "is a folder" if path.is_dir() else "does not exist"
    raise InputError(f"the database {path} {what}: pass --db with the file of an earlier `auditor run`")
