"""Prompts and options as token ids, by the server's own chat template and tokenizer: vLLM's ``/tokenize`` and ``/detokenize``, llama.cpp's
``/tokenize`` and ``/apply-template``.

The same rules as :class:`auditor.models.encoding.Encoder`, so that the numbers are the same: the template makes the prompt with the reply
still to come, a begun reply is text behind it, and an option's ids are what it adds to the ids of the text before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from auditor.models.encoding import BORDER
from auditor.models.endpoint_errors import Failure, Unable
from auditor.models.endpoint_pool import Pool
from auditor.schema import Message

REMEMBERED = 512  # conversations whose text is kept: the options and turns of one sample follow each other


class ServerEncoder:
    """Token ids of conversations. Each method raises Failure where the server does not answer."""

    def __init__(self, pool: Pool, model: str) -> None:
        self.pool, self.model = pool, model
        self.bos: int | None = None
        self.known: dict[tuple[Message, ...], tuple[list[int], str]] = {}

    async def ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the prompt; a last message of role assistant is left open."""
        turns, begun = _split(messages)
        ids, text = await self._opened(turns)
        return self._begin(await self.encode(text + begun) if begun else ids)

    async def continuations(self, messages: Sequence[Message], options: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Ids of the prompt, and those that each option adds to it. Raises Unable for an option without tokens."""
        turns, begun = _split(messages)
        _, text = await self._opened(turns)
        prompt, *joint = await asyncio.gather(*(self.encode(text + begun + option) for option in ("", *options)))
        found = [ids[len(prompt):] if ids[:len(prompt)] == prompt else [] for ids in joint]
        return self._begin(prompt), [ids or await self._apart(option) for option, ids in zip(options, found, strict=True)]

    async def _apart(self, option: str) -> list[int]:
        """Ids of an option that merges with the text before it, as they are behind a line break."""
        border, joint = await asyncio.gather(self.encode(BORDER), self.encode(BORDER + option))
        ids = (joint[len(border):] if joint[:len(border)] == border else []) or await self.encode(option)
        if not ids:
            raise Unable(f"option {option!r} has no tokens")
        return ids

    async def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text, with the tokenizer's own beginning only where ``special``."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": special}
        found: list[int] = (await self.pool.call("root:/tokenize", body, _check_tokens))["tokens"]
        return found

    async def _opened(self, turns: tuple[Message, ...]) -> tuple[list[int], str]:
        """Ids and text of the template's prompt for a reply to ``turns``."""
        if turns not in self.known:
            ids, text = await self._render(turns)
            while len(self.known) >= REMEMBERED:
                self.known.pop(next(iter(self.known)))
            self.known[turns] = ids, text
        return self.known[turns]

    async def _render(self, turns: tuple[Message, ...]) -> tuple[list[int], str]:
        body = {"model": self.model, "messages": plain(turns), "add_generation_prompt": True, "add_special_tokens": False}
        ids = (await self.pool.call("root:/tokenize", body, _check_tokens))["tokens"]
        return ids, (await self.pool.call("root:/detokenize", {"model": self.model, "tokens": ids}, _check_text))["prompt"]

    def _begin(self, ids: list[int]) -> list[int]:
        return ids if self.bos is None or ids[:1] == [self.bos] else [self.bos, *ids]

    async def check(self, messages: Sequence[Message]) -> bool:
        """Whether text and ids of a prompt make each other, as everything here supposes; also finds the begin-of-sequence token."""
        with_special, without = await asyncio.gather(self.encode("a", special=True), self.encode("a"))
        if not without:  # a server that knows another /tokenize: llama.cpp's names the text differently, and makes nothing of ours
            return False
        self.bos = with_special[0] if with_special[1:] == without else None
        ids, text = await self._opened(tuple(messages))
        return await self.encode(text) == ids

    @property
    def opens_reasoning(self) -> bool:
        """Whether the chat template itself begins the reasoning (after :meth:`check`)."""
        return any(text.rstrip().endswith("<think>") for _, text in self.known.values())

    @property
    def template_lacks_bos(self) -> bool:
        """Whether the chat template leaves out the begin-of-sequence token that the tokenizer puts before a text (after :meth:`check`)."""
        return self.bos is not None and all(ids[:1] != [self.bos] for ids, _ in self.known.values())


class LlamaEncoder(ServerEncoder):
    """The same by llama.cpp's API, which makes a text of a conversation and ids of a text."""

    async def encode(self, text: str, *, special: bool = False) -> list[int]:
        body = {"content": text, "add_special": special, "parse_special": True}
        found: list[int] = (await self.pool.call("root:/tokenize", body, _check_tokens))["tokens"]
        return found

    async def _render(self, turns: tuple[Message, ...]) -> tuple[list[int], str]:
        text = (await self.pool.call("root:/apply-template", {"messages": plain(turns)}, _check_text))["prompt"]
        return await self.encode(text), text

    @property
    def template_lacks_bos(self) -> bool:
        """False: llama.cpp puts that token before the chat template's text itself."""
        return False


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _split(messages: Sequence[Message]) -> tuple[tuple[Message, ...], str]:
    """The turns, and the text of a begun reply."""
    if messages and messages[-1].role == "assistant":
        return tuple(messages[:-1]), messages[-1].content
    return tuple(messages), ""


def _check_tokens(found: dict[str, Any]) -> None:
    tokens = found.get("tokens")
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise Failure("retry", "/tokenize gave no list of token ids")


def _check_text(found: dict[str, Any]) -> None:
    if not isinstance(found.get("prompt"), str):
        raise Failure("retry", "the server gave no text of a prompt")
