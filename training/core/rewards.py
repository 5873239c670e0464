"""Where a policy's reward comes from: models, checks, plain counts or any callable, summed with weights, each component kept apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex
import torch

from auditor.errors import InputError, TrainingError
from auditor.schema import Message
from auditor.training.core.asking import merged_from
from auditor.training.core.batch import Encoded, Encoder
from auditor.training.core.held_out import above_chance
from auditor.training.core.noncontextual import always_preferred, context_notes
from auditor.training.core.scoring import score_rows
from auditor.training.core.stage import StageRun
from auditor.training.core.validation import shown
from auditor.training.core.weights import load_reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A prompt and what the policy wrote. ``row`` are the tokens, ``text`` the completion without its end token, if it came to one (``finished``)."""

    messages: tuple[Message, ...]
    row: Encoded
    text: str
    finished: bool = True


LONGEST_SEARCH = 2.0  # seconds for a regular expression on one completion
KINDS = ("model", "length", "pattern", "labeller", "judge")
PASSED = 0.5  # a verifier's score from which its check is passed
# A reward scores episodes: one number each, None where it cannot tell (never 0 for "cannot tell").
Reward = Callable[[Sequence[Episode]], Sequence[float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One component of the reward, a table in the recipe.

    ``kind``: ``model`` (a reward model: ``uri``, or the one that an earlier stage made), ``length`` (words of the completion), ``pattern`` (1 where
    the regular expression ``pattern`` is found, else 0, None after two seconds without an answer), ``labeller`` (d-RLAIF: the expected rating that
    the model ``uri``, or what an earlier labeller stage made, gives), ``judge`` (how probably that model prefers the completion to the greedy reply,
    of at most ``against_tokens``, of the model ``against``, or of the policy so far), or the name of a callable passed to the Python API. The last
    two are measured first on the share ``held_out`` of the topics of ``gold``. Each component is standardised on the starting policy's samples before
    it is weighed, unless ``raw``. One with ``cap`` is a verifier: where its own score is below one half, the total is at most ``cap``, so that no
    fluency outweighs a wrong answer. One with ``name`` = gold and ``weight`` = 0 is logged, not optimised: the audit's suite overoptimization reads
    it.
    """

    kind: str = "model"
    name: str = ""
    uri: str = ""
    weight: float = 1.0
    cap: float | None = None
    pattern: str = ""
    raw: bool = False
    gold: str = "shipped:preferences"
    held_out: float = 0.2
    against: str = ""
    against_tokens: int = 48

    @property
    def label(self) -> str:
        return self.name or self.kind


def check_parts(parts: Sequence[Part], place: str, known: Sequence[str] = ()) -> None:
    """Raise InputError for an unknown kind, a pattern that is none, two parts of one label, or no part at all."""
    if not parts:
        raise InputError(f"{place} has no reward; add [[stage.reward]] with a kind")
    labels = [part.label for part in parts]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise InputError(f"{place}: two rewards are called {twice!r}; give each its own name")
    for part in parts:
        if part.kind not in (*KINDS, *known):
            raise InputError(f"{place}: unknown reward kind {part.kind!r}; known: {', '.join(sorted({*KINDS, *known}))}")
        if part.kind == "pattern" and part.kind not in known:
            _pattern(part.pattern, place)


def open_rewards(parts: Sequence[Part], run: StageRun, known: Mapping[str, Reward]) -> dict[str, Reward]:
    """The rewards that the parts name, by label. Raises InputError as :func:`check_parts` does, and for a model that cannot be opened."""
    check_parts(parts, f"stage {run.name!r}", list(known))
    return {part.label: _open(part, run, known) for part in parts}


def _open(part: Part, run: StageRun, known: Mapping[str, Reward]) -> Reward:
    if part.kind in known:
        return known[part.kind]
    if part.kind == "model":
        return ModelReward(run, run.find(part.uri, "reward"))
    if part.kind == "length":
        return lambda episodes: [float(len(episode.text.split())) for episode in episodes]
    if part.kind == "pattern":
        return _pattern(part.pattern, f"stage {run.name!r}")
    from auditor.training.core.labelled import JudgeReward, RatingReward

    return RatingReward(part, run) if part.kind == "labeller" else JudgeReward(part, run)


def _pattern(pattern: str, place: str) -> Reward:
    """1 where the expression is found, 0 where not, None where that could not be said within LONGEST_SEARCH seconds: completions are hostile."""
    if not pattern:
        raise InputError(f"{place}: a reward of kind pattern has no pattern; set one, such as pattern = '\\d'")
    try:
        expression = regex.compile(pattern)
    except (regex.error, RecursionError) as error:
        raise InputError(f"{place}: pattern {pattern!r} is no regular expression: {error}") from None

    def found(text: str) -> float | None:
        try:
            return float(expression.search(text, timeout=LONGEST_SEARCH) is not None)
        except TimeoutError:
            return None

    return lambda episodes: [found(episode.text) for episode in episodes]


def refuse_unvalidated(rewards: Mapping[str, Reward], place: str) -> None:
    """Raise InputError for a reward by a model that was not shown above chance on held-out pairs, or that prefers one fixed reply to most better ones."""
    for name, reward in rewards.items():
        measured = _measured(reward)
        if measured is not None and not above_chance(measured):
            raise InputError(f"{place}: reward {name!r}: accuracy {shown(measured)}, which is not above chance; train it (reward, labeller) on "
                             "more or cleaner pairs, or set allow_unvalidated_reward = true, which the lineage records")
        if told := always_preferred(measured or {}):
            raise InputError(f"{place}: reward {name!r}: {told}, so a policy would learn to say only that; train it with noncontextual = 1 or more (reward, "
                             "labeller), or set allow_unvalidated_reward = true, which the lineage records")


def reward_notes(rewards: Mapping[str, Reward]) -> tuple[str, ...]:
    """What the lineage of a policy must say of the models that rewarded it: one that was not shown above chance, or not to read the prompt."""
    notes: list[str] = []
    for name, reward in rewards.items():
        measured = _measured(reward)
        if measured is not None and not above_chance(measured):
            notes.append(f"NOT VALIDATED: reward {name!r}: accuracy {shown(measured)}, which is not above chance; used because allow_unvalidated_reward = true")
        notes += [f"reward {name!r}: {note}" for note in context_notes(measured or {})]
    return tuple(notes)


def _measured(reward: Any) -> Mapping[str, Any] | None:
    """What was measured of a reward that is a model's word, {} where nothing was; None for any other reward."""
    return (reward.facts.get("measured") or {}) if hasattr(reward, "facts") else None


class ModelReward:
    """A reward model's score at the last token. It reads the text with its own tokenizer."""

    def __init__(self, run: StageRun, uri: str, budget: int = 4096) -> None:
        self.uri, self.budget = uri, budget
        self.engine, self.net, self.facts = load_reward(run, uri)
        self.encoder = Encoder(self.engine, self.engine.context)

    def __call__(self, episodes: Sequence[Episode]) -> list[float | None]:
        # An unfinished completion is read as it stands: the score sits at its last token, whatever that is.
        rows = [Encoded(id=str(index), prompt=self.encoder.prompt(episode.messages), completion=self._completion(episode))
                for index, episode in enumerate(episodes)]
        return list(self.scores(rows))

    def _completion(self, episode: Episode) -> tuple[int, ...]:
        tokens = self.encoder.text(episode.text)
        return (*tokens, self.encoder.eos) if episode.finished or not tokens else tokens

    def scores(self, rows: Sequence[Encoded]) -> list[float]:
        """Aggregated score of each row, in order."""
        return score_rows(self.net, rows, self.facts, self.budget)


def score(rewards: Mapping[str, Reward], episodes: Sequence[Episode]) -> dict[str, list[float | None]]:
    """Every component's scores. Raises TrainingError where one returns the wrong number of scores, or one that is not finite."""
    found: dict[str, list[float | None]] = {}
    for name, reward in rewards.items():
        values = list(reward(episodes))
        if len(values) != len(episodes):
            raise TrainingError(f"reward {name!r} returned {len(values)} scores for {len(episodes)} completions; return one each, None where it cannot tell")
        for episode, value in zip(episodes, values, strict=True):
            if value is not None and not math.isfinite(value):
                raise TrainingError(f"reward {name!r} returned {value} for {episode.text[:80]!r}; return a finite number, or None where it cannot tell")
        found[name] = [None if value is None else float(value) for value in values]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Mean and standard deviation of a component on the starting policy's samples."""

    mean: float = 0.0
    sd: float = 1.0


def scales(parts: Sequence[Part], scored: Mapping[str, Sequence[float | None]]) -> dict[str, Scale]:
    """How each component is standardised: mean 0, sd 1 on these samples. A component that does not vary on them is only centred."""
    found = {}
    for part in parts:
        values = torch.tensor([value for value in scored[part.label] if value is not None], dtype=torch.float64)
        if part.raw or len(values) < 2:
            found[part.label] = Scale()
        else:
            sd = float(values.std())
            found[part.label] = Scale(mean=float(values.mean()), sd=sd if sd > 1e-6 else 1.0)
    return found


def combine(parts: Sequence[Part], scored: Mapping[str, Sequence[float | None]], how: Mapping[str, Scale]) -> list[float | None]:
    """Weighted sum of the standardised components, at most ``cap`` where one that has it fails; None where any of them could not tell.

    One of weight 0 without a cap is only logged: it takes no part.
    """
    parts = [part for part in parts if part.weight or part.cap is not None] or parts
    totals: list[float | None] = []
    for index in range(len(next(iter(scored.values())))):
        values = [scored[part.label][index] for part in parts]
        if any(value is None for value in values):
            totals.append(None)
        else:
            known = [(part, value) for part, value in zip(parts, values, strict=True) if value is not None]
            total = sum(part.weight * (value - how[part.label].mean) / how[part.label].sd for part, value in known)
            totals.append(min([total, *(part.cap for part, value in known if part.cap is not None and value < PASSED)]))
    return totals


def described(parts: Sequence[Part], rewards: Mapping[str, Reward]) -> tuple[dict[str, Any], ...]:
    """What the lineage says of the rewards: their kind, weight, and the weights' hash of a model."""
    found = []
    for part in parts:
        reward: Any = rewards[part.label]
        facts: dict[str, Any] = {"name": part.label, "kind": part.kind, "weight": part.weight, **({} if part.cap is None else {"cap": part.cap})}
        if hasattr(reward, "engine"):  # a model's word: whoever audits the policy must know whose
            measured = _measured(reward) or {}
            facts |= {"uri": reward.uri, "weights_hash": reward.engine.spec.weights_hash, "accuracy": measured.get("accuracy"),
                      **{name: measured[name] for name in ("on_topic", "fixed_reply_wins") if name in measured}, **merged_from(reward.engine.spec)}
        found.append(facts)
    return tuple(found)
