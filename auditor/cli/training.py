"""`auditor train`, `auditor recipes`, `auditor trainings`."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.cli import Stopped
from auditor.errors import AuditorError, InputError, TrainingError

if TYPE_CHECKING:
    from auditor.training.core.stage import Outcome
    from auditor.training.recipe import Recipe

FIRST_SPEAKS = 10.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArguments:
    """The command line as it was typed."""

    recipe: str
    db: Path
    out: Path | None = None
    changes: tuple[str, ...] = ()
    resume: bool = False
    dry_run: bool = False
    tensorboard: Path | None = None
    output: str = "text"

    @property
    def folder(self) -> Path:
        return self.out or Path("trained") / Path(self.recipe).stem

    def again(self) -> str:
        """The command that goes on with the run."""
        words = ["auditor", "train", self.recipe, *(word for change in self.changes for word in ("--set", change)), "--resume", "--out", str(self.folder),
                 "--db", str(self.db), *(("--tensorboard", str(self.tensorboard)) if self.tensorboard else ())]
        return shlex.join(words)


def is_main() -> bool:
    """Whether this process, of those that a launcher started, is the one that prints and stores."""
    return os.environ.get("RANK", "0") == "0"


def train_command(arguments: TrainArguments) -> int:
    """Train, or print the plan; what is printed at the end says what was made and how it was measured."""
    from auditor.cli.output import check_format
    from auditor.training.recipe import read_recipe

    check_format(arguments.output)
    try:
        recipe = read_recipe(arguments.recipe, arguments.changes)
        if arguments.dry_run:
            from auditor.cli.training_plan import print_plan

            return print_plan(recipe, arguments.output)
        outcomes = train_recipe(recipe, arguments)
    except AuditorError as error:
        if is_main() or not isinstance(error, InputError):  # the same input is bad in every process: one says so
            raise
        time.sleep(FIRST_SPEAKS)  # a launcher ends all processes as soon as one has ended: the first must have said why
        return error.exit_code
    if is_main():
        _print_outcomes(recipe, outcomes, arguments)
    return 0


def train_recipe(recipe: Recipe, arguments: TrainArguments) -> list[Outcome]:
    """Train with a bar, every step stored; what each stage made. Raises Stopped, saying how to go on, where Ctrl-C is pressed."""
    from auditor.cli.training_record import FINAL_WAIT, Recorder
    from auditor.cli.training_watch import Board, Together, Watching
    from auditor.engine import environment
    from auditor.training.core.journal import Silent
    from auditor.training.pipeline import Options, train

    facts = {"git_commit": environment.git_commit(), "packages": environment.packages(), "hardware": environment.hardware()}
    if not is_main():
        return train(recipe, arguments.folder, Options(resume=arguments.resume, environment=facts, reporter=Silent()))
    board = [Board(arguments.tensorboard)] if arguments.tensorboard else []
    with Watching() as watching:
        recorder = Recorder(arguments.db, watching.say)
        options = Options(resume=arguments.resume, environment=facts, reporter=Together([watching, *board]), claimed=recorder.claimed,
                          after_step=recorder.after_step)
        try:
            outcomes = train(recipe, arguments.folder, options)
        except KeyboardInterrupt:
            recorder.copy("interrupted")
            if recorder.out is None:
                raise
            raise Stopped(f"stopped; what was trained up to the last checkpoint stays: go on with `{arguments.again()}`") from None
        except Exception as error:
            recorder.copy("failed")
            if recorder.out is not None and isinstance(error, TrainingError):
                raise TrainingError(f"{error}. To resume: `{arguments.again()}`") from None
            raise
        if not recorder.copy("done", wait=FINAL_WAIT):
            watching.say(f"the database {arguments.db} lacks this run's statistics; `{arguments.again()}` stores them")
        return outcomes


def _print_outcomes(recipe: Recipe, outcomes: Sequence[Outcome], arguments: TrainArguments) -> None:
    from auditor.cli.output import print_json
    from auditor.cli.text import printable
    from auditor.schema import to_dict

    policy = next((outcome.path for outcome in reversed(outcomes) if outcome.kind == "policy"), None)
    command = None if policy is None else shlex.join(["auditor", "run", str(policy)])
    stages = list(zip(recipe.stages, outcomes, strict=True))
    if arguments.output == "json":
        print_json({"recipe": recipe.name, "recipe_hash": recipe.hash, "out": str(arguments.folder), "status": "done", "next": command, "stages": [
            {"stage": stage.name, "method": stage.method, "kind": outcome.kind, "path": str(outcome.path), "steps": outcome.steps,
             "measured": to_dict(outcome.measured), "notes": list(outcome.notes)} for stage, outcome in stages]})
        return
    for stage, outcome in stages:
        print(printable(f"{stage.name} ({stage.method}): {outcome.steps} steps → {outcome.path}"))
        for line in (*measured_lines(outcome.measured), *outcome.notes):
            print(printable(f"    {line}"))
    if command:
        print(f"\nNext: {command}")


def measured_lines(measured: Mapping[str, Any]) -> list[str]:
    """What a stage measured, a line each; parts of a measurement stay in the JSON and the database."""
    from auditor.schema import to_dict

    lines = []
    for name, value in to_dict(dict(measured)).items():
        words = name.replace("_", " ")
        if isinstance(value, Mapping) and "value" in value:
            interval = "" if value.get("low") is None else f" [{value['low']:.3g}, {value['high']:.3g}]"
            count = f", n = {value['n']}" if "n" in value else ""
            words += f" ({value['reply']!r})" if "reply" in value else ""
            lines.append(f"{words}: " + ("not measured" if value["value"] is None else f"{value['value']:.3g}{interval}{count}"))
        elif isinstance(value, int | float):
            lines.append(f"{words}: {value:.4g}")
        elif value is None:
            lines.append(f"{words}: not measured")
    return lines


def recipes_command(output: str) -> None:
    """List the shipped recipes."""
    from auditor.cli.output import check_format, print_json, table
    from auditor.training.recipe import read_recipe, shipped

    check_format(output)
    recipes = [read_recipe(name) for name in shipped()]
    if output == "json":
        print_json({"recipes": [{"name": recipe.name, "title": recipe.title, "about": recipe.about, "model": recipe.model,
                                 "stages": [stage.method for stage in recipe.stages]} for recipe in recipes]})
        return
    table("Recipes (auditor train NAME)", ("recipe", "stages", "about"),
          [(recipe.name, " → ".join(stage.method for stage in recipe.stages), recipe.about) for recipe in recipes])


def trainings_command(db: Path, output: str) -> None:
    """List the training runs in the database, the newest last."""
    import json

    from auditor.cli.output import check_format, print_json, table
    from auditor.reports.environment import to_the_second
    from auditor.store import Store

    check_format(output)
    rows = Store.open(db).training().to_dict("records")
    if output == "json":
        print_json({"trainings": [{**row, "recipe": json.loads(row["recipe"]), "environment": json.loads(row["environment"])} for row in rows]})
        return
    table(f"Training runs in {db}", ("training", "recipe", "status", "created", "model", "folder"),
          [(row["training_id"], row["recipe_name"], row["status"], to_the_second(row["created"]), row["model"], row["out"]) for row in rows])


def merge_command(model: str, out: Path, dtype: str, output: str) -> None:
    """Write the model as one folder and say where."""
    from auditor.cli.output import check_format, print_json
    from auditor.cli.text import printable
    from auditor.training.merging import merge

    check_format(output)
    found = merge(model, out, dtype)
    if output == "json":
        print_json(found)
    else:
        print(printable(f"{out}: {found['bytes'] / 1e6:,.0f} MB, {dtype}; weights {found['weights_hash']}\nAudit it with: auditor run {shlex.quote(str(out))}"))
