"""A model behind the OpenAI API: requests go out concurrently, replies come back in the order of the requests.

An event loop in a thread of its own does the asking; ``run`` hands it requests and waits. So that the servers do not idle at the end of a
batch, the requests that follow in the plan are asked ahead, up to twice as many as may be in flight.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import weakref
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from auditor.errors import EngineError
from auditor.models.endpoint_asking import Answer, Asker
from auditor.models.endpoint_options import NO_KEY, EndpointOptions, api_key, check_url, is_exposed, parse_uri
from auditor.models.endpoint_pool import Pool
from auditor.models.endpoint_probe import probe
from auditor.schema import Generation, ModelSpec, Request, Usage

logger = logging.getLogger(__name__)

BATCH = 64
T = TypeVar("T")


class EndpointModel:
    """Answers ``generate`` and ``logprobs`` requests. Batches are the requests in their order, BATCH at a time.

    ``usage`` counts the tokens of all replies so far, as the server counts them.
    Raises ModelError where the URL, the key or the model is wrong.
    """

    def __init__(self, uri: str, options: EndpointOptions, *, batch_rows: int | None = None, reasoning_tokens: int = 512) -> None:
        address = parse_uri(uri)
        urls = list(dict.fromkeys([address.url, *map(check_url, options.servers)]))
        key = api_key()
        self.options, self.rows = options, batch_rows or BATCH
        self.usage, self.failed, self.asked, self.planned = Usage(), 0, 0, 0
        self.expected: list[Request] = []
        self.places: dict[Request, int] = {}
        self.ahead: dict[Request, concurrent.futures.Future[Answer]] = {}
        self.loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self.loop.run_forever, name="endpoint", daemon=True)
        thread.start()
        for url in urls[1:]:  # of the first one a flag of the run says so
            if key != NO_KEY and is_exposed(url):
                logger.warning("the key and all prompts cross the network unencrypted to %s (http to another machine)", url)
        self.pool = Pool(urls, key, options)
        weakref.finalize(self, _stop, self.loop, thread, self.pool)
        abilities = self._await(probe(self.pool, address.model))
        self.asker = Asker(self.pool, uri, address.model, abilities, reasoning_tokens)
        self._await(self.asker.prepare())
        self.slots = asyncio.Semaphore(options.concurrency)
        self.spec = ModelSpec(uri=uri, revision="" if abilities.reported == address.model else abilities.reported, engine=f"openai/{abilities.server}",
                              flags=abilities.flags(address, key, reasoning_tokens))

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """The requests in their order, in batches; what was asked ahead by an earlier plan and never fetched is given up."""
        self.planned = 0
        self.expect(requests)
        return [list(requests[start:start + self.rows]) for start in range(0, len(requests), self.rows)]

    def expect(self, requests: Sequence[Request]) -> None:
        """Say which requests will come, in this order, so that they can be asked ahead; :meth:`plan` expects all of its own.

        Shares of the error budget are of these: replies that a cache knew are no part of them.
        """
        self._give_up()
        self.asked, self.planned = self.asked + len(requests) - self.planned, len(requests)
        self.expected = list(requests)
        self.places = {request: place for place, request in enumerate(self.expected)}

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Answer one batch. Raises EngineError as soon as more requests have failed than the error budget allows; nothing of the batch
        is yielded late then: whoever records whole batches asks all of it again on resuming."""
        batch = [self.ahead.pop(request) if request in self.ahead else self._ask(request) for request in requests]
        self._look_ahead(requests)
        try:
            for future in batch:
                yield self._counted(future.result())
        finally:  # an error, an interrupt, or a reader that has gone
            for future in batch:
                future.cancel()

    def _ask(self, request: Request) -> concurrent.futures.Future[Answer]:
        return asyncio.run_coroutine_threadsafe(self._answer(request), self.loop)

    async def _answer(self, request: Request) -> Answer:
        async with self.slots:
            return await self.asker.answer(request)

    def _look_ahead(self, requests: Sequence[Request]) -> None:
        """Ask what comes after this batch, until twice as many requests are waited for as may be in flight."""
        place = max((self.places.get(request, len(self.expected)) for request in requests), default=len(self.expected))
        for request in self.expected[place + 1:]:
            if len(self.ahead) >= 2 * self.options.concurrency:
                return
            if request not in self.ahead:
                self.ahead[request] = self._ask(request)

    def _give_up(self) -> None:
        for future in self.ahead.values():
            future.cancel()
        self.ahead.clear()

    def _counted(self, answer: Answer) -> Generation:
        reply = answer.generation
        self.usage = Usage(prompt_tokens=self.usage.prompt_tokens + reply.usage.prompt_tokens,
                           completion_tokens=self.usage.completion_tokens + reply.usage.completion_tokens,
                           reasoning_tokens=self.usage.reasoning_tokens + reply.usage.reasoning_tokens)
        self.failed += answer.failed
        if answer.hopeless or (answer.failed and not self.options.budget.allows(self.failed, max(self.asked, 1))):
            self._give_up()
            raise EngineError(f"{self.failed} of {self.asked} requests to {self.spec.uri} got no reply (allowed: {self.options.budget}, see --fail-on-error); "
                              f"the last: {reply.error}. What was recorded is kept: go on with --resume once the server is well")
        return reply

    @property
    def cost(self) -> float | None:
        """What the replies so far cost, in the currency of the price; None without a price."""
        if self.options.price is None:
            return None
        read, written = self.options.price
        return (self.usage.prompt_tokens * read + (self.usage.completion_tokens + self.usage.reasoning_tokens) * written) / 1_000_000


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pool: Pool) -> None:
    """End the event loop's thread; whatever is in flight is given up."""

    async def wind_up() -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await pool.close()
        loop.stop()

    if loop.is_running():
        asyncio.run_coroutine_threadsafe(wind_up(), loop)
        if thread is not threading.current_thread():  # the collector may run anywhere
            thread.join(timeout=2)
