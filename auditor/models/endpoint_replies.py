"""Reading what an endpoint sends: nothing is taken for a reply that is not one whole reply."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from auditor.models.endpoint_errors import Failure, Unable
from auditor.schema import OptionLogprob, Usage

FORCE = 1000.0  # logits: added to one token, no other can win
ROUNDING = 1e-6  # by which a log-probability may come out above 0
UNSTATED = -1e30  # below it stands no number: llama.cpp writes float32's lowest, -3.4e38, for a probability that has come out as 0


def checked(found: Mapping[str, Any], model: str, count: int) -> list[Mapping[str, Any]]:
    """The reply's ``count`` choices in their order. Raises Failure where there are others, or they are ``model``'s no more."""
    choices = found.get("choices")
    if not isinstance(choices, list) or len(choices) != count or not all(isinstance(choice, dict) for choice in choices):
        raise Failure("retry", f"the reply has {len(choices) if isinstance(choices, list) else 'no'} choices, not {count}")
    named = found.get("model")
    if model and named != model:
        raise Failure("retry", f"the reply is by model {named!r}, not {model!r}")
    places = [place if choice.get("index") is None else choice["index"] for place, choice in enumerate(choices)]
    if count > 1 and sorted(place for place in places if type(place) is int) != list(range(count)):
        raise Failure("retry", f"the reply's {count} choices do not say which prompts they belong to")
    return [choices[places.index(place)] for place in range(count)] if count > 1 else choices


def chat_reader(model: str, *, tokens: int = 0) -> Callable[[dict[str, Any]], None]:
    """A check that a chat reply holds a text (and log-probabilities of its first token, where ``tokens`` of them were asked for)."""

    def read(found: dict[str, Any]) -> None:
        choice = checked(found, model, 1)[0]
        message = choice.get("message")
        if not isinstance(message, dict):
            raise Failure("retry", "the reply's choice has no message")
        if choice.get("finish_reason") == "content_filter":
            raise Failure("refused", "the server's content filter withheld the reply")
        if not isinstance(message.get("content"), str) and not text_of(message)[0] and not reasoning_of(message):
            raise Failure("retry", "the reply's message has no text")
        if tokens:
            first_token(choice)

    return read


def text_of(message: Mapping[str, Any]) -> tuple[str, bool]:
    """The text, and whether the server marked it as a refusal."""
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, str) and content:
        return content, False
    return (refusal, True) if isinstance(refusal, str) and refusal else ("", False)


def reasoning_of(message: Mapping[str, Any]) -> str:
    """What a reasoning parser of the server took out of the text."""
    found = message.get("reasoning_content") or message.get("reasoning")
    return found if isinstance(found, str) else ""


def usage_of(found: Mapping[str, Any]) -> Usage:
    """The server's own count; zeros where it gives none."""
    usage = found.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("completion_tokens_details")
    reasoning = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else 0
    written = _count(usage.get("completion_tokens"))
    return Usage(prompt_tokens=_count(usage.get("prompt_tokens")), completion_tokens=max(0, written - reasoning), reasoning_tokens=min(written, reasoning))


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def first_token(choice: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(text, log-probability) of the likeliest first tokens. Raises Failure where there are none."""
    try:
        found = [(str(row["token"]), float(row["logprob"])) for row in choice["logprobs"]["content"][0]["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        found = []
    if not found or not all(math.isfinite(value) and value <= ROUNDING for _, value in found):
        raise Failure("retry", "the reply has no usable log-probabilities")
    return found


def by_first_token(options: Sequence[str], named: Sequence[tuple[str, float]]) -> list[OptionLogprob]:
    """Each option's log-probability, read from its first token alone.

    An option's first token is the longest of the named ones that begins it and ends where a word of it ends. A token that ends within a word
    is no evidence: of "am" and "amp" either may begin "amperes", and only the tokenizer knows which. Raises Unable where one option has none,
    or two are not told apart by it: then only the log-probabilities of whole options would do.
    """
    needs = "log-probabilities of given completions would be needed, and this server gives none"
    if len(options) < 2:
        raise Unable(f"the log-probability of a whole text is asked for: {needs}")
    tokens = dict(sorted(named, key=lambda row: row[1]))  # of two that look alike, the likelier
    found = []
    for option in options:
        token = max((token for token in tokens if token and _begins(option, token)), key=len, default="")
        if not token:
            raise Unable(f"option {option!r} does not begin with any of the {len(named)} likeliest tokens that the server names, by whole words: {needs}")
        if any(other != option and other.startswith(token) for other in options):
            raise Unable(f"the options are not told apart by their first token {token!r}: {needs}")
        found.append(OptionLogprob(text=option, logprob=min(0.0, tokens[token]), token_logprobs=(min(0.0, tokens[token]),)))
    return found


def _begins(option: str, token: str) -> bool:
    """Whether ``token`` is the beginning of ``option`` up to where no word goes on or begins."""
    return option.startswith(token) and not option[len(token):len(token) + 1].isalnum()


def next_tokens(found: Mapping[str, Any], model: str, tokens: Sequence[int]) -> list[float]:
    """Log-probability of each of ``tokens`` as the next one (they were asked for by id). Raises Failure where one is missing."""
    logprobs = checked(found, model, 1)[0].get("logprobs")
    try:
        named = logprobs["top_logprobs"][0]  # type: ignore[index]
        values = [float(named[f"token_id:{token}"]) for token in tokens]
    except (KeyError, IndexError, TypeError, ValueError):
        raise Failure("retry", "the reply lacks the log-probability of a token that was asked for") from None
    if not all(math.isfinite(value) and value <= ROUNDING for value in values):
        raise Failure("retry", "the reply has a log-probability that is none")
    return [min(0.0, value) for value in values]


def id_request(model: str, prompt: Sequence[int], tokens: Sequence[int]) -> dict[str, Any]:
    """The body of a completions request whose reply :func:`next_tokens` reads."""
    return {"model": model, "prompt": [list(prompt)], "max_tokens": 1, "temperature": 0.0, "logprobs": 1,
            "logprob_token_ids": sorted(set(tokens)), "return_tokens_as_token_ids": True}


def forced_request(model: str, prompt: Sequence[int], token: int) -> dict[str, Any]:
    """The body of a completions request that can only be answered by ``token``; its reply is read by :func:`forced_token`.

    llama.cpp states the log-probabilities of the model's own distribution: what a bias makes of it is drawn from, not reported.
    """
    return {"model": model, "prompt": [list(prompt)], "max_tokens": 1, "temperature": 0.0, "logprobs": 1, "logit_bias": {str(token): FORCE}}


def forced_token(found: Mapping[str, Any], model: str, token: int) -> float:
    """Log-probability of ``token``, which was forced. Raises Failure where it is not the one that came, Unable where llama.cpp states none: that of a
    token that ends within a character, and one whose probability is 0 in its precision."""
    choice = checked(found, model, 1)[0]
    logprobs = choice.get("logprobs")
    if logprobs is None and "\N{REPLACEMENT CHARACTER}" in str(choice.get("text")):
        raise Unable(f"the server gives no log-probability of token {token}, which ends within a character")
    try:
        row = logprobs["content"][0]  # type: ignore[index]
        came, value = row["id"], row["logprob"]
    except (KeyError, IndexError, TypeError):
        raise Failure("retry", "the reply lacks the log-probability of the token that was asked for") from None
    if type(came) is not int or came != token or type(value) not in (int, float) or not value <= ROUNDING or value == -math.inf:
        raise Failure("retry", f"token {token} was asked for, and {str(came)[:40]!r} came with the log-probability {str(value)[:40]}")
    if value < UNSTATED:
        raise Unable(f"token {token} is too unlikely for the server to state its log-probability")
    return min(0.0, float(value))


def echoed(found: Mapping[str, Any], model: str, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Log-probabilities of all tokens of each of the ``prompts`` but its first. Raises Failure where the reply does not hold just those."""
    rows = []
    for choice, prompt in zip(checked(found, model, len(prompts)), prompts, strict=True):
        logprobs = choice.get("logprobs")
        values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
        if not isinstance(values, list) or len(values) not in (len(prompt), len(prompt) + 1):
            held = len(values) if isinstance(values, list) else "no"
            raise Failure("retry", f"the reply has {held} log-probabilities for a prompt of {len(prompt)} tokens")
        row = values[1:len(prompt)]
        if not all(isinstance(value, (int, float)) and math.isfinite(value) and value <= ROUNDING for value in row):
            raise Failure("retry", "the reply has a log-probability that is none")
        rows.append([min(0.0, float(value)) for value in row])
    return rows
