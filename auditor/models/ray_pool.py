"""The workers of a Ray engine: each has at most one call running and one waiting; one that dies is replaced and its calls are made again elsewhere.

Everything happens in the caller's thread, while it waits for a call's result. Calls are pure functions of their arguments, so one that was made twice
has one result: the first that arrives.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from auditor.errors import AuditorError, EngineError, ModelError
from auditor.models.ray_cluster import Cluster, reason
from auditor.models.ray_options import Shape
from auditor.models.ray_worker import Opened, Place, Refusal, Worker
from auditor.models.resolve import EngineOptions

logger = logging.getLogger(__name__)

WAITING = 2  # calls of a worker at once: while one is running the next one lies ready
LIVES = 3  # workers that may die over one call, or on end in one seat
PATIENCE = 300.0  # seconds until a cluster must have had room for a worker
TELL = 30.0  # seconds after which a wait is told


@dataclass(slots=True, eq=False)
class Call:
    """One call of a worker's method; ``deaths``: workers that died while they ran it."""

    method: str
    arguments: tuple[Any, ...]
    deaths: int = 0
    done: bool = False
    result: Any = None


@dataclass(slots=True, eq=False)
class Seat:
    """A place for a worker. ``deaths``: of its workers on end, without an answer in between; ``calls``: reference → call, in the order they were made."""

    number: int
    actor: Any = None
    place: Place | None = None
    opened: bool = False
    deaths: int = 0
    closed: str = ""
    calls: dict[Any, Call] = field(default_factory=dict)


class Pool:
    """Raises, on opening, the model's own error where a worker cannot open it, and ModelError where two do not hold the same."""

    def __init__(self, cluster: Cluster, shape: Shape, inner: str, options: EngineOptions) -> None:
        self.cluster, self.ray, self.shape = cluster, cluster.ray, shape
        self.arguments = (inner, replace(options, threads=shape.threads), shape.gpus)
        self.queue: deque[Call] = deque()
        self.reference: Opened | None = None  # what the first worker holds
        self.deaths = 0
        self.waited_since: float | None = None  # how long workers have been waited for, with nothing else under way
        self.told = 0.0
        self.seats = [Seat(number) for number in range(shape.workers)]
        cluster.gpus_taken += shape.gpus * shape.workers
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        for seat in self.seats:
            self._fill(seat)
        while not all(seat.opened or seat.closed for seat in self.seats):
            self._collect()
        if not any(seat.opened for seat in self.seats):
            raise self._nobody()

    # -- calls ----------------------------------------------------------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Have a call made when a worker is free."""
        self.queue.append(call)
        self._hand_out()

    def give_up(self, calls: Iterable[Call]) -> None:
        """Do not make these calls, where they are not being made already."""
        for call in calls:
            if call in self.queue:
                self.queue.remove(call)

    def result(self, call: Call) -> Any:
        """Wait for a call that was submitted. Raises EngineError where it cannot be answered."""
        if call in self.queue:  # what is waited for goes first
            self.queue.remove(call)
            self.queue.appendleft(call)
        self._collect(0)  # what came back since, so that no worker goes without
        while not call.done:
            self._hand_out()
            self._collect()
        self._hand_out()
        if isinstance(call.result, Refusal):
            raise self._error(call.result)
        return call.result

    def _hand_out(self) -> None:
        while self.queue:
            free = [seat for seat in self.seats if seat.opened and len(seat.calls) < WAITING]
            if not free:
                return
            self._make(min(free, key=lambda seat: (len(seat.calls), seat.number)), self.queue.popleft())

    def _make(self, seat: Seat, call: Call) -> None:
        seat.calls[getattr(seat.actor, call.method).remote(*call.arguments)] = call

    def _collect(self, patience: float = 1.0) -> None:
        """Take what has come back; with ``patience`` (seconds) wait for one."""
        waited = {reference: seat for seat in self.seats for reference in seat.calls}
        if not waited and not any(seat.opened for seat in self.seats):
            raise self._nobody()
        ready, _ = self.ray.wait(list(waited), num_returns=1 if patience else len(waited), timeout=patience) if waited else ([], [])
        for reference in ready:
            self._take(waited[reference], reference)
        self._mind()

    def _nobody(self) -> EngineError:
        return EngineError(f"no worker is left: {'; '.join(dict.fromkeys(seat.closed for seat in self.seats if seat.closed))}. "
                           "What was recorded is kept: go on with --resume")

    def _take(self, seat: Seat, reference: Any) -> None:
        if reference not in seat.calls:
            return  # its worker died in the meantime
        try:
            found = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:  # a fault of ours or of a library's, with its traceback
            found = Refusal(of_input=False, text=f"a worker failed: {reason(error.cause)}", node="")
        except self.ray.exceptions.RayError as error:
            self._died(seat, error)
            return
        call = seat.calls.pop(reference)
        call.result, call.done = found, True
        if call.method == "place":
            seat.place = found
        elif call.method == "open":
            self._opened(seat, found)
        else:
            seat.deaths = 0

    # -- workers --------------------------------------------------------------------------------------------------------

    def _fill(self, seat: Seat) -> None:
        actor = self.ray.remote(Worker).options(num_cpus=self.shape.cpus, num_gpus=self.shape.gpus, max_restarts=0, max_task_retries=0,
                                                scheduling_strategy="SPREAD")
        seat.actor, seat.place, seat.opened = actor.remote(*self.arguments), None, False
        self._make(seat, Call("place", ()))
        self._make(seat, Call("open", ()))

    def _opened(self, seat: Seat, found: Opened | Refusal) -> None:
        if isinstance(found, Refusal):
            raise self._error(found)
        self.reference = self.reference or found
        problem = _difference(self.reference, found)
        if problem:
            node = seat.place.node if seat.place else "another machine"
            raise ModelError(f"the worker on {node} does not hold the same model as the first one: {problem}; every machine needs the same files and packages")
        seat.opened = True

    def _died(self, seat: Seat, error: Exception) -> None:
        """Replace the worker; what it was running is counted against that call, and all that it had goes back to the front of the queue."""
        if getattr(error, "actor_init_failed", False):  # it would fail anywhere
            last = (str(error).strip().splitlines() or [""])[-1][:300]
            raise ModelError(f"a worker cannot start: {last}; every machine of the cluster needs the same auditor")
        lost = list(seat.calls.values())
        seat.calls.clear()
        self.ray.kill(seat.actor)
        self.deaths, seat.deaths = self.deaths + 1, seat.deaths + 1
        where = f"on {seat.place.node}, process {seat.place.pid}" if seat.place else "not yet placed"
        asked = [call for call in lost if call.method not in ("place", "open")]
        logger.warning("worker %d (%s) died: %s; %s", seat.number + 1, where, reason(error),
                       f"{len(asked)} of its batches are asked again" if asked else "it had nothing to answer")
        self.queue.extendleft(reversed(asked))
        if asked and seat.opened:
            asked[0].deaths += 1
            if asked[0].deaths >= LIVES:
                raise EngineError(f"{LIVES} workers died over the same batch (of memory, mostly: pass a smaller --batch-size); the last: {reason(error)}. "
                                  "What was recorded is kept: go on with --resume")
        if seat.deaths >= LIVES:
            seat.closed, seat.opened = f"worker {seat.number + 1} died {LIVES} times on end: {reason(error)}", False
            logger.warning("%s; it is not replaced any more", seat.closed)
            return
        self._fill(seat)

    def _mind(self) -> None:
        """Tell of a cluster that has no room for the workers; give up where none is there for too long."""
        now = time.monotonic()
        homeless = [seat for seat in self.seats if not seat.place and not seat.closed]
        if not homeless or self._is_asking():
            self.waited_since = None
            return
        self.waited_since = self.waited_since or now
        if now - max(self.told, self.waited_since) > TELL:
            self.told = now
            logger.warning("%d of %d workers are not started yet; where the cluster is busy they wait for room (%d processors and %g GPUs each)",
                           len(homeless), len(self.seats), self.shape.cpus, self.shape.gpus)
        if now - self.waited_since > PATIENCE:
            raise EngineError(f"the cluster had no room for {len(homeless)} of {len(self.seats)} workers in {PATIENCE:.0f} s; pass fewer --workers, or "
                              "wait until others have finished")

    def _is_asking(self) -> bool:
        return any(call.method not in ("place", "open") for seat in self.seats for call in seat.calls.values())

    def _error(self, refusal: Refusal) -> AuditorError:
        """The product's own error as it was in the worker; on a cluster with the machine it comes from."""
        where = f"on {refusal.node}: " if refusal.node and not self.cluster.local else ""
        return (ModelError if refusal.of_input else EngineError)(where + refusal.text)

    def close(self) -> None:
        """End the workers."""
        if self.cluster.closing or not self.ray.is_initialized():
            return
        self.cluster.gpus_taken -= self.shape.gpus * self.shape.workers
        for seat in self.seats:
            if seat.actor is not None:
                self.ray.kill(seat.actor)


def _difference(one: Opened, other: Opened) -> str:
    """What of two workers' engines is not the same, or ""."""
    for name in ("weights_hash", "template_hash", "dtype", "engine", "flags"):
        first, second = getattr(one.spec, name), getattr(other.spec, name)
        if first != second:
            return f"{name} {str(second)[:60]} instead of {str(first)[:60]}"
    for name in sorted({*one.versions, *other.versions}):
        if one.versions.get(name) != other.versions.get(name):
            return f"{name} {other.versions.get(name, 'is absent')} instead of {one.versions.get(name, 'none')}"
    return ""
