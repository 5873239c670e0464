"""Where a checkpoint comes from: a file beside it that travels with it, and that the audit reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.errors import InputError, ModelError
from auditor.items import file_sha256
from auditor.models.identity import weights_hash
from auditor.models.resolve import resolve
from auditor.schema import to_dict
from auditor.training.core.checkpoint import write_json
from auditor.training.core.stage import Outcome
from auditor.training.recipe import Recipe, Stage

NAME = "auditor_lineage.json"


def read_lineage(uri: str) -> dict[str, Any]:
    """The lineage of a model, or {} where it has none."""
    try:
        checkpoint = resolve(uri)
    except ModelError:
        return {}
    for folder in (checkpoint.adapter, checkpoint.folder):
        path = folder / NAME if folder else None
        if path is not None and path.is_file():
            try:
                return dict(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise InputError(f"{path} cannot be read: {error}; repair or remove it") from None
    return {}


def parent(uri: str) -> dict[str, Any]:
    """What a lineage says of a model that another started from."""
    return {"uri": uri, "weights_hash": weights_hash(resolve(uri))}


def fingerprint(path: Path) -> str:
    """What a stage made, as one SHA-256: a checkpoint's as the audit computes it, a file's own."""
    return file_sha256(path) if path.is_file() else weights_hash(resolve(str(path)))


def write_lineage(outcome: Outcome, stage: Stage, start: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the lineage of a stage's checkpoint beside it and return it.

    Judges and rewards accumulate along the chain: what shaped a parent shaped its child, and may not judge it independently.
    """
    before = read_lineage(start) if start else {}
    lineage = {
        "method": stage.method, "stage": stage.name, "config": to_dict(stage.config), "parents": [*([parent(start)] if start else []), *outcome.parents],
        "data_hashes": {**before.get("data_hashes", {}), **outcome.data_hashes}, "judges": [*before.get("judges", []), *outcome.judges],
        "rewards": [*before.get("rewards", []), *outcome.rewards], "steps": outcome.steps, "measured": outcome.measured,
        "notes": [*before.get("notes", []), *outcome.notes], "history": [*before.get("history", []), stage.method], **facts}
    if outcome.path.is_dir():
        write_json(outcome.path / NAME, to_dict(lineage))
    return lineage


def recipe_facts(recipe: Recipe, environment: Mapping[str, Any]) -> dict[str, Any]:
    """What every stage of one run has in common."""
    return {"recipe": recipe.name, "recipe_hash": recipe.hash, "seed": recipe.seed, "environment": dict(environment)}
