"""From a training run's folder into the database: at every checkpoint, and as often as it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from auditor.errors import StoreError
from auditor.store.training import TrainingRun, TrainingStage, store_training
from auditor.training.core.journal import read_steps
from auditor.training.pipeline import DONE, RUN

PATIENCE = 1.0  # seconds that a copy on the way waits for the database: the training matters more
FINAL_WAIT = 20.0  # seconds that the last one waits


class Recorder:
    """Copies the journals of a run into ``database``. A database that cannot be used is said once, and tried again at the next checkpoint."""

    def __init__(self, database: Path, say: Callable[[str], None]) -> None:
        self.database, self.say = database, say
        self.out: Path | None = None
        self.stored: dict[str, int] = {}  # stage → its last checkpoint that the database holds: steps beyond one may be repeated
        self.behind = False

    def claimed(self, out: Path) -> None:
        """The folder is this process's: tell of the run, with whatever an earlier process left there."""
        self.out = out
        self.copy("running")

    def after_step(self, folder: Path, stage: str, step: int) -> None:
        """A checkpoint was written, or a stage is complete."""
        if self.copy("running", stage):
            self.stored[stage] = step

    def copy(self, status: str, only: str | None = None, *, wait: float = PATIENCE) -> bool:
        """Store the run as ``status``, with the new steps of stage ``only`` (of all, where an earlier copy failed); False where that failed."""
        if self.out is None:
            return True
        facts = json.loads((self.out / RUN).read_text(encoding="utf-8"))
        stages = [stage for stage in self._stages(facts["recipe"]) if only in (None, stage.stage) or self.behind]
        try:
            store_training(self.database, _run(facts, self.out, status), stages, wait=wait)
        except StoreError as error:
            if not self.behind:
                self.say(f"warning: {error}. The training goes on; its statistics are kept in {self.out} and stored at the next checkpoint that can")
            self.behind = True
            return False
        self.behind = False
        return True

    def _stages(self, recipe: Mapping[str, Any]) -> list[TrainingStage]:
        assert self.out is not None
        folders = [(number, stage, self.out / f"{number}-{stage['name']}") for number, stage in enumerate(recipe["stages"], start=1)]
        return [_stage(number, stage, folder, self.stored.get(stage["name"], 0)) for number, stage, folder in folders if folder.is_dir()]


def _run(facts: Mapping[str, Any], out: Path, status: str) -> TrainingRun:
    recipe = facts["recipe"]
    return TrainingRun(training_id=facts["training_id"], created=facts["created"], status=status, recipe_name=recipe["name"], recipe_hash=facts["hash"],
                       recipe=recipe, out=str(out.resolve()), seed=recipe["seed"], model=recipe["model"], environment=facts["environment"])


def _stage(number: int, stage: Mapping[str, Any], folder: Path, after: int) -> TrainingStage:
    journal, done = folder / "steps.jsonl", folder / DONE
    rows = read_steps(journal) if journal.is_file() else []
    made = json.loads(done.read_text(encoding="utf-8")) if done.is_file() else {}
    return TrainingStage(
        stage=stage["name"], position=number, method=stage["method"], steps=made.get("steps", max((row["step"] for row in rows), default=0)),
        complete=bool(made), kind=made.get("kind"), path=str((folder / made["path"]).resolve()) if made else None, weights_hash=made.get("weights_hash"),
        measured=made.get("measured", {}), lineage=made.get("lineage", {}), rows=[row for row in rows if row["step"] > after], after=after)
