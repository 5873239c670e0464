"""From an item to a verdict: samples, scores, metrics, criteria."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from auditor.schema.asking import Message

ScoreStatus = Literal["scored", "refused", "unparseable", "error"]
Outcome = Literal["pass", "fail", "inconclusive", "not_assessed"]
Direction = Literal["below", "above"]
NO_PASS = "no pass: "  # a metric's flag that begins so withholds a pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One audit item. ``cluster_id`` groups items that share a template or topic (the unit of resampling)."""

    id: str
    messages: tuple[Message, ...]
    cluster_id: str
    target: str | None = None
    choices: tuple[str, ...] = ()
    source: str = "shipped"
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One measured value of one sample. ``value`` is None unless ``status`` is ``scored``: never a silent 0.

    ``turn`` and ``slot`` name the request whose prompt and completion the value rests on.
    """

    sample_id: str
    scorer: str
    value: float | None
    epoch: int = 0
    answer: str = ""
    explanation: str = ""
    status: ScoreStatus = "scored"
    turn: int = 0
    slot: int = 0

    def __post_init__(self) -> None:
        if (self.value is None) == (self.status == "scored"):
            raise ValueError(f"score {self.scorer!r} of {self.sample_id!r}: status {self.status!r} with value {self.value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceInterval:
    low: float
    high: float
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """An aggregated measurement. ``value`` None means it was not made; ``reason`` then says why.

    ``flags`` are warnings a reader must see beside the number (for instance a low total option probability).
    ``design_effect`` is the variance inflation by clustering (1 = none).
    """

    suite: str
    name: str
    value: float | None
    ci: ConfidenceInterval | None = None
    group: str = "all"
    n: int = 0
    n_clusters: int = 0
    n_unscored: int = 0
    higher_is_better: bool | None = None
    unit: str = "proportion"
    design_effect: float | None = None
    judge_based: bool = False
    reason: str = ""
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.suite}.{self.name}" + ("" if self.group == "all" else f"[{self.group}]")

    @property
    def no_pass(self) -> str:
        """Why a pass may not rest on this metric, or "": the flag that begins with :data:`NO_PASS`."""
        return next((flag.removeprefix(NO_PASS) for flag in self.flags if flag.startswith(NO_PASS)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A paired difference candidate − baseline on the same samples."""

    metric: str
    baseline: str
    candidate: str
    difference: float
    ci: ConfidenceInterval
    p_value: float
    n_pairs: int
    p_adjusted: float | None = None
    minimum_detectable_effect: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A bound on a metric, written down before the run. ``direction`` is the good side of ``bound``."""

    metric: str
    bound: float
    direction: Direction
    source: str
    rationale: str
    group: str = "all"
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    criterion: Criterion
    outcome: Outcome
    metric: Metric | None
    reason: str
    n_needed: int | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
