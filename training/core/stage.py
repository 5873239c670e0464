"""What a method is given when it runs as a stage of a pipeline, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from auditor.errors import InputError
from auditor.models.resolve import EngineOptions, open_model
from auditor.training.core.checkpoint import Checkpoints
from auditor.training.core.journal import Reporter, Silent, StepLog
from auditor.training.core.world import World

Kind = Literal["policy", "reward", "labeller", "preferences", "demonstrations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a stage made: ``path`` of the checkpoint or file, how it was measured, and what its lineage must name.

    ``data_sketches``: of sets of pairs, what was learned from (:func:`auditor.training.core.overlap.learned_from`).
    """

    kind: Kind
    path: Path
    steps: int = 0
    measured: Mapping[str, Any] = field(default_factory=dict)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    data_sketches: tuple[Mapping[str, Any], ...] = ()
    parents: tuple[Mapping[str, Any], ...] = ()
    judges: tuple[Mapping[str, Any], ...] = ()
    rewards: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """One stage of one run. ``inputs`` maps a role (a Kind) or ``stage:NAME`` to what an earlier stage made."""

    name: str
    folder: Path
    world: World
    seed: int = 0
    resume: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=Silent)
    used: list[str] = field(default_factory=list)  # every model and file that `find` named: their lineages become part of this stage's own
    after_step: Callable[[int], None] | None = None  # told after every checkpoint, so that the store can take the steps

    @property
    def log(self) -> StepLog:
        return StepLog(self.folder / "steps.jsonl")

    def checkpoints(self, keep: int) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoints", keep)

    def find(self, wanted: str, role: Kind) -> str:
        """The model or file that a setting names: itself, or what an earlier stage made. Raises InputError where there is none."""
        key = wanted or role
        if wanted and not wanted.startswith("stage:"):
            self.used.append(wanted)
            return wanted
        if key not in self.inputs:
            made = ", ".join(sorted(name for name in self.inputs if name.startswith("stage:"))) or "none"
            raise InputError(f"stage {self.name!r} needs a {role} and {key!r} names none; earlier stages: {made}")
        self.used.append(self.inputs[key])
        return self.inputs[key]

    def open(self, uri: str) -> Any:
        """A model that is to be trained or asked by a trainer: float32, its layers as they are. Raises InputError for one without weights here."""
        engine: Any = open_model(uri, EngineOptions(pack=False, dtype="float32"))
        if not hasattr(engine, "tokenizer"):
            raise InputError(f"stage {self.name!r}: {uri} has no weights that can be trained; pass a checkpoint folder, a GGUF file or smollm2")
        engine.model.requires_grad_(False)
        return engine


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch draws from ``seed`` inside; outside, its generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
