"""Where a checkpoint comes from: a file beside it that travels with it, and that the audit reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.errors import ModelError
from auditor.items import file_sha256
from auditor.models.identity import LINEAGE, first_lineage, weights_hash
from auditor.models.resolve import resolve
from auditor.schema import to_dict
from auditor.training.core.checkpoint import write_json
from auditor.training.core.overlap import sketches_of
from auditor.training.core.stage import Outcome
from auditor.training.recipe import Recipe, Stage


def read_lineage(uri: str) -> dict[str, Any]:
    """The lineage of a model, or of a data file that a stage wrote; {} where it has none."""
    place = uri.partition("?")[0]
    if place.startswith("shipped:") or "?" in uri or (Path(place).is_file() and not place.endswith(".gguf")):
        folders: tuple[Path | None, ...] = () if place.startswith(("shipped:", "hf:")) else (Path(place).parent,)
    else:
        try:
            checkpoint = resolve(uri)
        except ModelError:
            return {}
        folders = (checkpoint.adapter, checkpoint.folder)
    return first_lineage(folders)


def parent(uri: str) -> dict[str, Any]:
    """What a lineage says of a model that another started from."""
    return {"uri": uri, "weights_hash": weights_hash(resolve(uri))}


def fingerprint(path: Path) -> str:
    """What a stage made, as one SHA-256: a checkpoint's as the audit computes it, a file's own."""
    return file_sha256(path) if path.is_file() else weights_hash(resolve(str(path)))


def write_lineage(outcome: Outcome, stage: Stage, inputs: tuple[str, Sequence[str]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the lineage of what a stage made beside it and return it. ``inputs``: the model that it started from, and all that it used.

    Judges and rewards accumulate along the chain: what shaped a parent, the data or the reward model shaped the child, and may not judge it
    independently.
    """
    start, used = inputs
    before = read_lineage(start) if start else {}
    shaped = [before, *(read_lineage(uri) for uri in used if uri != start)]
    lineage = {
        "method": stage.method, "stage": stage.name, "config": to_dict(stage.config), "parents": [*([parent(start)] if start else []), *outcome.parents],
        "data_hashes": _data(shaped, outcome, stage.name), "judges": _together(shaped, "judges", outcome.judges),
        "data_sketches": _together([{"data_sketches": sketches_of(lineage)} for lineage in shaped], "data_sketches", outcome.data_sketches),
        "rewards": _together(shaped, "rewards", outcome.rewards), "steps": outcome.steps, "measured": outcome.measured,
        "notes": _together(shaped, "notes", outcome.notes), "history": [*before.get("history", []), stage.method], **facts}
    write_json((outcome.path if outcome.path.is_dir() else outcome.path.parent) / LINEAGE, to_dict(lineage))
    return lineage


def _data(lineages: Sequence[Mapping[str, Any]], outcome: Outcome, stage: str) -> dict[str, str]:
    """The data of all lineages, a reward model's or a labeller's included, and the stage's own; a source that changed in between stands twice."""
    found: dict[str, str] = {}
    named = [*((str(lineage.get("stage", "")), lineage.get("data_hashes", {})) for lineage in lineages), (stage, outcome.data_hashes)]
    for place, hashes in named:
        for source, digest in hashes.items():
            found[source if found.get(source, digest) == digest else f"{source} ({place})"] = digest
    return found


def _together(lineages: Sequence[Mapping[str, Any]], key: str, own: Sequence[Any]) -> list[Any]:
    """The entries of all lineages and then the stage's own, each once."""
    found: list[Any] = []
    for entry in [*(entry for lineage in lineages for entry in lineage.get(key, [])), *own]:
        if entry not in found:
            found.append(entry)
    return found


def recipe_facts(recipe: Recipe, environment: Mapping[str, Any]) -> dict[str, Any]:
    """What every stage of one run has in common."""
    return {"recipe": recipe.name, "recipe_hash": recipe.hash, "seed": recipe.seed, "environment": dict(environment)}
