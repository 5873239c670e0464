"""One process or many: where tensors live, what is summed over ranks, who writes."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from auditor.errors import AuditorError
from auditor.training.core import sharding

T = TypeVar("T")


class World:
    """The processes of one training run, as ``accelerate launch`` starts them (one, without it).

    Each has all weights (DDP), or, under ``--use_fsdp --fsdp_version 2``, a part of them (:mod:`~auditor.training.core.sharding`). Raises
    InputError for another kind of sharding.
    """

    def __init__(self) -> None:
        from accelerate import Accelerator

        asked = sharding.asked()
        # The recipe says what is computed in which type; told so by its launcher, accelerate would wrap DDP's forward passes in another.
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
        atexit.register(_leave)
        self.rank = int(self.accelerator.process_index)
        self.size = int(self.accelerator.num_processes)
        self.device = self.accelerator.device
        self.mesh = torch.distributed.init_device_mesh(self.device.type, (self.size,)) if asked and self.size > 1 else None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, net: nn.Module) -> nn.Module:
        """Move ``net`` to its device; with several processes, synchronise its gradients, or empty it into a copy that is in parts."""
        if self.mesh is not None:
            return sharding.sharded(net.to(self.device), self.mesh)
        return self.accelerator.prepare_model(net) if self.size > 1 else net.to(self.device)

    def unwrap(self, net: nn.Module) -> Any:
        return self.accelerator.unwrap_model(net) if self.size > 1 and self.mesh is None else net

    def shards(self, net: nn.Module, wrapped: nn.Module | None = None) -> sharding.Shards | None:
        """``net`` emptied, its weights in parts: those of what :meth:`wrap` made of it, or its own where it is frozen. None where nothing is sharded."""
        if self.mesh is None:
            return None
        return sharding.divided(net, self.mesh) if wrapped is None else sharding.Shards(net, dict(wrapped.named_parameters()))

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's part of ``items``; the parts of all ranks make up the whole."""
        return list(items[self.rank::self.size])

    def in_step(self, groups: Sequence[Sequence[T]], spare: Sequence[T]) -> list[tuple[Sequence[T], float]]:
        """This rank's micro-batches with their share 1, and ``spare`` with a share of none as often as it takes part for the others' sake.

        A rank without rows takes part in the exchange of gradients; in parts, weights are gathered in every pass, so all ranks make as many.
        """
        most = len(groups)
        if self.mesh is not None:
            counts = torch.tensor(most, device=self.device)
            torch.distributed.all_reduce(counts, torch.distributed.ReduceOp.MAX)
            most = int(counts)
        return [(group, 1.0) for group in groups] + [(spare, 0.0)] * (max(most, 1) - len(groups))

    def unsynchronised(self, net: nn.Module, wanted: bool) -> AbstractContextManager[Any]:
        """Backward without exchanging gradients, for all micro-batches of a step but the last. In parts they are always exchanged: a whole network's
        gradients never lie in one place."""
        return net.no_sync() if wanted and self.size > 1 and self.mesh is None else nullcontext()  # type: ignore[operator]

    def total(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Sums over all ranks, by name."""
        if self.size == 1:
            return dict(sums)
        names = sorted(sums)
        tensor = torch.tensor([float(sums[name]) for name in names], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return dict(zip(names, tensor.tolist(), strict=True))

    def gather(self, items: Sequence[T]) -> list[T]:
        """The objects of all ranks, so interleaved that ``gather(share(items)) == items``."""
        if self.size == 1:
            return list(items)
        parts: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(parts, list(items))
        total = sum(len(part) for part in parts)
        return [parts[index % self.size][index // self.size] for index in range(total)]

    def agree(self, problem: AuditorError | None) -> None:
        """Raise, in every process, the first error that one of them met: those without one would wait for the others in the next exchange."""
        for found in self.gather([problem]):
            if found is not None:
                raise found

    def wait(self) -> None:
        if self.size > 1:
            self.accelerator.wait_for_everyone()


def _leave() -> None:
    """End gloo's threads before the interpreter ends: one that asks for its lock after that aborts a process whose work is done (SIGABRT, exit code -6)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()
