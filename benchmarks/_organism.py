"""Simulated model organisms: a model that answers a suite's shipped items by drawing, for each item, one of a few replies.

A reply is made by a state (what the model knows of the item, or the planted fault) and a variant (its noise). It is asked for by the suite's own
``solve`` and scored by the suite's own ``score``, once for each (item, state, variant); a simulation only draws which one is used.

A parent and its candidate share the states of their items except for a share NOISE, drawn anew for each, and differ in all noise. The
candidate has the fault on each item with probability ``dose``. Items of a cluster share a part of the draws, so that clusters matter.
Every draw is keyed by the simulation and the item's (or the cluster's) id, never by its place.

Shapes: N items, S states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from auditor.schema import Context, Criterion, Embedder, Generation, Metric, Replies, Reply, Request, Sample, Score, Suite
from auditor.stats import MetricBuilder

VARIANTS = 3
NOISE = 0.15  # share of items whose state is drawn anew in each model
SHARED = 0.25  # share of items that follow their cluster's draw
Keys = NDArray[np.uint64]
Place = tuple[int, int]  # turn, slot
Picks = list[tuple[int, int]]  # (state, variant) of each item


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A measurement that the fault should move. ``worse``: the sign of a change for the worse; ``margin``: how large a change matters.

    ``bounds`` are those of one value (None: a share of zeros and ones). ``level``: the metric that ``criterion`` judges, where it is not the plain
    average of ``scorer``; ``is_change``: the criterion judges the difference from the parent itself. ``matched``: its scores come from ``pair``.
    """

    name: str
    scorer: str
    worse: int
    margin: float
    criterion: Criterion
    where: Callable[[Sample], bool] | None = None
    bounds: tuple[float, float] | None = None
    level: Callable[[MetricBuilder, Measured], Metric] | None = None
    is_change: bool = False
    matched: bool = False

    def level_of(self, builder: MetricBuilder) -> Metric:
        """The criterion's metric of one model."""
        if self.level is not None:
            return self.level(builder, self)
        name = self.criterion.metric.partition(".")[2]
        if self.bounds is None:
            return builder.proportion(name, self.scorer, where=self.where)
        return builder.mean(name, self.scorer, where=self.where, bounds=self.bounds)

    def change_of(self, builder: MetricBuilder, parent: Sequence[Score]) -> Metric:
        """Candidate − parent, paired by item, with the product's interval."""
        low, high = self.bounds or (0.0, 1.0)
        bounds = (low - high, high - low) if np.isfinite(high - low) else None
        return builder.paired_difference(f"{self.name}_change", self.scorer, parent, where=self.where, bounds=bounds)


Pairing = Callable[[Sample, Replies, Replies], tuple[list[Score], list[Score]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The simulated models of one suite. ``weights(sample)``: probability of each state without the fault, the rest of the states have 0.

    ``faulty(sample, state)`` is the state that the fault makes of another; ``answer(sample, state, variant, request, place)`` the reply.
    ``pair`` scores two models' replies to one item together, where the suite compares them at matched lengths.
    """

    suite: Suite
    fault: str
    measured: tuple[Measured, ...]
    weights: Callable[[Sample], Sequence[float]]
    faulty: Callable[[Sample, int], int]
    answer: Callable[[Sample, int, int, Request, Place], Reply]
    pair: Pairing | None = None
    embed: Embedder | None = None


def criterion_of(suite: Suite, name: str) -> Criterion:
    """The suite's default criterion on ``name``, the one whose bad side is above zero where there are two."""
    found = [criterion for criterion in suite.criteria if criterion.metric == f"{suite.name}.{name}"]
    return max(found, key=lambda criterion: criterion.direction == "below")


def key_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def generator(*parts: object) -> np.random.Generator:
    """Random numbers that depend on ``parts`` alone."""
    return np.random.default_rng(key_of("|".join(map(str, parts))))


def uniforms(keys_N: Keys, draw: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each key, (N,): the finaliser of SplitMix64 on key + hash of ``draw``."""
    with np.errstate(over="ignore"):
        z = keys_N + np.uint64(key_of(draw))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(float) * 2.0**-53)


@dataclass(slots=True)
class Organisms:
    """Draws models of one design and plays them, keeping what was scored."""

    design: Design
    samples: tuple[Sample, ...] = ()
    _keys: Keys = field(init=False)
    _clusters: Keys = field(init=False)
    _cumulated: NDArray[np.float64] = field(init=False)  # (N, S)
    _faulty: NDArray[np.int64] = field(init=False)  # (N, S)
    _played: dict[tuple[int, int, int], tuple[Replies, list[Score]]] = field(default_factory=dict)
    _pairs: dict[tuple[int, int, int, int, int], tuple[list[Score], list[Score]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.samples = tuple(sorted(self.design.suite.load(None), key=lambda sample: sample.id))
        self._keys = np.array([key_of(sample.id) for sample in self.samples], dtype=np.uint64)
        self._clusters = np.array([key_of(sample.cluster_id) for sample in self.samples], dtype=np.uint64)
        weights = [np.asarray(self.design.weights(sample), dtype=float) for sample in self.samples]
        most = max(map(len, weights))
        self._cumulated = np.array([np.cumsum(np.pad(row, (0, most - len(row)))) for row in weights])
        self._faulty = np.array([[self.design.faulty(sample, state) for state in range(most)] for sample in self.samples])

    def draw(self, simulation: str, who: str, dose: float) -> Picks:
        """State and variant of each item for one model of a simulation."""
        anew_N = self._drawn(f"{simulation}|{who}|anew") < NOISE
        place_N = np.where(anew_N, self._drawn(f"{simulation}|{who}|state"), self._drawn(f"{simulation}|state"))
        state_N = np.minimum((place_N[:, None] >= self._cumulated).sum(1), self._cumulated.shape[1] - 1)
        has_N = uniforms(self._keys, f"{simulation}|{who}|fault") < dose
        state_N = np.where(has_N, self._faulty[np.arange(len(state_N)), state_N], state_N)
        variant_N = (VARIANTS * uniforms(self._keys, f"{simulation}|{who}|variant")).astype(int)
        return list(zip(state_N.tolist(), variant_N.tolist(), strict=True))

    def _drawn(self, what: str) -> NDArray[np.float64]:
        own_N, cluster_N = uniforms(self._keys, what), uniforms(self._clusters, what)
        return np.where(uniforms(self._keys, what + "|cluster") < SHARED, cluster_N, own_N)

    def play(self, item: int, state: int, variant: int) -> tuple[Replies, list[Score]]:
        """Replies and scores of one item, by the suite's own solve and score."""
        key = (item, state, variant)
        if key not in self._played:
            sample, suite = self.samples[item], self.design.suite
            replies = self._replies(sample, state, variant)
            self._played[key] = replies, suite.score(sample, replies, Context(embed=self.design.embed))
        return self._played[key]

    def _replies(self, sample: Sample, state: int, variant: int) -> Replies:
        solving, replies = self.design.suite.solve(sample, Context()), []
        requests = next(solving, None)
        while requests is not None:
            turn = len(replies)
            given = [self.design.answer(sample, state, variant, request, (turn, slot)) for slot, request in enumerate(requests)]
            replies.append(tuple(replace(reply, sample_id=sample.id, turn=turn, slot=slot) if isinstance(reply, Generation) else reply
                                 for slot, reply in enumerate(given)))
            try:
                requests = solving.send(list(replies[-1]))
            except StopIteration:
                requests = None
        return tuple(replies)

    def scores(self, picks: Picks, wanted: frozenset[str]) -> list[Score]:
        """The ``wanted`` scores of one model."""
        return [score for item, pick in enumerate(picks) for score in self.play(item, *pick)[1] if score.scorer in wanted]

    def matched(self, candidate: Picks, parent: Picks) -> tuple[list[Score], list[Score]]:
        """Scores of both models on completions cut to the same lengths; none where the suite has no such measurement."""
        both: tuple[list[Score], list[Score]] = [], []
        if self.design.pair is None:
            return both
        wanted = frozenset(one.scorer for one in self.design.measured if one.matched)
        for item, picks in enumerate(zip(candidate, parent, strict=True)):
            key = (item, *picks[0], *picks[1])
            if key not in self._pairs:
                found = self.design.pair(self.samples[item], *(self.play(item, *pick)[0] for pick in picks))
                self._pairs[key] = tuple([score for score in side if score.scorer in wanted] for side in found)  # type: ignore[assignment]
            for side, scores in zip(both, self._pairs[key], strict=True):
                side.extend(scores)
        return both

    def replies(self, picks: Picks) -> Mapping[tuple[str, int], Replies]:
        """All replies of one model, as the suite's aggregate takes them."""
        return {(self.samples[item].id, 0): self.play(item, *pick)[0] for item, pick in enumerate(picks)}
