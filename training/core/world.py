"""One process or many: where tensors live, what is summed over ranks, who writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")


class World:
    """The processes of one training run, as ``accelerate launch`` starts them (one, without it)."""

    def __init__(self) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.rank = int(self.accelerator.process_index)
        self.size = int(self.accelerator.num_processes)
        self.device = self.accelerator.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, net: nn.Module) -> nn.Module:
        """Move ``net`` to its device; with several processes, synchronise its gradients."""
        return self.accelerator.prepare_model(net) if self.size > 1 else net.to(self.device)

    def unwrap(self, net: nn.Module) -> Any:
        return self.accelerator.unwrap_model(net) if self.size > 1 else net

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's part of ``items``; the parts of all ranks make up the whole."""
        return list(items[self.rank::self.size])

    def unsynchronised(self, net: nn.Module, wanted: bool) -> AbstractContextManager[Any]:
        """Backward without exchanging gradients, for all micro-batches of a step but the last."""
        return net.no_sync() if wanted and self.size > 1 else nullcontext()  # type: ignore[operator]

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

    def wait(self) -> None:
        if self.size > 1:
            self.accelerator.wait_for_everyone()
