"""What a user says about a Ray engine (``ray:MODEL``), and what follows from it on a given cluster: how many workers, with what each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.errors import InputError, ModelError

SCHEME = "ray:"
ELSEWHERE = {"openai:": "an endpoint answers many requests at once without Ray", "recorded:": "replies from a file need no workers", SCHEME: "once is enough"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Where and on how many workers a model runs. None of it decides a number, so none of it is part of a run's specification.

    ``workers`` None: one for each GPU, on a cluster without GPUs one for each machine. ``gpus``: of each worker, None for as many as the engine
    uses. ``address``: ``HOST:PORT`` of a cluster, ``auto`` for the one that runs on this machine, None to start a local one for this run.
    """

    workers: int | None = None
    gpus: float | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers {self.workers}: pass 1 or more")
        if self.gpus is not None and not (0 <= self.gpus < math.inf and (self.gpus <= 1 or self.gpus == int(self.gpus))):
            raise InputError(f"--worker-gpus {self.gpus:g}: pass a whole number, or a share below 1 for workers that share a GPU")
        if self.address is not None and self.address != "auto" and not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@]+):\d{1,5}", self.address):
            raise InputError(f"--ray-address {self.address!r}: pass HOST:PORT of the cluster's head (ray start --head prints it), or auto for the cluster "
                             "that this machine is part of; ray:// is for clients outside a cluster: start the audit on one of its machines")

    @classmethod
    def from_record(cls, stored: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> RayOptions:
        """The options as a run's record holds them (None where it holds none), with ``changes`` in place of its own."""
        kept = {name: (stored or {}).get(name) for name in ("workers", "gpus", "address")}
        return cls(**{**kept, **changes})


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine of a cluster and what it has. ``gpus`` are those left, ``taken`` those of workers that this process started before."""

    name: str
    cpus: float
    gpus: float
    taken: float = 0.0

    def holds(self, cpus: float, gpus: float) -> int:
        """How many workers of that size."""
        return int(min(self.cpus // cpus if cpus else math.inf, (self.gpus + 1e-9) // gpus if gpus else math.inf, 1 << 20))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """``workers`` of ``cpus`` reserved and ``threads`` used each, with ``gpus``. On a local instance nothing is reserved."""

    workers: int
    cpus: int
    gpus: float
    threads: int


def inner_uri(uri: str) -> str:
    """The model behind ``ray:``. Raises ModelError for one that has no use for workers."""
    inner = uri.removeprefix(SCHEME)
    for scheme, reason in ELSEWHERE.items():
        if inner.startswith(scheme):
            raise ModelError(f"{uri[:80]}: {reason}; pass {inner}")
    return inner


def shape(options: RayOptions, machines: Sequence[Machine], *, parallel: int, threads: int | None, local_threads: int | None) -> Shape:
    """How many workers, and of what size.

    ``parallel``: GPUs that one engine uses; 0 where it is the built-in one, which uses one. ``threads``: as typed. ``local_threads``: what the
    workers of this machine share where Ray was started here, None on a cluster. Raises InputError where they do not fit.
    """
    total = sum(machine.gpus + machine.taken for machine in machines)  # where the model has taken all, its judge must not fall back to processors
    gpus = options.gpus if options.gpus is not None else float(max(parallel, 1) if total else 0)
    if gpus > 1 and not parallel:
        raise InputError(f"--worker-gpus {gpus:g}: the built-in engine uses one GPU; more are for ray:vllm: with --engine-arg tensor_parallel_size={gpus:g}")
    fit = sum(machine.holds(0, gpus) for machine in machines)
    workers = options.workers or (max(fit, 1) if gpus else len(machines))
    if workers > fit:
        raise InputError(f"{workers} workers of {gpus:g} GPUs each do not fit: free are {_listing(machines)}; pass fewer --workers, or --worker-gpus below 1 "
                         "so that workers (or the model and its judge) share a GPU")
    if local_threads is not None:
        return Shape(workers=workers, cpus=0, gpus=gpus, threads=threads or max(1, local_threads // workers))
    largest = int(max((machine.cpus for machine in machines), default=0))
    sizes = [threads] if threads else ([1] if gpus else list(range(max(largest, 1), 0, -1)))
    cpus = next((size for size in sizes if sum(machine.holds(size, gpus) for machine in machines) >= workers), None)
    if cpus is None:
        raise InputError(f"{workers} workers of {sizes[-1]} threads each do not fit: there are {_listing(machines)}; pass fewer --workers or --threads")
    return Shape(workers=workers, cpus=cpus, gpus=gpus, threads=cpus)


def _listing(machines: Sequence[Machine]) -> str:
    return "; ".join(f"{machine.cpus:g} processors and {machine.gpus:g} GPUs on {machine.name}" for machine in machines) or "no machines"


def gpus_of_engine(inner: str, engine_args: Sequence[tuple[str, str]]) -> int:
    """GPUs that one engine uses: vLLM's tensor times pipeline parallel size, 0 for the built-in engine."""
    if not inner.startswith("vllm:"):
        return 0
    sizes = [value for name, value in engine_args if name in ("tensor_parallel_size", "pipeline_parallel_size") and value.isdigit()]
    return math.prod(int(size) for size in sizes)
