"""What a suite is, and what the engine passes it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auditor.schema.asking import Replies, Reply, Request
from auditor.schema.measuring import Criterion, Metric, Sample, Score

Embedder = Callable[[Sequence[str]], np.ndarray]  # texts -> (n, d) float32, rows of unit length


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """An earlier run's scores and completions on the same suite, for measurements against a baseline."""

    run_id: str
    scores: tuple[Score, ...]
    texts: Mapping[tuple[str, int, int, int], str]  # (sample_id, epoch, turn, slot) -> completion


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSteps:
    """What was logged while the audited checkpoint was trained, step by step; ``rewards`` are the parts of its reward by name (kind, weight, …)."""

    source: str
    steps: tuple[Mapping[str, float | None], ...]
    rewards: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a suite needs from outside; the engine passes it in."""

    seed: int = 0
    has_judge: bool = False
    judge_name: str = ""
    embed: Embedder | None = None
    embed_name: str = ""
    baseline: Baseline | None = None
    training: TrainingSteps | None = None
    quick: bool = False  # a look, not evidence: fewer draws will do


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteData:
    """All that a suite's ``aggregate`` sees."""

    samples: tuple[Sample, ...]
    replies: Mapping[tuple[str, int], Replies]  # (sample_id, epoch) -> replies[turn][slot]
    scores: tuple[Score, ...]
    context: Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite is a value; its name is its file's name.

    ``load(path)`` reads the shipped items (path None) or a user's file. ``solve(sample, context)`` yields lists of
    requests and is sent the list of their replies; ``score`` turns all replies of a sample into scores; ``aggregate``
    turns all scores into metrics. ``criteria`` are the defaults, each with its source and rationale.
    """

    name: str
    version: str
    title: str
    question: str
    method: str
    limits: str
    reference: str
    feedback_stage: str
    load: Callable[[Path | None], list[Sample]]
    solve: Callable[[Sample, Context], Generator[list[Request], list[Reply], None]]
    score: Callable[[Sample, Replies, Context], list[Score]]
    aggregate: Callable[[SuiteData], list[Metric]]
    criteria: tuple[Criterion, ...]
    headline: tuple[str, ...] = ()  # metrics shown first in summaries
    harmful: bool = False  # transcripts may hold harmful text: redactable
    stochastic: bool = False  # draws at temperature > 0, so that repeated epochs say something new
    needs_embedder: bool = False
