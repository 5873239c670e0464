"""Causal attention over rows that begin alike, where each token of a common beginning exists once.

Dimensions: N tokens, each once; B rows of at most L tokens, none of which another begins with; H query heads and K key heads of D numbers.

Queries, keys and values of the N tokens are laid out row by row for attention alone, the one part of a network in which tokens meet, and one copy of each
token's result goes back. All else (four fifths of the work and more) is done once a token, without padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

NAME = "causal_rows"
LONGEST = 512  # tokens of a row up to which products of whole matrices are faster than PyTorch's bfloat16 kernel on a processor
SCORES = 400_000  # attention scores that exist at once there


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """``tokens`` (B, L): which of the N tokens stands at each place of each row, any at padding on the right; ``places`` (N,): one place of each token,
    counted row after row."""

    tokens: torch.Tensor
    places: torch.Tensor


def by_rows(model: Any) -> None:
    """Let a transformers model take ``paths`` in its forward pass; without them it computes what it did. Only where ``can_share`` holds.

    A token of a common beginning takes part in several sums of gradients at once: on a GPU the order in which they are added may differ from run to run.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
              **more: Any) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: query (1, H, N, D), key and value (1, K, N, D); returns (1, N, H, D). Dropout is not applied to rows."""
    paths: Paths | None = more.pop("paths", None)
    if paths is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    scale = more["scaling"] if more.get("scaling") is not None else query.shape[-1] ** -0.5
    # Rotation leaves query and key in float32 under autocast: value has the type that attention is computed in.
    query, key, value = (_in_rows(given.to(value.dtype), paths.tokens) for given in (query, key, value))
    found = causal(query, key, value, scale)
    return found.flatten(0, 1).index_select(0, paths.places)[None], None


def _in_rows(given: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(1, H, N, D) as (B, L, H, D)."""
    return given[0].transpose(0, 1).index_select(0, tokens.flatten()).unflatten(0, tokens.shape)


def causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """softmax(scale · query keyᵀ) value over a row's tokens so far: query (B, L, H, D), key and value (B, L, K, D); returns (B, L, H, D)."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.shape[1] <= LONGEST:
        return _Causal.apply(query, key, value, scale)
    heads = query.shape[2] // key.shape[2]
    groups = heads > 1 and _takes_groups(query)
    if heads > 1 and not groups:
        key, value = key.repeat_interleave(heads, 2), value.repeat_interleave(heads, 2)
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=groups).transpose(1, 2)


def _takes_groups(query: torch.Tensor) -> bool:
    """Whether a kernel that keeps no scores takes fewer key heads than query heads: on a processor since PyTorch 2.9, on a GPU in half precision."""
    if query.device.type == "cpu":
        return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 9)
    return query.dtype in (torch.float16, torch.bfloat16)


class _Causal(torch.autograd.Function):
    """Whole matrices of scores, some rows at a time, computed again for the gradient. Scores and their gradients are float32 from the product on.

    The query heads that share a key head are one longer matrix: nothing is repeated. It has no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        query, key, value = _heads(query, key.shape[2]), _heads(key, key.shape[2]), _heads(value, key.shape[2])
        ctx.save_for_backward(query, key, value)
        ctx.scale = scale
        found = torch.empty_like(query)
        hidden = _hidden(query, key)
        for rows in _parts(query, key):
            torch.matmul(_weights(query[rows], key[rows], hidden, scale).to(query.dtype), value[rows], out=found[rows])
        return _tokens(found, key.shape[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        query, key, value = ctx.saved_tensors
        given = _heads(gradients[0], key.shape[1])
        found = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        hidden = _hidden(query, key)
        for rows in _parts(query, key):
            weights = _weights(query[rows], key[rows], hidden, ctx.scale)
            torch.matmul(weights.to(query.dtype).transpose(-1, -2), given[rows], out=found[2][rows])
            towards = _products(given[rows], value[rows])
            scores = towards.sub_((towards * weights).sum(-1, keepdim=True)).mul_(weights).mul_(ctx.scale).to(query.dtype)
            torch.matmul(scores, key[rows], out=found[0][rows])
            torch.matmul(scores.transpose(-1, -2), query[rows], out=found[1][rows])
        return _tokens(found[0], key.shape[2]), _tokens(found[1], key.shape[2]), _tokens(found[2], key.shape[2]), None


def _heads(given: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, L, H, D) as (B, K, H/K · L, D)."""
    return given.unflatten(2, (heads, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)


def _tokens(given: torch.Tensor, longest: int) -> torch.Tensor:
    """(B, K, H/K · L, D) as (B, L, H, D)."""
    return given.unflatten(2, (-1, longest)).permute(0, 3, 1, 2, 4).flatten(2, 3)


def _hidden(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(H/K · L, L), True where a token stands after the one that asks."""
    longest = key.shape[2]
    return torch.ones(longest, longest, dtype=torch.bool, device=key.device).triu(1).repeat(query.shape[2] // longest, 1)


def _parts(query: torch.Tensor, key: torch.Tensor) -> list[slice]:
    """The rows, so many at a time that their scores are few enough to stay near."""
    size = max(1, SCORES // (query.shape[1] * query.shape[2] * key.shape[2]))
    return [slice(start, start + size) for start in range(0, len(query), size)]


def _weights(query: torch.Tensor, key: torch.Tensor, hidden: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.softmax(_products(query, key).mul_(scale).masked_fill_(hidden, float("-inf")), -1)


def _products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Of every two lines, in float32: scores of 50 have a rounding error of .1 in bfloat16. Autocast would cast them back."""
    with torch.autocast(left.device.type, enabled=False):
        return torch.matmul(left.float(), right.float().transpose(-1, -2))
