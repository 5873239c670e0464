"""One request of a suite as one or a few calls to an endpoint, and the Generation that comes of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from auditor.models.chat import split_reasoning
from auditor.models.endpoint_abilities import Abilities
from auditor.models.endpoint_errors import Failure, Unable
from auditor.models.endpoint_pool import Pool
from auditor.models.endpoint_probe import CONTINUE
from auditor.models.endpoint_replies import (
    by_first_token,
    chat_reader,
    checked,
    echoed,
    first_token,
    forced_request,
    forced_token,
    id_request,
    next_tokens,
    reasoning_of,
    text_of,
    usage_of,
)
from auditor.models.endpoint_text import LlamaEncoder, ServerEncoder, plain
from auditor.models.replies import cut_at, place_of
from auditor.schema import Generation, OptionLogprob, Request, Usage

SEED_BITS = 0x7FFFFFFF  # what every server takes for a seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply, and whether its error uses up the error budget: one that the request or the server's abilities account for does not."""

    generation: Generation
    failed: bool = False
    hopeless: bool = False


class Asker:
    """Turns requests into calls. ``name`` is the uri that generations carry."""

    def __init__(self, pool: Pool, name: str, model: str, abilities: Abilities, reasoning_tokens: int) -> None:
        self.pool, self.name, self.model, self.abilities, self.reasoning_tokens = pool, name, model, abilities, reasoning_tokens
        self.encoder = LlamaEncoder(pool, model) if abilities.forced else ServerEncoder(pool, model)

    async def prepare(self) -> None:
        """Learn the tokenizer's ways, where prompts go as ids."""
        if self.abilities.exact:
            from auditor.models.endpoint_probe import QUESTION

            await self.encoder.check(QUESTION)

    async def answer(self, request: Request) -> Answer:
        """The reply to one request. It never raises Failure: what has no reply has a Generation with ``error`` set."""
        started = time.perf_counter()
        try:
            found = await (self._generate(request) if request.kind == "generate" else self._score(request))
        except Unable as lack:
            return Answer(generation=self._error(request, str(lack)))
        except Failure as problem:
            return Answer(generation=self._error(request, problem.text), failed=problem.kind != "too_long", hopeless=problem.kind == "out")
        return Answer(generation=replace(found, latency=time.perf_counter() - started))

    def _error(self, request: Request, text: str) -> Generation:
        return Generation(**place_of(request, self.name), finish_reason="error", error=text)

    # -- texts --------------------------------------------------------------------------------------------------------------

    async def _generate(self, request: Request) -> Generation:
        begun = bool(request.messages) and request.messages[-1].role == "assistant"
        by_ids = self.abilities.exact and (begun or self.abilities.bos_by_ids)
        if begun and not by_ids and not self.abilities.continues:
            raise Unable("the server does not continue a begun reply")
        budget = request.sampling.max_tokens + (self.reasoning_tokens if self.abilities.reasons else 0)
        ask = self._by_ids if by_ids else self._by_chat
        try:
            return await ask(request, budget)
        except Failure as problem:
            room = await self._room(request) if problem.kind == "too_long" else 0
            if not 0 < room < budget:
                raise
            return await ask(request, room)

    async def _room(self, request: Request) -> int:
        """Tokens that the context leaves for the reply, where the server lets us count."""
        if self.abilities.context is None or not self.abilities.exact:
            return 0
        return self.abilities.context - len(await self.encoder.ids(request.messages))

    def _drawn(self, request: Request, limit: str, budget: int) -> dict[str, Any]:
        """The fields that say how a reply is drawn."""
        sampling = request.sampling
        fields: dict[str, Any] = {"model": self.model, limit: budget, "temperature": sampling.temperature, "top_p": sampling.top_p, **self.abilities.sampling}
        if sampling.stop and not self.abilities.reasons:  # a stop inside the reasoning would end it; the answer is cut here
            fields["stop"] = list(sampling.stop)
        if self.abilities.seed != "refused" and sampling.temperature > 0:
            fields["seed"] = request.seed & SEED_BITS
        return fields

    async def _by_chat(self, request: Request, budget: int) -> Generation:
        begun = request.messages[-1].role == "assistant"
        body = {**self._drawn(request, self.abilities.limit_field, budget), "messages": plain(request.messages), **(CONTINUE if begun else {})}
        found = await self.pool.call("/chat/completions", body, chat_reader(self.abilities.reported))
        choice = found["choices"][0]
        text, _ = text_of(choice["message"])
        return await self._finish(request, text, reasoning_of(choice["message"]), (usage_of(found), choice.get("finish_reason")))

    async def _by_ids(self, request: Request, budget: int) -> Generation:
        ids = await self.encoder.ids(request.messages)
        body = {**self._drawn(request, "max_tokens", budget), "prompt": [ids]}

        def read(found: dict[str, Any]) -> None:
            if not isinstance(checked(found, self.abilities.reported, 1)[0].get("text"), str):
                raise Failure("retry", "the reply has no text")

        found = await self.pool.call("/completions", body, read)
        choice = found["choices"][0]
        return await self._finish(request, choice["text"], "", (usage_of(found), choice.get("finish_reason")))

    async def _apart(self, usage: Usage, text: str, reasoning: str) -> Usage:
        """The usage with the reasoning's tokens counted apart, where the server counts them as written: its tokenizer's count, or by length."""
        if not reasoning or usage.reasoning_tokens:
            return usage
        if self.abilities.exact:
            inside = len(await self.encoder.encode(reasoning))
        else:
            inside = round(usage.completion_tokens * len(reasoning) / max(1, len(reasoning) + len(text)))
        inside = min(inside, usage.completion_tokens)
        return replace(usage, completion_tokens=usage.completion_tokens - inside, reasoning_tokens=inside)

    async def _finish(self, request: Request, text: str, thought: str, counted: tuple[Usage, Any]) -> Generation:
        usage, reason = counted
        whole, reasoning = (text, thought) if thought else split_reasoning(text, opened=self.abilities.opened)
        usage = await self._apart(usage, whole, reasoning)
        answer = cut_at(whole, request.sampling.stop)
        return Generation(**place_of(request, self.name), text=answer, reasoning=reasoning, usage=usage,
                          finish_reason="length" if reason == "length" and answer == whole else "stop")

    # -- options ------------------------------------------------------------------------------------------------------------

    async def _score(self, request: Request) -> Generation:
        if self.abilities.exact:
            options, usage = await self._whole_options(request)
        else:
            options, usage = await self._first_tokens(request)
        best = max(options, key=lambda option: option.logprob)
        return Generation(**place_of(request, self.name), text=best.text, finish_reason="options", logprobs=tuple(options), usage=usage)

    async def _whole_options(self, request: Request) -> tuple[list[OptionLogprob], Usage]:
        """Each option behind the prompt, read as a given text: exact, whatever its length."""
        prompt, tails = await self.encoder.continuations(request.messages, request.options)
        longest = len(prompt) + max(map(len, tails))
        if self.abilities.context is not None and longest > self.abilities.context:
            raise Failure("too_long", f"the prompt has {len(prompt)} tokens and the model's context holds {self.abilities.context}")
        if self.abilities.forced:
            return await self._forced_options(request, prompt, tails)
        if self.abilities.by_id and all(len(tail) == 1 for tail in tails):
            return await self._next_tokens(request, prompt, [tail[0] for tail in tails])
        prompts = [[*prompt, *tail] for tail in tails]
        body = {"model": self.model, "prompt": prompts, "echo": True, "logprobs": 1, "max_tokens": self.abilities.echo, "temperature": 0.0}
        found = await self.pool.call("/completions", body, lambda reply: _read_echo(reply, self.abilities.reported, prompts))
        rows = echoed(found, self.abilities.reported, prompts)
        values = [tuple(row[-len(tail):]) for row, tail in zip(rows, tails, strict=True)]
        options = [OptionLogprob(text=text, logprob=sum(tokens), token_logprobs=tokens) for text, tokens in zip(request.options, values, strict=True)]
        return options, usage_of(found)

    async def _next_tokens(self, request: Request, prompt: list[int], tokens: list[int]) -> tuple[list[OptionLogprob], Usage]:
        """Options of one token each: the prompt is read once for all of them, and the numbers are the same."""
        model = self.abilities.reported
        found = await self.pool.call("/completions", id_request(self.model, prompt, tokens), lambda reply: _read_next(reply, model, tokens))
        values = next_tokens(found, model, tokens)
        options = [OptionLogprob(text=text, logprob=value, token_logprobs=(value,)) for text, value in zip(request.options, values, strict=True)]
        return options, usage_of(found)

    async def _forced_options(self, request: Request, prompt: list[int], tails: list[list[int]]) -> tuple[list[OptionLogprob], Usage]:
        """Token by token, each forced behind those before it: exact, at a call a token. One call at a time, as the server keeps what it has read of a
        prompt, in as many places as it answers at once."""
        model, used = self.abilities.reported, []

        async def value(read: list[int], token: int) -> float:
            body = forced_request(self.model, read, token)
            found = await self.pool.call("/completions", body, lambda reply: _read_forced(reply, model, token))
            used.append(usage_of(found))
            return forced_token(found, model, token)

        values = [tuple([await value([*prompt, *tail[:place]], token) for place, token in enumerate(tail)]) for tail in tails]
        options = [OptionLogprob(text=text, logprob=sum(tokens), token_logprobs=tokens) for text, tokens in zip(request.options, values, strict=True)]
        return options, Usage(prompt_tokens=sum(one.prompt_tokens for one in used), completion_tokens=sum(one.completion_tokens for one in used))

    async def _first_tokens(self, request: Request) -> tuple[list[OptionLogprob], Usage]:
        """The likeliest first tokens, where they tell the options apart."""
        abilities = self.abilities
        begun = bool(request.messages) and request.messages[-1].role == "assistant"
        if not abilities.top_logprobs:
            raise Unable("the server gives no log-probabilities")
        if begun and not abilities.continues:
            raise Unable("the server does not continue a begun reply")
        body = {"model": self.model, "messages": plain(request.messages), abilities.limit_field: 1, "temperature": 0.0, "logprobs": True,
                "top_logprobs": abilities.top_logprobs, **(CONTINUE if begun else {})}
        found = await self.pool.call("/chat/completions", body, chat_reader(abilities.reported, tokens=abilities.top_logprobs))
        return by_first_token(request.options, first_token(found["choices"][0])), usage_of(found)


def _read_echo(reply: dict[str, Any], model: str, prompts: Sequence[Sequence[int]]) -> None:
    echoed(reply, model, prompts)


def _read_forced(reply: dict[str, Any], model: str, token: int) -> None:
    forced_token(reply, model, token)


def _read_next(reply: dict[str, Any], model: str, tokens: Sequence[int]) -> None:
    next_tokens(reply, model, tokens)
