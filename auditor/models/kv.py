"""A key–value cache that is written in place and from which finished rows leave.

transformers' dynamic layer concatenates the whole cache at every token, a copy that grows with the text. Here each
layer owns one block of memory and hands out views of it. Layers of other kinds (sliding window, linear attention)
keep transformers' own implementation.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer, shapes (rows, heads, length, head size), in storage of fixed capacity."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.storage_keys: torch.Tensor | None = None
        self.storage_values: torch.Tensor | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if self.storage_keys is None or self.storage_values is None:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.storage_keys, self.storage_values = (self._allocate(states) for states in (key_states, value_states))
        end = self.length + key_states.shape[2]
        if end > self.capacity:
            raise RuntimeError(f"the cache has room for {self.capacity} positions, not {end}")
        self.storage_keys[:, :, self.length:end] = key_states
        self.storage_values[:, :, self.length:end] = value_states
        self.length = end
        return self._view()

    def _allocate(self, states: torch.Tensor) -> torch.Tensor:
        rows, heads, _, size = states.shape
        return states.new_empty((rows, heads, self.capacity, size))

    def _view(self) -> tuple[torch.Tensor, torch.Tensor]:
        assert_keys, assert_values = self.storage_keys, self.storage_values
        if assert_keys is None or assert_values is None:
            raise RuntimeError("the cache layer has no storage yet")
        self.keys, self.values = assert_keys[:, :, :self.length], assert_values[:, :, :self.length]
        return self.keys, self.values

    def select(self, rows: torch.Tensor) -> None:
        """Keep (or repeat) the given rows. Fewer rows reuse the storage; more rows get new storage."""
        if self.storage_keys is None or self.storage_values is None:
            return
        kept = [storage[:, :, :self.length].index_select(0, rows) for storage in (self.storage_keys, self.storage_values)]
        if len(rows) > self.storage_keys.shape[0]:
            self.storage_keys, self.storage_values = (self._allocate(part) for part in kept)
        self.storage_keys, self.storage_values = self.storage_keys[:len(rows)], self.storage_values[:len(rows)]
        self.storage_keys[:, :, :self.length] = kept[0]
        self.storage_values[:, :, :self.length] = kept[1]
        self._view()


def new_cache(config: Any, capacity: int) -> DynamicCache:
    """A cache for ``capacity`` positions, with our layers where transformers would use its plain dynamic ones."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def select_rows(cache: Any, rows: torch.Tensor) -> None:
    """Keep (or repeat) the given batch rows in every layer."""
    for layer in cache.layers:
        if isinstance(layer, GrowingLayer):
            layer.select(rows)
        elif hasattr(layer, "batch_select_indices"):
            layer.batch_select_indices(rows)
        else:
            layer.reorder_cache(rows)
