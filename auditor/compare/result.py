"""What a comparison of runs comes to: plain values, ready to be printed in any form.

A *gain* is a difference in the good direction: candidate − baseline where higher is better, else baseline − candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from auditor.schema import ConfidenceInterval
from auditor.store import Transcript

Outcome = Literal["better", "worse", "equivalent", "inconclusive"]
Test = Literal["no-worse", "non-inferior", "better", "equivalent"]
Decided = Literal["pass", "fail", "inconclusive", "not_assessed"]
TESTS: tuple[Test, ...] = ("no-worse", "non-inferior", "better", "equivalent")
DEFAULT_WHY = "a headline measurement of its suite"  # where no policy is given
PROOF: frozenset[Test] = frozenset({"non-inferior", "better", "equivalent"})  # tests that ask the candidate to show something


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run, as a reader has to know it."""

    run_id: str
    db: str
    model: str
    weights_hash: str
    created: str
    profile: str
    limit: int | None
    epochs: int
    evidence: bool
    status: str
    judge: str | None = None
    notice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Candidate − baseline of one metric over the pairs that both runs scored.

    ``baseline`` and ``candidate`` are the averages over these pairs, of which ``n_changed`` differ; ``unpaired`` counts the scores that only one of
    the runs has. ``margin`` is in the metric's unit. ``flip``: chance that a re-run of both models on the same items would give another outcome;
    ``flip_is_bound``: at most. ``minimum_detectable_effect`` None where pairs do not vary. ``n_needed``: pairs that would settle an inconclusive outcome.
    """

    metric: str
    unit: str
    higher_is_better: bool
    baseline: float
    candidate: float
    difference: float
    ci: ConfidenceInterval
    p_value: float
    n_pairs: int
    n_clusters: int
    n_changed: int
    unpaired: int
    margin: float
    margin_source: str
    outcome: Outcome
    reason: str
    p_adjusted: float | None = None
    minimum_detectable_effect: float | None = None
    flip: float = 0.0
    flip_is_bound: bool = False
    n_needed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        return self.difference if self.higher_is_better else 0.0 - self.difference

    @property
    def gain_interval(self) -> tuple[float, float]:
        return (self.ci.low, self.ci.high) if self.higher_is_better else (0.0 - self.ci.high, 0.0 - self.ci.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One criterion of a policy. ``margin`` None: the house default of the metric's unit. ``higher_is_better`` None: the metric's own."""

    metric: str
    why: str
    test: Test = "no-worse"
    margin: float | None = None
    higher_is_better: bool | None = None
    owner: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """``source`` is the file, or says that no file was given; ``sha256`` is the file's."""

    rules: tuple[Rule, ...]
    source: str
    sha256: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What became of a rule. ``p_value``: one-sided, of the opposite of what the rule's test claims. ``lost``: the baseline has the measurement, the
    candidate has not."""

    rule: Rule
    decided: Decided
    reason: str
    difference: Difference | None = None
    p_value: float | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The same item in both runs, and by how much its score gained or lost."""

    metric: str
    scorer: str
    gain: float
    baseline: Transcript
    candidate: Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A candidate against the baseline. ``not_compared``: (metric, reason). ``notes``: what was left out and what a reader must know."""

    run: RunFacts
    decisions: tuple[Decision, ...]
    differences: tuple[Difference, ...]
    not_compared: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    exit_code: int
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A run's place in one metric on the items that all runs share. ``places`` (best, worst): simultaneous, from Holm-adjusted paired tests."""

    run_id: str
    value: float
    ci: ConfidenceInterval | None
    wins: int
    losses: int
    places: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRanking:
    metric: str
    unit: str
    higher_is_better: bool
    n: int
    runs: tuple[Ranked, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Rankings by metric, and (run, wins, losses) over all of them; ``tests`` is the number of paired tests that Holm's adjustment covers."""

    metrics: tuple[MetricRanking, ...]
    totals: tuple[tuple[str, int, int], ...]
    tests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that was found. ``letters``: run id -> the letter that stands for it, the baseline A."""

    baseline: RunFacts
    candidates: tuple[Against, ...]
    policy: Policy
    strict: bool
    exit_code: int
    ranking: Ranking | None = None
    redacted: tuple[str, ...] = ()
    letters: Mapping[str, str] = field(default_factory=dict)
