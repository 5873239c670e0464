"""A model asked what it prefers: which of two answers, or how good one is.

The pairwise question is the audit's own (:mod:`auditor.judges.pairwise`), asked in both orders; a preamble, solved examples and a rationale
written first are the options of Lee et al. 2023 (arXiv 2309.00267, section 2). The rating question is that of their d-RLAIF (section 2.3.2).
Two answers can also be compared by rating each: P(a is better) = σ(rating of a − rating of b), the model that a labeller's ratings are trained
with (:func:`auditor.training.labeller.rating_loss`). No order is shown then, so none is preferred.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from auditor.errors import EngineError, InputError
from auditor.judges.pairwise import MIN_MASS, OPTIONS, PREFIX, WHICH, combine, conversation, judgment, pairwise_requests
from auditor.models.resolve import open_model
from auditor.schema import Generation, Judgment, JudgmentStatus, Message, Model, ModelSpec, Preference, Request, ask, assistant, score_options, user
from auditor.training.core.constitution import Principle, sample

RATINGS = tuple("123456789")  # one token each: "10" would share its first token with "1"
HALF_RANGE = 4.0  # of the ratings: (9 − 1)/2
RATING_PREFIX = "Rating from 1 to 9:\n"  # ends so that no tokenizer merges the digit with what stands before it
REASON = "Before you choose, say in one or two sentences what speaks for each answer."


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two answers to one conversation. ``question`` is asked about them; or each is rated, by ``standard`` if there is one."""

    messages: tuple[Message, ...]
    a: str
    b: str
    question: str = WHICH
    standard: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a labeller is asked: after a ``preamble``, after solved ``shots`` (comparisons whose better answer is a), with a rationale of at most
    ``rationale_tokens`` tokens written first where ``chain_of_thought``. ``ask`` = rating rates each answer, and needs none of these."""

    ask: Literal["pairwise", "rating"] = "pairwise"
    preamble: str = ""
    shots: tuple[Comparison, ...] = ()
    chain_of_thought: bool = False
    rationale_tokens: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """A judgment, and the rationale written before it (that of the order a first)."""

    judgment: Judgment
    rationale: str = ""


def rating_request(messages: Sequence[Message], answer: str, standard: str = "") -> Request:
    """The question how good ``answer`` to ``messages`` is, from 1 to 9; or how well it meets ``standard``, if one is given."""
    asked = f"How well does this answer meet the standard: {standard}" if standard else "How good is this answer?"
    text = f"{conversation(messages)}\nAnswer: {answer}\n{asked} Reply with one digit, from 1 (bad) to 9 (excellent)."
    return score_options([user(text), assistant(RATING_PREFIX)], RATINGS)


def expected_ratings(logprobs_B9: torch.Tensor) -> torch.Tensor:
    """Expected rating (B,), from 1 to 9, under the options' probabilities normalised to sum 1."""
    return torch.softmax(logprobs_B9, -1) @ torch.arange(1.0, 10.0, dtype=logprobs_B9.dtype, device=logprobs_B9.device)


def rating(reply: Generation) -> float | None:
    """Expected rating of a reply to :func:`rating_request`, scaled from 1..9 to [−1, 1].

    None where the reply has an error or the digits' total probability is below MIN_MASS: the ratio of what is left means nothing.
    """
    if reply.error or len(reply.logprobs) != len(RATINGS):
        return None
    mass = sum(reply.option_probabilities())
    if not math.isfinite(mass) or mass < MIN_MASS:
        return None
    value = float(expected_ratings(torch.tensor([[option.logprob for option in reply.logprobs]], dtype=torch.float64))[0])
    return (value - 5.0) / HALF_RANGE


def gold_comparison(item: Preference, principles: Sequence[Principle] = (), seed: int = 0) -> Comparison | None:
    """The question about a gold pair, the better answer as a; None where the pair is undecided or no principle speaks to its kind."""
    if item.label == 0.5:
        return None
    principle = sample(principles, seed, item.id, str(item.metadata.get("kind", ""))) if principles else None
    if principles and principle is None:
        return None
    return comparison_of(item.prompt, item.sides, principle)


def comparison_of(messages: tuple[Message, ...], texts: tuple[str, str], principle: Principle | None = None) -> Comparison:
    """The question which of two ``texts`` is better, or better by ``principle``."""
    if principle is None:
        return Comparison(messages=messages, a=texts[0], b=texts[1])
    return Comparison(messages=messages, a=texts[0], b=texts[1], question=principle.comparison, standard=principle.standard)


def merged_from(spec: ModelSpec) -> dict[str, Any]:
    """For a lineage: what a model was merged from, where it was, since that is the same model."""
    return {"merged_from": spec.lineage["merged_from"]} if "merged_from" in spec.lineage else {}


def by_ratings(a: str, b: str, left: float | None, right: float | None) -> Opinion:
    """What ratings in [−1, 1] of two answers say of them; no verdict where one of them could not be read."""
    p = None if left is None or right is None else 1 / (1 + math.exp(-HALF_RANGE * (left - right)))
    told: tuple[float | None, JudgmentStatus] = (p, "unparseable" if p is None else "judged")
    return Opinion(judgment=judgment(a, b, told, told, "by ratings"))


class Labeller:
    """A model that gives preferences, asked in one manner throughout."""

    def __init__(self, model: Model, manner: Manner | None = None) -> None:
        self.model, self.manner, self.spec = model, manner or Manner(), model.spec

    @property
    def described(self) -> dict[str, Any]:
        """What the lineage says of it, so that an audit knows that it is no independent judge."""
        return {"role": "labeller", "uri": self.spec.uri, "weights_hash": self.spec.weights_hash, **merged_from(self.spec)}

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """Each pair judged in both orders, or by both ratings. Raises EngineError where the model leaves a question unanswered."""
        if self.manner.ask == "rating":
            return self._by_rating(comparisons)
        plain = [request for item in comparisons for request in pairwise_requests(item.messages, item.a, item.b, item.question)]
        asked = [self._turns(request) for request in plain]
        rationales = self._rationales(asked) if self.manner.chain_of_thought else [""] * len(asked)
        begun = [assistant(f"{rationale}\n{PREFIX}" if rationale else PREFIX) for rationale in rationales]
        replies = answer(self.model, [score_options([*turns, beginning], OPTIONS) for turns, beginning in zip(asked, begun, strict=True)])
        return [Opinion(judgment=combine(item.a, item.b, replies[2 * index], replies[2 * index + 1]), rationale=rationales[2 * index])
                for index, item in enumerate(comparisons)]

    def rate(self, answers: Sequence[tuple[Sequence[Message], str]], standards: Sequence[str] = ()) -> list[float | None]:
        """Expected rating of each (messages, answer), by its standard if there are any, scaled to [−1, 1]; None where it cannot be read."""
        asked = [rating_request(messages, text, standard) for (messages, text), standard in zip(answers, standards or [""] * len(answers), strict=True)]
        return [rating(reply) for reply in answer(self.model, asked)]

    def _by_rating(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """σ of the ratings' difference, as if it had been said in either order."""
        sides = [(item.messages, text) for item in comparisons for text in (item.a, item.b)]
        values = self.rate(sides, [item.standard for item in comparisons for _ in range(2)])
        return [by_ratings(item.a, item.b, left, right) for item, left, right in zip(comparisons, values[::2], values[1::2], strict=True)]

    def _turns(self, request: Request) -> list[Message]:
        """The question in the labeller's manner, without the beginning of the reply."""
        turns = [message for index, shot in enumerate(self.manner.shots) for message in _solved(shot, index)]
        text = request.messages[0].content + (f"\n{REASON}" if self.manner.chain_of_thought else "")
        turns.append(user(text))
        if self.manner.preamble:
            turns[0] = user(f"{self.manner.preamble}\n\n{turns[0].content}")
        return turns

    def _rationales(self, asked: Sequence[Sequence[Message]]) -> list[str]:
        replies = answer(self.model, [ask(turns, max_tokens=self.manner.rationale_tokens) for turns in asked])
        return [" ".join(reply.text.split()) for reply in replies]


def _solved(shot: Comparison, index: int) -> tuple[Message, Message]:
    """A solved example: the better answer stands first in every other one, so that no place is taught."""
    request = pairwise_requests(shot.messages, shot.a, shot.b, shot.question)[index % 2]
    return request.messages[0], assistant(PREFIX + OPTIONS[index % 2])


def answer(model: Model, requests: Sequence[Request]) -> list[Generation]:
    """The model's replies, in the order of ``requests``. Raises EngineError where one is missing."""
    numbered = [dataclasses.replace(request, sample_id=f"{index:08d}") for index, request in enumerate(requests)]
    found = {reply.sample_id: reply for batch in model.plan(numbered) for reply in model.run(batch)}
    if len(found) != len(numbered):
        raise EngineError(f"{model.spec.uri} answered {len(found)} of {len(numbered)} requests; its run() must answer every one")
    return [found[request.sample_id] for request in numbered]


def open_labeller(uri: str, manner: Manner | None = None) -> Labeller:
    """The model that ``uri`` names, to be asked. Raises InputError for a recording: it can answer only what was asked when it was made."""
    if uri.startswith("recorded:"):
        raise InputError(f"{uri} is a recording and cannot judge new completions; pass a checkpoint folder, a GGUF file, hf:org/name or smollm2")
    return Labeller(open_model(uri), manner)
