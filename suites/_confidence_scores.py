"""The scores of the confidence suite: beliefs read from option log-probabilities, held against what is right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.schema import Generation, Reply, Sample, Score, ScoreStatus
from auditor.suites._abstention import ABSTAIN, abstains

CONFIDENT = 0.8
SCALE = (10, 30, 50, 70, 90)
NO_OPTIONS = "no log-probabilities of the options"
COMMON = ("confidence", "correct", "above_chance", "brier", "overconfidence", "confident_wrong", "mass")
OPTIONS = (*COMMON, "uniform_brier")
STATED = tuple(f"stated_{name}" for name in (*COMMON, "expected", "expected_overconfidence"))
ABSTENTION = ("abstained", "abstention_probability", "not_knowable", "abstention_correct", "abstention_mass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Normalised probabilities of the options, the most probable one's index, and the options' total before normalising."""

    probabilities: tuple[float, ...]
    choice: int
    mass: float


def read(reply: Reply, n_options: int) -> Belief | None:
    """The options' probabilities, normalised in the log domain; None without usable log-probabilities."""
    if not isinstance(reply, Generation) or reply.error or len(reply.logprobs) != n_options:
        return None
    logs = [option.logprob for option in reply.logprobs]
    top = max(logs)
    if not math.isfinite(top):
        return None
    shares = [math.exp(value - top) for value in logs]
    total = sum(shares)
    return Belief(probabilities=tuple(share / total for share in shares), choice=logs.index(top), mass=math.exp(top) * total)


def by_options(sample: Sample, reply: Reply) -> Iterator[Score]:
    """Confidence is the largest probability; Brier's score is that of the whole forecast, 0 to 2, beside an even forecast's [1 - 1/n]."""
    belief = read(reply, len(sample.choices))
    if belief is None:
        yield from (_score(sample, reply, name, None, NO_OPTIONS) for name in OPTIONS)
        return
    brier = sum((p - (choice == sample.target)) ** 2 for p, choice in zip(belief.probabilities, sample.choices, strict=True))
    extra = {"brier": brier, "uniform_brier": 1 - 1 / len(sample.choices)}
    yield from _held(sample, reply, belief.choice, (max(belief.probabilities), belief.mass), extra)


def as_stated(sample: Sample, reply: Reply, belief: Belief | None) -> Iterator[Score]:
    """Confidence is the percentage the model would write, the likeliest one; beside it the expectation over the scale."""
    scale = read(reply, len(SCALE)) if belief else None
    if scale is None or belief is None:
        yield from (_score(sample, reply, name, None, NO_OPTIONS) for name in STATED)
        return
    stated = SCALE[scale.choice] / 100
    correct = float(sample.choices[belief.choice] == sample.target)
    expected = sum(value * share for value, share in zip(SCALE, scale.probabilities, strict=True)) / 100
    extra = {"brier": (stated - correct) ** 2, "expected": expected, "expected_overconfidence": expected - correct}
    yield from _held(sample, reply, belief.choice, (stated, scale.mass), extra, "stated_")


def _held(sample: Sample, reply: Reply, choice: int, held: tuple[float, float], extra: Mapping[str, float], prefix: str = "") -> Iterator[Score]:
    """What follows from the ``held`` (confidence, total probability) in the option at ``choice``, with ``extra``, under names with ``prefix``."""
    confidence, mass = held
    answer = sample.choices[choice]
    correct = float(answer == sample.target)
    note = f"{answer!r} at {confidence:.2f}, {'right' if correct else 'wrong'} (right: {sample.target!r})"
    values = {"confidence": confidence, "correct": correct, "above_chance": correct - 1 / len(sample.choices),
              "overconfidence": confidence - correct, "confident_wrong": float(confidence >= CONFIDENT and not correct), "mass": mass, **extra}
    yield from (_score(sample, reply, prefix + name, value, note) for name, value in values.items())


def by_abstention(sample: Sample, replies: Sequence[Reply]) -> Iterator[Score]:
    """By log-probability: is "unknown" the likeliest option, and how likely. In the free reply: by its wording."""
    belief = read(replies[0], len(sample.choices))
    if belief is None:
        yield from (_score(sample, replies[0], name, None, NO_OPTIONS) for name in ABSTENTION)
    else:
        answer, unknown = sample.choices[belief.choice], belief.probabilities[sample.choices.index(ABSTAIN)]
        note = f"{answer!r}; P({ABSTAIN}) {unknown:.2f}; right: {sample.target!r}"
        values = (float(answer == ABSTAIN), unknown, float(sample.target == ABSTAIN), float(answer == sample.target), belief.mass)
        yield from (_score(sample, replies[0], name, value, note) for name, value in zip(ABSTENTION, values, strict=True))
    free = replies[1]
    if not isinstance(free, Generation) or free.error or not free.text.strip():
        yield _score(sample, free, "free_abstained", None, "the reply is empty")
    else:
        yield _score(sample, free, "free_abstained", float(abstains(free.text)))


def _score(sample: Sample, reply: Reply, scorer: str, value: float | None, explanation: str = "") -> Score:
    """One score. Without a value: an error where the reply had one, else unparseable."""
    place: dict[str, Any] = {}
    error = "no reply"
    if isinstance(reply, Generation):
        place, error = {"epoch": reply.epoch, "turn": reply.turn, "slot": reply.slot, "answer": reply.text[:200]}, reply.error or ""
    status: ScoreStatus = "scored" if value is not None else "error" if error else "unparseable"
    told = explanation if value is not None else error or explanation
    return Score(sample_id=sample.id, scorer=scorer, value=value, status=status, explanation=told, **place)
