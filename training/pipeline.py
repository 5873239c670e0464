"""Runs a recipe: its stages in order, each in a folder of its own, resumable, with lineage.

    OUT/run.json             the recipe with all defaults, its hash, what is done
    OUT/1-sft/steps.jsonl    statistics of every step
    OUT/1-sft/checkpoints/   the last few, until the stage is complete
    OUT/1-sft/model/         the stage's checkpoint, which `auditor run` audits
    OUT/1-sft/stage.json     what the stage made and how it was measured
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from auditor.errors import InputError, TrainingError
from auditor.schema import to_dict
from auditor.training.core.checkpoint import write_json
from auditor.training.core.config import Optimisation
from auditor.training.core.journal import Reporter, Silent
from auditor.training.core.stage import Kind, Outcome, StageRun
from auditor.training.core.validation import shown
from auditor.training.core.world import World
from auditor.training.lineage import fingerprint, recipe_facts, write_lineage
from auditor.training.recipe import Recipe, Stage, method

RUN, DONE = "run.json", "stage.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a recipe is run. ``environment`` goes into the lineage.

    The first process calls ``claimed(folder)`` as soon as the folder is this run's, and ``after_step(stage folder, stage, step)`` at every
    checkpoint and at the end of every stage.
    """

    resume: bool = False
    environment: Mapping[str, Any] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=Silent)
    claimed: Callable[[Path], None] | None = None
    after_step: Callable[[Path, str, int], None] | None = None


def train(recipe: Recipe, out: Path, options: Options | None = None) -> list[Outcome]:
    """Run all stages of ``recipe`` in ``out`` and return what each made, the last one last.

    Raises InputError where ``out`` holds another run, or, on resume, another recipe's or nothing; TrainingError where another
    process trains there, or training goes wrong.
    """
    options = options or Options()
    world = World()
    if not world.is_main:
        world.wait()
        return _stages(recipe, out, options, world)
    _prepare_parent(out)
    lock = FileLock(str(out) + ".lock")
    try:
        with lock.acquire(timeout=0):
            _claim(recipe, out, options)
            if options.claimed:
                options.claimed(out)
            world.wait()
            return _stages(recipe, out, options, world)
    except Timeout:
        raise TrainingError(f"another process is training in {out}; wait for it, or pass another --out") from None


def _prepare_parent(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error}; pass another --out") from None


def _claim(recipe: Recipe, out: Path, options: Options) -> None:
    """Make ``out`` this run's folder, or make sure that it is."""
    path = out / RUN
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; pass a folder as --out")
    if not path.is_file():
        if options.resume:
            raise InputError(f"{out} holds no training run to resume; leave out --resume")
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out} holds other files; pass a new or empty folder as --out")
        out.mkdir(exist_ok=True)
        now = datetime.now(UTC)
        write_json(path, {"training_id": now.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2), "created": now.isoformat(timespec="microseconds"),
                          "recipe": to_dict(recipe), "hash": recipe.hash, "environment": dict(options.environment)})
        return
    if not options.resume:
        raise InputError(f"{out} holds a training run already; go on with it by --resume, or pass another --out")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}); start again in another --out") from None
    if before.get("hash") != recipe.hash:
        changed = ", ".join(differences(before.get("recipe", {}), to_dict(recipe))) or "its defaults"
        raise InputError(f"{out} was started with another recipe; changed: {changed}. Resume with the same settings, or pass another --out")


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """Where two recipes differ, as ``key: old → new``."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        return [line for key in keys for line in differences(before.get(key), after.get(key), f"{place}.{key}" if place else key)]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        named = [str(item.get("name") or index) if isinstance(item, dict) else str(index) for index, item in enumerate(after)]
        return [line for one, other, name in zip(before, after, named, strict=True) for line in differences(one, other, f"{place}.{name}")]
    return [] if before == after else [f"{place}: {before!r} → {after!r}"]


def _stages(recipe: Recipe, out: Path, options: Options, world: World) -> list[Outcome]:
    inputs: dict[str, str] = {"policy": recipe.model}
    outcomes: list[Outcome] = []
    facts = recipe_facts(recipe, options.environment)
    for number, stage in enumerate(recipe.stages, start=1):
        folder = out / f"{number}-{stage.name}"
        outcome = _finished(folder) if options.resume else None
        if outcome is None:
            outcome = _run_stage(stage, StageRun(
                name=stage.name, folder=folder, world=world, seed=recipe.seed, resume=options.resume, inputs=dict(inputs), reporter=options.reporter,
                after_step=_teller(options, folder, stage.name)), facts)
        else:
            options.reporter.say(f"{stage.name}: complete, kept")
        inputs[outcome.kind] = inputs[f"stage:{stage.name}"] = str(outcome.path)
        outcomes.append(outcome)
    return outcomes


def _teller(options: Options, folder: Path, name: str) -> Callable[[int], None] | None:
    tell = options.after_step
    return None if tell is None else lambda step: tell(folder, name, step)


def _run_stage(stage: Stage, run: StageRun, facts: Mapping[str, Any]) -> Outcome:
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{run.folder} cannot be made: {error}; free some space and go on with --resume") from None
    if isinstance(stage.config, Optimisation) and stage.config.batch_size < run.world.size:
        raise InputError(f"stage {stage.name!r}: batch_size is {stage.config.batch_size} and there are {run.world.size} processes; pass at least one a process")
    outcome: Outcome = method(stage.method).train(stage.config, run)
    if run.world.is_main:
        start = run.find(getattr(stage.config, "model", ""), "policy")
        lineage = write_lineage(outcome, stage, (start, run.used), facts)
        write_json(run.folder / DONE, to_dict(outcome) | {"path": str(outcome.path.relative_to(run.folder)), "method": stage.method,
                                                          "weights_hash": fingerprint(outcome.path), "lineage": to_dict(lineage)})
        run.checkpoints(1).clear()
        if run.after_step:
            run.after_step(outcome.steps)
    if outcome.measured.get("accuracy"):
        run.reporter.say(f"{run.name}: accuracy {shown(outcome.measured)}")
    for note in outcome.notes:
        run.reporter.say(f"{run.name}: {note}")
    run.world.wait()
    return outcome


def _finished(folder: Path) -> Outcome | None:
    """What a complete stage made, or None."""
    path = folder / DONE
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path} cannot be read ({error}); remove that folder and resume") from None
    kind: Kind = stored["kind"]
    return Outcome(kind=kind, path=folder / stored["path"], steps=stored["steps"], measured=stored["measured"], data_hashes=stored["data_hashes"],
                   data_sketches=tuple(stored.get("data_sketches", ())), parents=tuple(stored["parents"]), judges=tuple(stored["judges"]),
                   rewards=tuple(stored["rewards"]), notes=tuple(stored["notes"]))
