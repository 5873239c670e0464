"""FSDP2: weights, gradients and optimiser state of a network in parts on all ranks (Rajbhandari et al. 2020, arXiv 1910.02054, stage 3), by
torch's ``fully_shard``.

The network that computes losses is a copy whose weights lie in parts: every pass gathers a decoder layer, computes it and lets go of it again.
The network that everything else holds (the decoder that samples, the reference's look, what is written) is the plain one, without any hook. It
is empty, and filled from the parts only while it is read (:meth:`Shards.whole`): a rank then may run it as often as it likes, by itself.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from auditor.errors import InputError

UNKNOWN = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}
# Settings of accelerate's that would change what is computed where, and what to do instead.
OTHERS = {"FSDP_OFFLOAD_PARAMS": "leave parameters on their device", "FSDP_ACTIVATION_CHECKPOINTING": "set gradient_checkpointing = true in the recipe"}


def asked() -> bool:
    """Whether ``accelerate launch`` was told to shard. Raises InputError for FSDP1, DeepSpeed, Megatron-LM and for settings that there are not."""
    for name, kind in UNKNOWN.items():
        if os.environ.get(name, "false").lower() == "true":
            raise InputError(f"accelerate was told to use {kind}, which training does not know; pass --use_fsdp --fsdp_version 2 instead, or --multi_gpu")
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise InputError(f"accelerate was told to use FSDP version {version}; training shards by version 2 alone: pass --fsdp_version 2")
    for name, instead in OTHERS.items():
        if os.environ.get(name, "false").lower() == "true":
            raise InputError(f"accelerate's --{name.lower()} true is not supported in training; pass false and {instead}")
    # Otherwise transformers would read a checkpoint in the first process and leave the others' weights unset.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    return True


class Shards:
    """The parts of a plain network's weights, and the network that they fill: empty, but inside :meth:`whole`. Every rank calls its methods."""

    def __init__(self, plain: nn.Module, parts: Mapping[str, torch.Tensor]) -> None:
        self.plain, self.parts = plain, parts
        empty(plain)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """The plain network has its weights inside; changes made to them are lost."""
        self.fill()
        try:
            yield
        finally:
            empty(self.plain)

    def fill(self) -> None:
        """Gather the plain network's weights."""
        for name, parameter in self.plain.named_parameters():
            parameter.data = gathered(self.parts[name])


def empty(net: nn.Module) -> None:
    """Free the weights of ``net``: what computes with them now raises an error of shapes."""
    for parameter in net.parameters():
        parameter.data = parameter.data.new_empty(0)


def sharded(net: nn.Module, mesh: Any) -> nn.Module:
    """``net`` emptied into a copy whose parameters are in parts on the ranks of ``mesh``: a group for every decoder layer, one for all else."""
    from torch.distributed.fsdp import fully_shard

    weights = {name: parameter.data for name, parameter in net.named_parameters()}
    empty(net)
    made = copy.deepcopy(net)  # handed over, not copied: no rank ever holds the whole weights twice
    for name, parameter in made.named_parameters():
        parameter.data = weights.pop(name)
    layers = {name for module in made.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    for module in list(made.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(made, mesh=mesh, reshard_after_forward=True)
    return made


def divided(net: nn.Module, mesh: Any) -> Shards:
    """A frozen network in parts: nothing computes with it but inside ``whole``."""
    return Shards(net, {name: distribute_tensor(parameter.detach(), mesh, [Shard(0)], src_data_rank=None) for name, parameter in net.named_parameters()})


def gathered(value: torch.Tensor) -> torch.Tensor:
    """A tensor of its own: of all ranks' parts where it is in parts (every rank then calls this), else the same."""
    return value.full_tensor().detach() if isinstance(value, DTensor) else value.detach()


def like(value: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """A copy of the whole ``value`` on the device of ``place``, in parts as that is."""
    moved = value.to(place.device, copy=True)
    return distribute_tensor(moved, place.device_mesh, place.placements, src_data_rank=None) if isinstance(place, DTensor) else moved
