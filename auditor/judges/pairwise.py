"""A language model as a pairwise judge: both orders asked, the verdict read from option log-probabilities.

The soft label for *a* is ½·[P(a | a shown first) + P(a | b shown first)], as in Lee et al. 2023 (arXiv 2309.00267):
a preference for a position cancels in the mean and shows in the difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from auditor.errors import EngineError, InputError
from auditor.judges.labels import read_verdict
from auditor.schema import Generation, Judgment, JudgmentStatus, Message, Model, Request, assistant, score_options, user

OPTIONS = (" A", " B")
WHICH = "Which answer is better?"
PREFIX = "The better answer is Answer"  # the reply is begun for the judge, so that the next token is the letter
MIN_MASS = 0.01  # below this the judge wants to say something else, and the ratio of the two letters means nothing
# Log-probabilities move by up to 1e-4 with the batch a prompt is in; a soft label within this of one half is no preference.
TIE_BAND = 1e-3
BATCH = 32  # judge requests; twice as many prompts

_ROLES = {"user": "User", "assistant": "Assistant", "system": "System"}


def pairwise_requests(messages: Sequence[Message], a: str, b: str, question: str = WHICH) -> tuple[Request, Request]:
    """The two questions to the judge about answers ``a`` and ``b`` to ``messages``: a shown first, then b shown first.

    ``question`` is what is asked about them, where it is not which one is better in general (a principle, say).
    Raises InputError where there is no conversation.
    """
    if not messages:
        raise InputError("a pair of answers needs the conversation they answer; pass at least one message")
    text = conversation(messages)
    return _request(text, (a, b), question), _request(text, (b, a), question)


def conversation(messages: Sequence[Message]) -> str:
    """What a judge reads of the conversation that the answers continue."""
    if len(messages) == 1 and messages[0].role == "user":
        return f"Question: {messages[0].content}"
    return "\n".join(f"{_ROLES.get(message.role, message.role)}: {message.content}" for message in messages)


def _request(text: str, answers: tuple[str, str], question: str) -> Request:
    asked = f"{text}\nAnswer A: {answers[0]}\nAnswer B: {answers[1]}\n{question} Reply with one letter, A or B."
    return score_options([user(asked), assistant(PREFIX)], OPTIONS)


def combine(a: str, b: str, first: Generation, second: Generation) -> Judgment:
    """One judgment from the replies to the two requests of :func:`pairwise_requests`, in their order.

    ``ab`` and ``ba`` are both the probability that *a* is better, normalised over the two options. Status ``error`` when
    a reply has an error; ``unparseable`` when in either order the options' total probability is below MIN_MASS (or, in a
    reply without log-probabilities, the text is no verdict); ``tie`` when the soft label lies within TIE_BAND of one half.
    A verdict given in one order only is kept, but makes no soft label.
    """
    error = first.error or second.error
    if error:
        return Judgment(a=a, b=b, status="error", explanation=error)
    shown_first, status_first = _first_is_better(first)
    shown_second, status_second = _first_is_better(second)
    ab = shown_first
    ba = None if shown_second is None else 1.0 - shown_second
    return judgment(a, b, (ab, status_first), (ba, status_second), _masses(first, second))


def judgment(a: str, b: str, ab: tuple[float | None, JudgmentStatus], ba: tuple[float | None, JudgmentStatus],
             explanation: str = "") -> Judgment:
    """A Judgment from the verdict and status in each order, both in terms of *a*."""
    statuses: list[JudgmentStatus] = [status for value, status in (ab, ba) if value is None]
    status: JudgmentStatus = "judged"
    if statuses:
        status = max(statuses, key=("refused", "unparseable", "error").index)
    elif abs((ab[0] + ba[0]) / 2 - 0.5) <= TIE_BAND:  # type: ignore[operator]
        status = "tie"
    return Judgment(a=a, b=b, ab=ab[0], ba=ba[0], status=status, explanation=explanation)


def option_mass(reply: Generation) -> float | None:
    """Total probability of the two letters, or None where the reply has no log-probabilities."""
    return sum(reply.option_probabilities()) if reply.logprobs and not reply.error else None


def _first_is_better(reply: Generation) -> tuple[float | None, JudgmentStatus]:
    if not reply.logprobs:
        return read_verdict(reply.text)  # "A" and "B" are places here: a is the answer shown first
    if len(reply.logprobs) != len(OPTIONS):
        raise InputError(f"a pairwise reply has {len(reply.logprobs)} options, not {len(OPTIONS)}; pass replies to pairwise_requests")
    first, second = reply.option_probabilities()
    mass = first + second
    if not math.isfinite(mass) or mass < MIN_MASS:
        return None, "unparseable"
    return first / mass, "judged"


def _masses(first: Generation, second: Generation) -> str:
    masses = [option_mass(reply) for reply in (first, second)]
    told = ["none, read from the text" if mass is None else f"{mass:.3f}" for mass in masses]
    return f"total option probability {told[0]} and {told[1]}"


class PairwiseJudge:
    """Implements ``schema.Judge`` over any model that answers ``logprobs`` requests."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.spec = model.spec

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Batches of judge requests of one suite, of similar length: a pure function of the requests."""
        ordered = sorted(requests, key=lambda request: (request.suite, _length(request), request.key))
        batches: list[list[Request]] = []
        for request in ordered:
            if not batches or len(batches[-1]) == BATCH or batches[-1][0].suite != request.suite:
                batches.append([])
            batches[-1].append(request)
        return batches

    def judge(self, requests: Sequence[Request]) -> Iterator[Judgment]:
        """Judgments in the order of ``requests``; each has kind ``judge`` and options (a, b).

        Raises InputError for any other request, EngineError where the model leaves one of the questions unanswered.
        """
        asked = [question for request in requests for question in _questions(request)]
        replies: dict[tuple[str, int, int, int], Generation] = {}
        for batch in self.model.plan(asked):
            for reply in self.model.run(batch):
                replies[(reply.sample_id, reply.epoch, reply.turn, reply.slot)] = reply
        for index, request in enumerate(requests):
            first, second = (_reply(replies, question) for question in asked[2 * index:2 * index + 2])
            a, b = request.options
            yield combine(a, b, first, second)


def _length(request: Request) -> int:
    return sum(len(message.content) for message in request.messages) + sum(len(option) for option in request.options)


def _questions(request: Request) -> list[Request]:
    if request.kind != "judge" or len(request.options) != 2:
        raise InputError(f"a judge was sent a {request.kind!r} request with {len(request.options)} options; pass compare(messages, a, b)")
    pair = pairwise_requests(request.messages, *request.options)
    return [dataclasses.replace(request, kind=question.kind, messages=question.messages, options=question.options, slot=2 * request.slot + order)
            for order, question in enumerate(pair)]


def _reply(replies: dict[tuple[str, int, int, int], Generation], question: Request) -> Generation:
    key = question.key[1:]
    if key not in replies:
        raise EngineError(f"the judge's model gave no reply to sample {key[0]!r}, slot {key[3]}; its run() must answer every request")
    return replies[key]
