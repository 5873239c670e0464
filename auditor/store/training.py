"""Training runs in the store: what the trainer's own files say of a run, written in one short commit.

The trainer keeps a journal beside its checkpoints and never holds the database; :func:`store_training` may be called again and again with
what those files hold, and replaces what it stored before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.errors import StoreError
from auditor.store import codec
from auditor.store.database import connect, transaction

if TYPE_CHECKING:
    import duckdb

RUN = ("training_id", "created", "status", "recipe_name", "recipe_hash", "recipe", "out", "seed", "model", "environment")
STAGE = ("training_id", "stage", "position", "method", "steps", "complete", "kind", "path", "weights_hash", "measured", "lineage")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStage:
    """One stage as it stands. ``rows`` are its steps after step ``after``: each maps ``step`` to its number and every statistic to its value.

    Steps beyond ``after`` that the database holds are replaced by ``rows``; those up to it stay. ``kind``, ``path`` and ``weights_hash`` of
    what it made are None until it is complete.
    """

    stage: str
    position: int
    method: str
    steps: int
    complete: bool = False
    kind: str | None = None
    path: str | None = None
    weights_hash: str | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """A training run as it stands; ``status`` is running, interrupted, failed or done."""

    training_id: str
    created: str
    status: str
    recipe_name: str
    recipe_hash: str
    recipe: Mapping[str, Any]
    out: str
    seed: int
    model: str
    environment: Mapping[str, Any]


def store_training(database: Path, run: TrainingRun, stages: Sequence[TrainingStage], *, wait: float) -> None:
    """Write a run and some of its stages in one transaction, which waits at most ``wait`` seconds for the database; creates the file.

    Raises StoreError where the database cannot be used; nothing is stored then.
    """
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot create the folder {database.parent}: {error.strerror or error}; pass another file with --db") from error
    with connect(database, read_only=False, wait=wait) as connection, transaction(connection):
        _replace(connection, "training_run", RUN, run, "training_id = ?", [run.training_id])
        for stage in stages:
            _replace(connection, "training_stage", STAGE, stage, "training_id = ? AND stage = ?", [run.training_id, stage.stage])
            _steps(connection, run.training_id, stage)


def _replace(connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], record: Any, where: str, key: list[str]) -> None:
    values = [key[0] if name == "training_id" else _plain(getattr(record, name)) for name in columns]
    connection.execute(f"DELETE FROM {table} WHERE {where}", key)
    connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", values)


def _plain(value: Any) -> Any:
    return codec.dump(value) if isinstance(value, Mapping) else value


def _steps(connection: duckdb.DuckDBPyConnection, training_id: str, stage: TrainingStage) -> None:
    import pyarrow

    connection.execute("DELETE FROM training_step WHERE training_id = ? AND stage = ? AND step > ?", [training_id, stage.stage, stage.after])
    flat = [(int(row["step"]), name, None if value is None else float(value)) for row in stage.rows if row["step"] > stage.after
            for name, value in row.items() if name != "step"]
    if not flat:
        return
    steps, names, values = zip(*flat, strict=True)
    incoming = pyarrow.table({"step": pyarrow.array(steps, pyarrow.int64()), "name": pyarrow.array(names, pyarrow.string()),
                              "value": pyarrow.array(values, pyarrow.float64())})
    connection.register("incoming", incoming)
    try:
        connection.execute("INSERT INTO training_step SELECT ?, ?, step, name, value FROM incoming", [training_id, stage.stage])
    finally:
        connection.unregister("incoming")
