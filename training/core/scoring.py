"""From the scores of several heads to one, and the scores of both sides of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from auditor.training.core.batch import Encoded, can_share, collate, micro_batches
from auditor.training.core.pairs import EncodedPair, pair_batch, pair_length


def aggregate(scores_BK: torch.Tensor, how: Literal["mean", "min", "uncertainty"], penalty: float = 1.0) -> torch.Tensor:
    """One score (B,) from K heads: mean, worst case, or mean − penalty · variance (Coste et al. 2024, section 3)."""
    if how == "min":
        return scores_BK.min(-1).values
    spread = penalty * scores_BK.var(-1, unbiased=False) if how == "uncertainty" else 0.0
    return scores_BK.mean(-1) - spread


@torch.no_grad()
def score_pairs(net: Any, pairs: Sequence[EncodedPair], facts: Mapping[str, Any], budget: int) -> np.ndarray:
    """Aggregated scores (P, 2) of the chosen and the rejected side of each pair."""
    found: dict[str, tuple[float, float]] = {}
    for group in micro_batches(pairs, pair_length, 2 * budget):
        values = aggregate(net(pair_batch(group, net)), facts.get("aggregate", "mean"), float(facts.get("penalty", 1.0)))
        for index, pair in enumerate(group):
            found[pair.id] = (float(values[index]), float(values[len(group) + index]))
    return np.array([found[pair.id] for pair in pairs])


@torch.no_grad()
def score_rows(net: Any, rows: Sequence[Encoded], facts: Mapping[str, Any], budget: int) -> list[float]:
    """Aggregated score of each row, in order; their ids tell them apart."""
    device, share = next(net.parameters()).device, can_share(getattr(net, "module", net).lm.config)
    found: dict[str, float] = {}
    for group in micro_batches(rows, lambda row: row.length, budget):
        values = aggregate(net(collate(group, device, share=share)), facts.get("aggregate", "mean"), float(facts.get("penalty", 1.0)))
        found.update({row.id: float(value) for row, value in zip(group, values, strict=True)})
    return [found[row.id] for row in rows]
