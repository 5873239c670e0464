"""What every engine's replies have in common: the place of the request they answer, options with their log-probabilities, a prompt that is too long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from auditor.schema import Generation, OptionLogprob, Request, Usage


def place_of(request: Request, model: str) -> dict[str, Any]:
    """The fields of a Generation that name the request it answers, and who answered."""
    return {"sample_id": request.sample_id, "epoch": request.epoch, "turn": request.turn, "slot": request.slot, "model": model}


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    for stop in stops:
        text = text.partition(stop)[0]
    return text


def too_long(request: Request, model: str, length: int, context: int) -> Generation:
    """The reply to a prompt of ``length`` tokens that does not fit."""
    return Generation(**place_of(request, model), finish_reason="error",
                      error=f"the prompt has {length} tokens and the model's context holds {context}")


def option_reply(request: Request, model: str, length: int, values: Sequence[Sequence[float]]) -> Generation:
    """The reply to a ``logprobs`` request from the log-probabilities (nats) of each option's tokens after a prompt of ``length`` tokens.

    One that is not finite makes it an error.
    """
    usage = Usage(prompt_tokens=length, completion_tokens=sum(map(len, values)))
    if not all(math.isfinite(number) for option in values for number in option):
        return Generation(**place_of(request, model), usage=usage, finish_reason="error", error="the model returned a NaN or infinite log-probability")
    options = tuple(OptionLogprob(text=text, logprob=sum(tokens), token_logprobs=tuple(tokens))
                    for text, tokens in zip(request.options, values, strict=True))
    best = max(options, key=lambda option: option.logprob)
    return Generation(**place_of(request, model), text=best.text, finish_reason="options", logprobs=options, usage=usage)
