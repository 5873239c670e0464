"""One or several servers of the same model: each call goes to the one with the least in flight, a dead one is drained and tried again.

The client's own retrying stays off (``max_retries=0``): it would go on knocking at a dead server while another one is idle, and its jitter
of a quarter lets a storm of refused calls come back as one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import openai

from auditor.models.endpoint_errors import Failure, clean, failure, is_html
from auditor.models.endpoint_options import EndpointOptions

logger = logging.getLogger(__name__)

MAX_BACKOFF = 30.0
TIMEOUT_RETRIES = 2  # a server that hangs costs a whole time-out each time
DRAIN_AFTER = 3  # calls on end without a usable reply; a refused connection drains at once


@dataclass(slots=True, eq=False)
class Server:
    """One server. ``until``: it is left alone up to then (monotonic). ``drained``: times left alone since it last answered;
    such a server is tried by one call at a time. ``out``: why it is not asked any more.
    ``checked``: known to be like the others."""

    url: str
    client: openai.AsyncOpenAI
    active: int = 0
    until: float = 0.0
    failures: int = 0
    drained: int = 0
    out: str = ""
    trouble: str = ""
    checked: bool = True

    @property
    def root(self) -> str:
        """The URL without ``/v1``: where a server keeps what is not OpenAI's (tokenize, version)."""
        return self.url.removesuffix("/v1")

    def is_free(self, now: float) -> bool:
        return not self.out and self.until <= now and not (self.drained and self.active)

    def answered(self) -> None:
        if self.drained:
            logger.info("%s answers again", self.url)
        self.failures = self.drained = 0

    def failed(self, problem: Failure, backoff: float, now: float) -> None:
        """Note a failure; a server that seems dead is left alone for a while, each time longer."""
        if problem.kind == "out":
            self.out = problem.text
        if problem.wait:
            self.until = max(self.until, now + problem.wait)
        if problem.kind not in ("retry", "down") or self.until > now:
            return
        self.failures, self.trouble = self.failures + 1, problem.text
        if problem.now_down or self.failures >= DRAIN_AFTER:
            if not self.drained:
                logger.warning("%s is left alone for a while: %s", self.url, problem.text)
            self.until = now + min(MAX_BACKOFF, backoff * 2**self.drained)
            self.drained += 1


class Pool:
    """Calls to the servers, with retries. All of it runs in one event loop."""

    def __init__(self, urls: Sequence[str], key: str, options: EndpointOptions) -> None:
        self.key, self.options = key, options
        self.jitter = random.Random()  # decides only when, never what, is asked
        self.servers = [Server(url, openai.AsyncOpenAI(api_key=key, base_url=url, timeout=options.timeout, max_retries=0)) for url in urls]
        self.admit: Callable[[Server], Awaitable[None]] | None = None  # looks at a server that was not there when the others were looked at

    @classmethod
    def of(cls, server: Server, pool: Pool) -> Pool:
        """That one server of ``pool``, by itself; what fails there is not held against it."""
        lone = cls((), pool.key, replace(pool.options, retries=min(1, pool.options.retries)))
        lone.servers = [Server(server.url, server.client)]
        return lone

    async def call(self, path: str, body: Mapping[str, Any], read: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """POST ``body`` and return the reply's JSON once ``read`` accepts it (it raises Failure where the reply is not usable).

        ``path`` beginning with ``/`` is below the URL, one with ``root:`` below the URL without /v1. Raises Failure: the last one, where
        the retries are used up; at once where trying again cannot help.
        """
        tried = hung = 0
        avoided: set[Server] = set()  # those that failed since the last pause: a server that fails fast has the least in flight
        while True:
            server = await self._free(avoided)
            server.active += 1
            try:
                if not server.checked and self.admit is not None:
                    await self.admit(server)
                found = await self.once(server, path, body)
                read(found)
                server.answered()
                return found
            except Failure as problem:
                tried += 1
                hung += problem.timed_out
                server.failed(problem, self.options.backoff, time.monotonic())
                if not self._again(problem, tried, hung):
                    raise Failure(problem.kind, problem.text + (f" (asked {tried} times)" if tried > 1 else "")) from None
                avoided.add(server)
                pause = self._pause(problem, tried, avoided)
            finally:
                server.active -= 1
            await asyncio.sleep(pause)

    async def once(self, server: Server, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One attempt at one server: POST ``body``, or GET where there is none. Raises Failure."""
        url = server.root + path.removeprefix("root:") if path.startswith("root:") else path
        try:
            async with asyncio.timeout(self.options.timeout):
                if body is None:
                    found: Any = await server.client.get(url, cast_to=object)
                else:
                    found = await server.client.post(url, cast_to=object, body=dict(body))
            return self._object(found)
        except Exception as error:  # the client, its HTTP library and the JSON reader raise many kinds
            raise failure(error, self.key, self.options.timeout) from None

    def _object(self, found: Any) -> dict[str, Any]:
        if isinstance(found, str):
            if is_html(found):
                raise Failure("retry", "the answer is an HTML page, not an API's reply: a proxy or a wrong URL")
            found = json.loads(found)
        if not isinstance(found, dict):
            raise Failure("retry", f"the answer is no JSON object: {clean(json.dumps(found), self.key)}")
        if found.get("error") and "choices" not in found:
            raise Failure("retry", f"HTTP 200 with an error: {clean(json.dumps(found['error']), self.key)}")
        return found

    async def _free(self, avoided: set[Server]) -> Server:
        """The free server with the least in flight, one not ``avoided`` if there is any; waits until one is free.

        Raises Failure where none will ever be, or all have been dead for as long as a request is retried.
        """
        while True:
            now = time.monotonic()
            usable = [server for server in self.servers if not server.out]
            if not usable:
                raise Failure("out", "; ".join(f"{server.url}: {server.out}" for server in self.servers))
            free = [server for server in usable if server.is_free(now)]
            if free:
                return min(free, key=lambda server: (server in avoided, server.active))
            if all(server.drained > self.options.retries for server in usable):
                raise Failure("down", "; ".join(f"{server.url}: {server.trouble}" for server in usable))
            await asyncio.sleep(max(0.02, min(server.until for server in usable) - now))

    def _again(self, problem: Failure, tried: int, hung: int) -> bool:
        if problem.kind == "out":
            return any(not server.out for server in self.servers)
        limit = min(self.options.retries, TIMEOUT_RETRIES) if hung > TIMEOUT_RETRIES else self.options.retries
        return problem.kind in ("busy", "retry", "down") and tried <= limit

    def _pause(self, problem: Failure, tried: int, avoided: set[Server]) -> float:
        """Seconds before the next attempt: none where another server is free, the server's own wish, else doubling with jitter."""
        if any(server.is_free(time.monotonic()) for server in self.servers if server not in avoided):
            return 0.0
        avoided.clear()
        doubled = min(MAX_BACKOFF, self.options.backoff * 2 ** (tried - 1))
        return (problem.wait or 0.0) + doubled * self.jitter.uniform(0.5, 1.0) * (0.5 if problem.wait else 1.0)

    async def close(self) -> None:
        for server in self.servers:
            await server.client.close()
