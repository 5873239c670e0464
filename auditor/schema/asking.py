"""What is asked of a model or a judge, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

RequestKind = Literal["generate", "logprobs", "judge"]
JudgmentStatus = Literal["judged", "tie", "refused", "unparseable", "error", "no_judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat message. A last message of role ``assistant`` is a prefix that the model continues."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a completion is drawn; temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 64
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a suite asks of a model or judge.

    Suites build these with :func:`ask`, :func:`score_options` and :func:`compare`; the engine fills in the
    sample's id, epoch, turn, slot and seed. ``options`` are the candidate completions of a ``logprobs``
    request, or the two answers (a, b) of a ``judge`` request.
    """

    kind: RequestKind
    messages: tuple[Message, ...]
    options: tuple[str, ...] = ()
    sampling: SamplingParams = SamplingParams()
    suite: str = ""
    sample_id: str = ""
    epoch: int = 0
    turn: int = 0
    slot: int = 0
    seed: int = 0

    @property
    def key(self) -> tuple[str, str, int, int, int]:
        """The place of this request in its run: suite, sample, epoch, turn, slot."""
        return (self.suite, self.sample_id, self.epoch, self.turn, self.slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionLogprob:
    """Log-probability (nats) of one candidate completion, summed over its ``n_tokens`` tokens."""

    text: str
    logprob: float
    token_logprobs: tuple[float, ...] = ()

    @property
    def n_tokens(self) -> int:
        return len(self.token_logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens read and written; ``reasoning_tokens`` are those inside ``<think>``, counted apart."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A model's reply to one request. ``error`` set means there is no reply (never an empty one)."""

    sample_id: str
    epoch: int = 0
    turn: int = 0
    slot: int = 0
    model: str = ""
    text: str = ""
    reasoning: str = ""
    finish_reason: Literal["stop", "length", "options", "error"] = "stop"
    logprobs: tuple[OptionLogprob, ...] = ()
    usage: Usage = Usage()
    latency: float | None = None
    error: str | None = None

    def option_probabilities(self) -> list[float]:
        """Unnormalised probability of each option, in the request's order."""
        return [float(np.exp(option.logprob)) for option in self.logprobs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """A judge's verdict on (a, b), asked in both orders.

    ``ab`` and ``ba`` are the probability that *a* is better when a, respectively b, is shown first; their mean
    (:attr:`prefers_a`) is the soft label. None where the judge gave no verdict in that order.
    """

    a: str
    b: str
    ab: float | None = None
    ba: float | None = None
    status: JudgmentStatus = "judged"
    explanation: str = ""

    @property
    def prefers_a(self) -> float | None:
        if self.ab is None or self.ba is None:
            return None
        return (self.ab + self.ba) / 2


Reply = Generation | Judgment
Replies = tuple[tuple[Reply, ...], ...]  # replies[turn][slot]


def user(content: str) -> Message:
    return Message(role="user", content=content)


def assistant(content: str) -> Message:
    return Message(role="assistant", content=content)


def ask(messages: Sequence[Message], *, max_tokens: int = 64, temperature: float = 0.0, top_p: float = 1.0,
        stop: Sequence[str] = ()) -> Request:
    """A request for a completion."""
    sampling = SamplingParams(temperature=temperature, top_p=top_p, max_tokens=max_tokens, stop=tuple(stop))
    return Request(kind="generate", messages=tuple(messages), sampling=sampling)


def score_options(messages: Sequence[Message], options: Sequence[str]) -> Request:
    """A request for the log-probability of each option as the reply to ``messages``."""
    return Request(kind="logprobs", messages=tuple(messages), options=tuple(options))


def compare(messages: Sequence[Message], a: str, b: str) -> Request:
    """A request that the judge compares answers ``a`` and ``b`` to ``messages``."""
    return Request(kind="judge", messages=tuple(messages), options=(a, b))
