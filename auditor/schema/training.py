"""What models are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from auditor.schema.asking import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A preference pair; ``label`` is the probability (0..1) that ``chosen`` is better, ``margin`` by how much in the labeller's own unit (0: unknown).

    ``cluster_id`` is the topic: train and held-out parts never share one.
    """

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    cluster_id: str
    label: float = 1.0
    labeller: str = ""
    rationale: str = ""
    margin: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[str, str]:
        """The better and the worse text; of an undecided pair (label .5) rejected and chosen."""
        return (self.chosen, self.rejected) if self.label > 0.5 else (self.rejected, self.chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A prompt and the reply to imitate (supervised fine-tuning)."""

    id: str
    prompt: tuple[Message, ...]
    completion: str
    cluster_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """A prompt and one reply, marked as wanted or not (Kahneman-Tversky optimization)."""

    id: str
    prompt: tuple[Message, ...]
    completion: str
    desirable: bool
    cluster_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt alone, answered by the model in training (rollouts)."""

    id: str
    prompt: tuple[Message, ...]
    cluster_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    method: str
    config: Mapping[str, Any]
    parents: tuple[str, ...] = ()
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    hardware: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
