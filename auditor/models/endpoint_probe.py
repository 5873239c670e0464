"""Opening an endpoint: is it there, does it serve the model, and what can it give? Found out by asking, not by the server's name."""

from __future__ import annotations

import asyncio
import difflib
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from auditor.errors import ModelError
from auditor.models.endpoint_abilities import Abilities
from auditor.models.endpoint_errors import Failure, Unable
from auditor.models.endpoint_options import KEYS
from auditor.models.endpoint_pool import Pool, Server
from auditor.models.endpoint_replies import (
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
from auditor.schema import Message, assistant, user

logger = logging.getLogger(__name__)

QUESTION = (user("Write a random word."),)
ANSWER_TOKENS = 8
SEEDS, SAME = 4, 3  # draws made twice with one seed, and how many must come out alike: one may flip by rounding
SAME_NUMBER = 0.05  # nats: the same number in bfloat16 too
SECOND = math.log(0.5) + 1e-3  # what the second likeliest has at most; a bias that was reported would make it 0
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
# What the API has no name for, so that the server's or the checkpoint's own defaults do not change the draws.
PLAIN_SAMPLING: Mapping[str, dict[str, Any]] = {
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
    "llamacpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
}
MOST_LISTED = 20


class NobodyThere(ModelError):
    """No server listens at the URL."""


class Probe:
    """Asks one server what it can do; see :func:`probe`."""

    def __init__(self, pool: Pool, server: Server, model: str) -> None:
        self.pool, self.server, self.model = pool, server, model

    async def chat(self, fields: Mapping[str, Any], messages: tuple[Message, ...] = QUESTION) -> dict[str, Any]:
        return await self.ask("/chat/completions", {"model": self.model, "messages": plain(messages), "temperature": 0.0, **fields})

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return await patiently(lambda: self.pool.once(self.server, path, body), self.pool)

    async def abilities(self) -> Abilities:
        """Raises ModelError where the server does not serve the model, or answers no chat request."""
        kind, version, context = await self.listed()
        reply, limit = await self.first_reply()
        found = Abilities(server=f"{kind} {version}".strip(), reported=str(reply.get("model") or self.model), limit_field=limit, context=context,
                          reasons=_reasons(reply))
        extra = PLAIN_SAMPLING.get(kind, {})
        sampling = extra if extra and await self.takes(limit, **extra) else {}
        seed, top, continues, given = await asyncio.gather(self.seed(limit), self.top(limit), self.continues(limit), self.given())
        return replace(found, **{"sampling": sampling, "seed": seed, "top_logprobs": top, "continues": continues, **given})

    async def listing(self) -> dict[str, Mapping[str, Any]]:
        """The models that the server lists, by name. Raises ModelError where there is no such API."""
        try:
            listing = (await self.ask("/models")).get("data")
        except Failure as problem:
            if problem.now_down:
                raise NobodyThere(f"no server answers at {self.server.url}: {problem.text}; is it started, and is the URL right?") from None
            raise ModelError(_opening(self.server.url, problem)) from None
        if not isinstance(listing, list):
            raise ModelError(f"{self.server.url}/models lists no models: no OpenAI-compatible API there; pass the URL up to and with /v1")
        return {str(row["id"]): row for row in listing if isinstance(row, dict) and "id" in row}

    async def listed(self) -> tuple[str, str, int | None]:
        """The server's kind and version as far as it tells, and the model's context. Raises ModelError where the model is not served."""
        rows = await self.listing()
        if self.model not in rows:
            raise ModelError(_not_served(self.server.url, self.model, sorted(rows)))
        row = rows[self.model]
        kind = str(row.get("owned_by") or "").lower() if str(row.get("owned_by")).lower() in PLAIN_SAMPLING else "unknown server"
        meta = row.get("meta")
        context = row.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)  # llama.cpp's, of one slot
        return kind, await self.version() if kind == "vllm" else "", context if type(context) is int and context > 0 else None

    async def version(self) -> str:
        try:
            return str((await self.ask("root:/version")).get("version", ""))
        except Failure:
            return ""

    async def first_reply(self) -> tuple[dict[str, Any], str]:
        """A greedy reply, and the name under which its length is limited. Raises ModelError."""
        problems = []
        for limit in ("max_tokens", "max_completion_tokens"):
            try:
                reply = await self.chat({limit: ANSWER_TOKENS})
                checked(reply, "", 1)
                return reply, limit
            except Failure as problem:
                problems.append(problem)
        raise ModelError(f"{self.server.url} lists {self.model!r} but gives no greedy chat reply: {problems[0].text}")

    async def takes(self, limit: str, **fields: Any) -> bool:
        """Whether a chat request with these fields is answered."""
        try:
            checked(await self.chat({limit: ANSWER_TOKENS, **fields}), "", 1)
            return True
        except Failure:
            return False

    async def seed(self, limit: str) -> str:
        """Whether equal seeds make equal draws."""
        if not await self.takes(limit, seed=0):
            return "refused"

        async def pair(seed: int) -> bool:
            draws = [await self.chat({limit: ANSWER_TOKENS, "seed": seed, "temperature": 1.5}) for _ in range(2)]
            texts = [_whole(draw) for draw in draws]
            return texts[0] == texts[1]

        try:
            return "kept" if sum(await asyncio.gather(*map(pair, range(1, SEEDS + 1)))) >= SAME else "ignored"
        except Failure:
            return "ignored"

    async def top(self, limit: str) -> int:
        """How many of the likeliest first tokens come with their log-probability."""
        for count in (20, 5):
            try:
                reply = await self.chat({limit: 1, "logprobs": True, "top_logprobs": count})
                return min(count, len(first_token(checked(reply, "", 1)[0])))
            except Failure:
                continue
        return 0

    async def continues(self, limit: str) -> bool:
        """Whether a last message of role assistant is continued: one more letter in it makes the prompt one token longer, no turn is closed."""
        asked: tuple[tuple[tuple[Message, ...], Mapping[str, Any]], ...] = ((QUESTION, {}), ((*QUESTION, assistant("A")), CONTINUE))
        try:
            opened, begun = [usage_of(await self.chat({limit: 1, **fields}, messages)).prompt_tokens
                             for messages, fields in asked]
        except Failure:
            return False
        return opened > 0 and begun == opened + 1

    async def given(self) -> dict[str, Any]:
        """What is known of a server that gives the log-probabilities of given ids; nothing for another one."""
        lone = Pool.of(self.server, self.pool)
        encoder = ServerEncoder(lone, self.model)
        try:
            if not await encoder.check(QUESTION):
                return await self.forced(LlamaEncoder(lone, self.model))
            ids = await encoder.ids(QUESTION)
        except Failure:
            return {}
        for length in (0, 1):
            body = {"model": self.model, "prompt": [ids, ids[:-1]], "echo": True, "logprobs": 1, "max_tokens": length, "temperature": 0.0}
            try:
                values = echoed(await self.ask("/completions", body), "", [ids, ids[:-1]])
                opened = {"opened": True, "reasons": True} if encoder.opens_reasoning else {}
                return {"echo": length, "by_id": await self.by_id(ids, values[0][-1]), "bos_by_ids": encoder.template_lacks_bos, **opened}
            except Failure:
                continue
        return {}

    async def by_id(self, ids: list[int], expected: float) -> bool:
        """Whether the last of ``ids``, asked for by its id behind the others, has the log-probability that it has as a given token."""
        try:
            found = next_tokens(await self.ask("/completions", id_request(self.model, ids[:-1], ids[-1:])), "", ids[-1:])
        except Failure:
            return False
        return abs(found[0] - expected) <= SAME_NUMBER

    async def forced(self, encoder: LlamaEncoder) -> dict[str, Any]:
        """Whether a token that a bias forces comes with the log-probability that it has without: that of the second likeliest is known."""
        try:
            if not await encoder.check(QUESTION):
                return {}
            ids = await encoder.ids(QUESTION)
            body = {"model": self.model, "prompt": [ids], "max_tokens": 1, "temperature": 0.0, "logprobs": 2}
            named = checked(await self.ask("/completions", body), "", 1)[0]["logprobs"]["content"][0]["top_logprobs"]
            token, expected = named[1]["id"], float(named[1]["logprob"])
            if named[0]["id"] == token or not expected <= SECOND:
                return {}
            value = forced_token(await self.ask("/completions", forced_request(self.model, ids, token)), "", token)
        except (Failure, Unable, KeyError, IndexError, TypeError, ValueError, OverflowError):
            return {}
        opened = {"opened": True, "reasons": True} if encoder.opens_reasoning else {}
        return {"forced": True, **opened} if abs(value - expected) <= SAME_NUMBER else {}


async def patiently(call: Callable[[], Awaitable[dict[str, Any]]], pool: Pool) -> dict[str, Any]:
    """A call that is tried up to three times where trying again may help and somebody listens."""
    for tried in range(2):
        try:
            return await call()
        except Failure as problem:
            if problem.kind not in ("busy", "retry", "down") or problem.now_down or problem.timed_out or tried >= pool.options.retries:
                raise
            await asyncio.sleep((problem.wait or 0.0) + pool.options.backoff * 2**tried)
    return await call()


def _reasons(reply: Mapping[str, Any]) -> bool:
    message = checked(reply, "", 1)[0].get("message") or {}
    return bool(reasoning_of(message) or usage_of(reply).reasoning_tokens or "<think>" in text_of(message)[0])


def _whole(reply: dict[str, Any]) -> tuple[str, str]:
    chat_reader("")(reply)
    message = reply["choices"][0]["message"]
    return text_of(message)[0], reasoning_of(message)


def _opening(url: str, problem: Failure) -> str:
    if problem.text.startswith(("HTTP 401", "HTTP 403")):
        return f"{url} does not accept the key: {problem.text.partition(';')[0]}; set {KEYS[0]} or {KEYS[1]} to the right one"
    hint = "" if url.endswith("/v1") else ", most often ending in /v1"
    if problem.text.startswith(("HTTP 404", "HTTP 405")) or "HTML" in problem.text:
        return f"{url}/models is no OpenAI-compatible API ({problem.text.partition(';')[0]}); pass the API's URL{hint}, and check proxies between"
    return f"{url}/models: {problem.text}; pass the URL of an OpenAI-compatible API{hint}"


def _not_served(url: str, model: str, served: list[str]) -> str:
    near = difflib.get_close_matches(model, served, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listing = ", ".join(served[:MOST_LISTED]) + (f" and {len(served) - MOST_LISTED} more" if len(served) > MOST_LISTED else "")
    return f"{url} does not serve a model {model!r}: {hint}it serves {listing or 'none'}"


async def probe(pool: Pool, model: str) -> Abilities:
    """What the servers of the pool can do; one that is not there is left for later, as long as another one is.

    Raises ModelError where none is there, one does not serve the model, or two differ: their numbers would not be the same.
    """
    found = await asyncio.gather(*(Probe(pool, server, model).abilities() for server in pool.servers), return_exceptions=True)
    for server, outcome in zip(pool.servers, found, strict=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, NobodyThere):
            raise outcome
        server.checked = not isinstance(outcome, BaseException)
    able = [outcome for outcome in found if isinstance(outcome, Abilities)]
    if not able:
        raise found[0]  # type: ignore[misc]
    for server, outcome in zip(pool.servers, found, strict=True):
        if isinstance(outcome, NobodyThere):
            logger.warning("%s; the others do its work until it answers", outcome)
        elif outcome != able[0]:
            raise ModelError(f"{server.url} and {pool.servers[found.index(able[0])].url} differ in what they can do or serve; "
                             "start them alike, or leave one --endpoint out")
    pool.admit = lambda server: _admit(pool, server, model, able[0])
    return able[0]


async def _admit(pool: Pool, server: Server, model: str, expected: Abilities) -> None:
    """Whether a server that was not there at first is like the others. Raises Failure."""
    try:
        same = await Probe(pool, server, model).abilities() == expected
    except NobodyThere as error:
        raise Failure("down", str(error), now_down=True) from None
    except ModelError as error:
        raise Failure("out", str(error)) from None
    if not same:
        raise Failure("out", "it differs from the other servers in what it can do")
    server.checked = True
