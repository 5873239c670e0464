"""One model on many workers: Ray actors on one machine or on a cluster, each holding an engine of its own. Needs the extra ``auditor[ray]``.

The batches are the inner engine's own, and every draw depends on its request alone, so the numbers are those of the engine without Ray. Batches that
follow in the plan are asked ahead; replies are handed on in the order of the plan.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from auditor.models.ray_cluster import cluster
from auditor.models.ray_options import SCHEME, RayOptions, gpus_of_engine, inner_uri, shape
from auditor.models.ray_pool import WAITING, Call, Pool
from auditor.models.resolve import EngineOptions, resolve
from auditor.schema import Generation, ModelSpec, Request

AHEAD = WAITING + 1  # batches a worker that may be asked, or lie answered, before the one that is waited for: bounds memory

Batch = tuple[Request, ...]


class RayModel:
    """Answers ``generate`` and ``logprobs`` requests on ``pool``'s workers. Batches are those of the inner engine.

    Raises the inner engine's errors where it cannot be opened, InputError where the workers do not fit the cluster.
    """

    def __init__(self, uri: str, options: EngineOptions) -> None:
        inner = inner_uri(uri)
        asked, inside = options.ray, replace(options, ray=RayOptions(), cache=False)
        if asked.address is None:
            resolve(inner.removeprefix("vllm:"))  # on this machine: a wrong name is found before anything is started, and a file converted once
        self.cluster = cluster(asked.address)
        local_threads = _threads() if self.cluster.local else None
        self.shape = shape(asked, self.cluster.machines(), parallel=gpus_of_engine(inner, options.engine_args), threads=options.threads,
                           local_threads=local_threads)
        self.pool = Pool(self.cluster, self.shape, inner, inside)
        weakref.finalize(self, self.pool.close)
        assert self.pool.reference is not None
        spec = self.pool.reference.spec
        self.spec = replace(spec, uri=f"{SCHEME}{spec.uri}", engine=f"ray/{spec.engine}")
        self.inside = inside
        self.planned: list[Batch] = []
        self.ahead: dict[Batch, Call] = {}

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """The inner engine's batches."""
        call = Call("plan", (list(requests),))
        self.pool.submit(call)
        batches = [[requests[place] for place in places] for places in self.pool.result(call)]
        self.planned = [tuple(batch) for batch in batches]
        self._drop(list(self.ahead))
        return batches

    def expect(self, requests: Sequence[Request]) -> None:
        """Say which of the planned requests will really be asked (the others are known already)."""
        wanted = set(requests)
        self.planned = [left for batch in self.planned if (left := tuple(request for request in batch if request in wanted))]

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Answer one batch. Raises EngineError where the engine fails, or workers die over it time and again."""
        batch = tuple(requests)
        if batch in self.ahead:
            self._drop(list(takewhile(lambda earlier: earlier != batch, self.ahead)))  # those that were passed over: recorded already
        call = self.ahead.pop(batch, None) or self._ask(batch)
        self._look_ahead(batch)
        for reply in self.pool.result(call):
            yield replace(reply, model=self.spec.uri)

    def beside(self, options: EngineOptions) -> Beside:
        """The same weights with other options, opened in a worker beside its engine: where the cluster's memory is, not where this process runs."""
        return Beside(self, replace(self.inside, dtype=options.dtype))

    def _ask(self, batch: Batch) -> Call:
        call = Call("run", (list(batch),))
        self.pool.submit(call)
        return call

    def _drop(self, batches: Sequence[Batch]) -> None:
        self.pool.give_up([self.ahead.pop(batch) for batch in batches])

    def _look_ahead(self, batch: Batch) -> None:
        """Ask what comes after this batch, up to a few batches a worker."""
        if batch in self.planned:
            del self.planned[:self.planned.index(batch) + 1]
        while self.planned and len(self.ahead) < AHEAD * self.shape.workers:
            following = self.planned.pop(0)
            self.ahead[following] = self._ask(following)

    def facts(self) -> dict[str, Any]:
        """What a run's record says of the workers."""
        nodes = sorted({seat.place.node for seat in self.pool.seats if seat.place})
        return {"workers_used": self.shape.workers, "worker_gpus": self.shape.gpus, "worker_threads": self.shape.threads, "machines": len(nodes),
                "version": self.cluster.ray.__version__}


@dataclass(frozen=True, slots=True)
class Beside:
    """A second engine in a worker, asked with nothing else in between."""

    model: RayModel
    options: EngineOptions

    @property
    def spec(self) -> ModelSpec:
        return replace(self.model.spec, dtype=self.options.dtype)

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        return [list(requests)] if requests else []

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]:
        call = Call("run_beside", (self.options, list(requests)))
        self.model.pool.submit(call)
        yield from self.model.pool.result(call)


def _threads() -> int:
    import torch

    return torch.get_num_threads()
