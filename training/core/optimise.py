"""One optimiser step: micro-batches in, a clipped AdamW update out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import nn

from auditor.training.core.config import Optimisation
from auditor.training.core.nets import trainable
from auditor.training.core.sharding import gathered, like
from auditor.training.core.world import World


def rate(step: int, total: int, schedule: Literal["cosine", "linear", "constant"], warmup: float) -> float:
    """Learning rate at ``step`` (0-based) of ``total`` as a share of its maximum: a linear rise, then the schedule down to 0 after the last step."""
    rise = math.ceil(warmup * total)
    if step < rise:
        return (step + 1) / rise
    if schedule == "constant":
        return 1.0
    done = (step - rise) / max(1, total - rise)
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


class Stepper:
    """AdamW with a schedule over one network. Weights and optimiser state are float32, whatever the computation's type is.

    ``net`` computes losses, ``plain`` is the network as it was given: with its weights in parts it has them only inside :meth:`whole`, and after
    :meth:`finish`.
    """

    def __init__(self, net: nn.Module, config: Optimisation, steps: int, world: World) -> None:
        self.config, self.world, self.steps = config, world, max(1, steps)
        self.net, self.plain = world.wrap(net), net
        self.shards = world.shards(net, self.net)
        self.parameters = trainable(world.unwrap(self.net))
        decayed = [p for p in self.parameters.values() if p.ndim > 1]
        others = [p for p in self.parameters.values() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, eps=config.adam_eps, fused=True)
        self.done = 0

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The forward pass in the configured type."""
        with torch.autocast(self.world.device.type, dtype=torch.bfloat16, enabled=self.config.dtype == "bfloat16"):
            yield

    def accumulate(self, losses: Sequence[Any]) -> None:
        """Backward through each loss of ``losses`` (callables that compute one micro-batch's share of the step's loss), in order.

        With several processes each gives its share of the whole batch's loss; the exchange averages, hence the factor.
        """
        for index, compute in enumerate(losses):
            with self.world.unsynchronised(self.net, index < len(losses) - 1):
                with self.computing():
                    loss = compute()
                (loss * self.world.size).backward()

    def step(self) -> float:
        """Clip, update, advance the schedule. Returns the gradient's norm before clipping; where that is not finite nothing is updated.

        Networks of their own (:meth:`separate`) are clipped each by its own norm: the value's error would drown the policy's gradient.
        """
        norms = [float(gathered(torch.nn.utils.clip_grad_norm_(part, self.config.max_grad_norm))) for part in self.separate()]
        norm = max(norms) if all(math.isfinite(value) for value in norms) else math.nan
        if math.isfinite(norm):
            for group in self.optimiser.param_groups:
                group["lr"] = self.lr
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.done += 1
        return norm

    def separate(self) -> list[list[torch.Tensor]]:
        """The parameters, in groups that are clipped apart: one, or one for each network that the module names in ``networks``."""
        names = getattr(self.plain, "networks", ("",))
        return [[p for name, p in self.parameters.items() if name.startswith(prefix)] for prefix in names]

    @property
    def lr(self) -> float:
        return self.config.lr * rate(min(self.done, self.steps - 1), self.steps, self.config.schedule, self.config.warmup)

    def whole(self) -> AbstractContextManager[None]:
        """``plain`` has its weights inside. Every rank enters it."""
        return self.shards.whole() if self.shards else nullcontext()

    def finish(self) -> None:
        """Training is over: ``plain`` has its weights from now on. Every rank calls it."""
        if self.shards:
            self.shards.fill()

    def tensors(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """Everything that training changes: weights and AdamW's two moments and step counts, by name. Every rank calls it; in parts, the first gets
        them whole (in its main memory) and the others get nothing."""
        found: dict[str, torch.Tensor] = {}
        for name, parameter in self.parameters.items():
            state = self.optimiser.state.get(parameter, {})
            for key, value in {"weight": parameter, **{f"optimiser/{key}": value for key, value in state.items()}}.items():
                tensor = gathered(value)
                if self.shards is None or self.world.is_main:
                    found[f"{prefix}{key}/{name}"] = tensor if self.shards is None else tensor.cpu()
        return found

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor], done: int, prefix: str = "") -> None:
        """Put back what :meth:`tensors` gave, after ``done`` steps."""
        for name, parameter in self.parameters.items():
            parameter.copy_(like(tensors[f"{prefix}weight/{name}"], parameter))
            kept = {key: tensors[f"{prefix}optimiser/{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{prefix}optimiser/{key}/{name}" in tensors}
            state = {key: value.to(parameter.device, copy=True) if key == "step" else like(value, parameter) for key, value in kept.items()}
            if state:
                self.optimiser.state[parameter] = state
        self.done = done
