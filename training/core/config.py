"""Typed configuration: a frozen dataclass from a TOML table, with the nearest key named where one is unknown."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from auditor.errors import InputError, UnknownNameError

T = TypeVar("T")


Dtype = Literal["float32", "bfloat16"]
DTYPES = get_args(Dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """What every stage that changes weights can set.

    ``model``: where the weights start: a model as ``auditor run`` takes it, ``stage:NAME``, or "" for the policy so far.
    ``epochs`` passes over the data, cut at ``max_steps`` where that is above 0. ``batch_size`` examples an optimiser step, computed in
    micro-batches of at most ``micro_tokens`` padded tokens (gradient accumulation: the result does not depend on it). ``lr`` rises linearly
    over the share ``warmup`` of the steps and then follows ``schedule`` to 0. ``lora_rank`` 0 trains every weight; otherwise the
    linear layers get adapters of that rank, scaled by ``lora_alpha`` / rank. ``dtype`` bfloat16 computes under autocast with float32 master
    weights, and writes an on-policy method's completions so; rewards and what is measured on held-out data stay float32. A checkpoint every
    ``save_every`` steps, the last ``keep`` of them stay.
    """

    model: str = ""
    epochs: float = 1.0
    max_steps: int = 0
    batch_size: int = 16
    micro_tokens: int = 2048
    lr: float = 2e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.0
    adam_eps: float = 1e-8
    max_grad_norm: float = 1.0
    lora_rank: int = 0
    lora_alpha: float = 32.0
    dtype: Dtype = "float32"
    gradient_checkpointing: bool = False
    max_length: int = 1024
    save_every: int = 25
    keep: int = 2
    on_divergence: Literal["stop", "continue"] = "stop"


def build(kind: type[T], table: Mapping[str, Any], place: str) -> T:
    """A ``kind`` (a dataclass) from ``table``. Raises UnknownNameError for an unknown key, InputError for a value of the wrong type."""
    hints = typing.get_type_hints(kind)
    known = [item.name for item in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise UnknownNameError(f"key in {place}", key, known)
    required = [item.name for item in dataclasses.fields(kind)  # type: ignore[arg-type]
                if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING and item.name not in table]
    if required:
        raise InputError(f"{place}: {required[0]!r} is missing; set it")
    return kind(**{key: convert(value, hints[key], f"{place}: {key}") for key, value in table.items()})


def convert(value: Any, hint: Any, place: str) -> Any:
    """``value`` as ``hint`` asks; an integer is taken for a float, a list for a tuple, a table for a dataclass. Raises InputError otherwise."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise UnknownNameError(f"value of {place}", str(value), [str(item) for item in arguments])
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return convert(value, next(item for item in arguments if item is not type(None)), place)
    if origin is tuple:
        return tuple(convert(item, arguments[0], place) for item in _list(value, place))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise InputError(f"{place} is {value!r}; pass a table")
        return build(hint, value, place)  # type: ignore[arg-type]
    return _plain(value, hint, place)


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{place} is {value!r}; pass a list")
    return list(value)


def _plain(value: Any, hint: Any, place: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise InputError(f"{place} is {value!r}; pass a value of type {hint.__name__}")
    if hint is float and not math.isfinite(value):
        raise InputError(f"{place} is {value}; pass a finite number")
    return value


def check_above_0(config: Any, names: Sequence[str], place: str) -> None:
    """Raise InputError for the first of the named settings that is not above 0."""
    for name in names:
        if not getattr(config, name) > 0:
            raise InputError(f"{place}: {name} is {getattr(config, name)}; pass a number above 0")


def check_from_0(config: Any, names: Sequence[str], place: str) -> None:
    """Raise InputError for the first of the named settings that is below 0."""
    for name in names:
        if getattr(config, name) < 0:
            raise InputError(f"{place}: {name} is {getattr(config, name)}; pass 0 or more")


def check_optimisation(config: Optimisation, place: str) -> None:
    """Raise InputError where a number cannot be right."""
    check_above_0(config, ("epochs", "batch_size", "micro_tokens", "lr", "max_length", "save_every", "keep", "lora_alpha", "max_grad_norm"), place)
    check_from_0(config, ("max_steps", "lora_rank", "weight_decay", "adam_eps"), place)
    if not 0 <= config.warmup < 1:
        raise InputError(f"{place}: warmup is {config.warmup}; pass a share of the steps from 0 to below 1")
