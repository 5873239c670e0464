"""Work on many items whose results are kept as they arrive: what a killed run had finished is not done again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from auditor.errors import TrainingError
from auditor.training.core.stage import StageRun

T = TypeVar("T")


def in_chunks(items: Sequence[T], size: int, work: Callable[[Sequence[T]], Sequence[dict[str, Any]]], run: StageRun, name: str) -> list[dict[str, Any]]:
    """One result (a JSON object) for each item, in order; ``work`` is given ``size`` items at a time, on each rank its share.

    A line of ``NAME.jsonl`` in the stage's folder holds one chunk's results. Chunks are cut by place alone, so that a resumed run asks the
    same batches, and gets the same answers, as one that was never stopped. Raises TrainingError where the disk refuses.
    """
    path = run.folder / f"{name}.jsonl"
    chunks = [items[start:start + size] for start in range(0, len(items), size)]
    done = _kept(path, chunks) if run.resume else []
    run.world.wait()
    if run.world.is_main:
        write_rows(path, done)
    run.reporter.stage(f"{run.name}: {name}", len(chunks), len(done))
    for index in range(len(done), len(chunks)):
        done.append(run.world.gather(list(work(run.world.share(chunks[index])))))
        if run.world.is_main:
            _append(path, done[-1])
        run.reporter.step(f"{run.name}: {name}", index + 1, {})
    run.reporter.finished(f"{run.name}: {name}")
    return [row for chunk in done for row in chunk]


def _kept(path: Path, chunks: Sequence[Sequence[Any]]) -> list[list[dict[str, Any]]]:
    """The chunks that were finished: whole lines with as many results as their chunk has items."""
    found: list[list[dict[str, Any]]] = []
    for line, chunk in zip(path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else [], chunks, strict=False):
        try:
            rows = json.loads(line)
        except ValueError:
            break
        if not isinstance(rows, list) or len(rows) != len(chunk):
            break
        found.append(rows)
    return found


def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error}; free some space and go on with --resume") from None




def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Write JSON lines so that a reader finds the old file or the new one, never a part. Raises TrainingError where the disk refuses."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(f"{path} cannot be written: {error}; free some space and go on with --resume") from None
