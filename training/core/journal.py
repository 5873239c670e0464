"""The statistics of every step, a JSON line each, as they arise. The store takes them from here."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from auditor.errors import TrainingError


class Reporter(Protocol):
    """Who watches a training run."""

    def stage(self, name: str, steps: int, done: int) -> None:
        """A stage begins, of ``steps`` steps with ``done`` of them behind it."""

    def step(self, name: str, step: int, values: Mapping[str, float | None]) -> None:
        """A step is complete."""

    def say(self, text: str) -> None:
        """A line worth reading."""

    def finished(self, name: str) -> None:
        """A stage is complete."""


class Silent:
    """A reporter that nobody hears."""

    def stage(self, name: str, steps: int, done: int) -> None: ...

    def step(self, name: str, step: int, values: Mapping[str, float | None]) -> None: ...

    def say(self, text: str) -> None: ...

    def finished(self, name: str) -> None: ...


class StepLog:
    """``steps.jsonl`` of one stage. A value that is not finite is stored as null: JSON has no NaN, and 0 would be a lie."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        clean = {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **clean}, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TrainingError(f"{self.path} cannot be written: {error}; free some space and go on with --resume") from None

    def rewind(self, step: int) -> None:
        """Forget what came after ``step``: those steps are about to be repeated."""
        if self.path.exists():
            kept = [row for row in read_steps(self.path) if row["step"] <= step]
            partial = self.path.with_suffix(".partial")
            try:
                partial.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
                os.replace(partial, self.path)
            except OSError as error:
                raise TrainingError(f"{self.path} cannot be written: {error}; free some space and go on with --resume") from None


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The steps in a journal; a last line that was cut off by a crash is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(dict(json.loads(line)))
        except ValueError:
            break
    return rows
