"""The training steps beside an audited checkpoint: its stage's journal, where the checkpoint still lies in its stage's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.errors import ModelError
from auditor.models.resolve import weights_place
from auditor.schema import ModelSpec, TrainingSteps

JOURNAL = "steps.jsonl"


def training_steps(spec: ModelSpec) -> TrainingSteps | None:
    """What ``…/3-ppo/steps.jsonl`` says of ``…/3-ppo/model``.

    None where there is no such file, the checkpoint has no lineage, or the file ends at another step than the lineage says (it is then
    another run's). Raises ModelError where the file cannot be read.
    """
    path = Path(weights_place(spec.uri)).expanduser().absolute().parent / JOURNAL
    if not spec.lineage or not path.is_file():
        return None
    try:
        steps = tuple(_step(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, ValueError, OverflowError) as error:
        raise ModelError(f"{path} cannot be read ({error}); repair it, or move the checkpoint away from it") from None
    if not steps or steps[-1].get("step") != spec.lineage.get("steps"):
        return None
    parts = (spec.lineage.get("config") or {}).get("reward") or ()
    return TrainingSteps(source=str(path), steps=steps, rewards={str(part.get("name") or part.get("kind")): dict(part) for part in parts})


def _step(line: str) -> Mapping[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict) or not all(value is None or isinstance(value, int | float) for value in row.values()):
        raise ValueError(f"{line[:60]!r} is no object of numbers")
    return {name: None if value is None else float(value) for name, value in row.items()}
