"""Preference pairs as tokens, and what a network says of both sides.

Dimensions: P pairs; a batch holds the P chosen rows first and the P rejected rows after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from auditor.schema import Preference
from auditor.training.core.batch import Batch, Encoded, Encoder, can_share, collate, micro_batches


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPair:
    """Two completions of one prompt; ``label`` is the probability that ``chosen`` is better, ``margin`` the rating gap it was given."""

    id: str
    cluster: str
    chosen: Encoded
    rejected: Encoded
    label: float = 1.0
    margin: float = 0.0


def encode_pairs(encoder: Encoder, preferences: Sequence[Preference]) -> list[EncodedPair]:
    """Both sides of each preference, each ending with the end-of-sequence token. Raises InputError for one that is too long."""
    return [EncodedPair(id=item.id, cluster=item.cluster_id, chosen=encoder.pair(item.id, item.prompt, item.chosen),
                        rejected=encoder.pair(item.id, item.prompt, item.rejected), label=item.label, margin=item.margin or 0.0)
            for item in preferences]


def pair_length(pair: EncodedPair) -> int:
    """Padded tokens that a pair takes in a batch of its own."""
    return 2 * max(pair.chosen.length, pair.rejected.length)


def pair_batch(pairs: Sequence[EncodedPair], net: Any) -> Batch:
    """2P rows for ``net`` (one of ours, wrapped or not): the chosen, then the rejected. What rows begin with alike is computed once where it can be."""
    plain = getattr(net, "module", net)
    share = can_share(plain.lm.config)
    return collate([*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)], next(net.parameters()).device, share=share)


def pair_logprobs(net: Any, pairs: Sequence[EncodedPair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probabilities (P,) of the chosen and of the rejected completions."""
    logprobs, _ = net(pair_batch(pairs, net))
    summed = logprobs.sum(-1)
    return summed[:len(pairs)], summed[len(pairs):]


@torch.no_grad()
def reference_logprobs(net: Any, pairs: Sequence[EncodedPair], budget: int, *, bfloat16: bool = False) -> dict[str, tuple[float, float]]:
    """What the untrained ``net`` gives both sides of each pair, by the pair's id: computed once, since the reference never moves, and in the type
    that the policy computes in."""
    found: dict[str, tuple[float, float]] = {}
    for group in micro_batches(pairs, pair_length, 2 * budget):
        with torch.autocast(next(net.parameters()).device.type, dtype=torch.bfloat16, enabled=bfloat16):
            chosen, rejected = pair_logprobs(net, group)
        found.update({pair.id: (float(left), float(right)) for pair, left, right in zip(group, chosen, rejected, strict=True)})
    return found
