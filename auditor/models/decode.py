"""Batched decoding: left padding, a shared prefix computed once, finished rows leaving the batch.

Dimensions: B rows, S prompt positions after the shared prefix, V vocabulary.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from auditor.models.kv import new_cache, select_rows

P = ParamSpec("P")
T = TypeVar("T")

MIN_SHARED_PREFIX = 8
COMPACT_SHARE = 8  # rows are dropped once an eighth of them is finished: a copy of the cache costs about one step


@dataclass(slots=True, kw_only=True)
class Clock:
    """Seconds inside the model's forward pass, and tokens that went through it."""

    model_seconds: float = 0.0
    prompt_tokens: int = 0
    generated_tokens: int = 0


@dataclass(slots=True, kw_only=True)
class Row:
    """One completion being written. ``uniforms`` (max_tokens,) are its own random numbers, drawn from its own seed."""

    prompt: list[int]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    uniforms: np.ndarray | None = None
    is_stopped: Callable[[list[int]], bool] | None = None
    tokens: list[int] = field(default_factory=list)
    finish: str = ""
    stopped_by: int | None = None  # the stop token, which is no part of ``tokens``
    finite: bool = True
    think_end: int | None = None  # the token that closes the reasoning, where the model has one
    reasoning_budget: int = 0

    @property
    def most_tokens(self) -> int:
        """Tokens that the row can come to: the answer may begin as late as the reasoning's and the answer's limit together allow."""
        return self.max_tokens + (self.reasoning_budget + self.max_tokens if self.reasoning_budget else 0)

    def push(self, token: int, stop_tokens: frozenset[int]) -> None:
        """Take the next token and decide whether the row is finished."""
        if token in stop_tokens:
            self.finish, self.stopped_by = "stop", token
            return
        self.tokens.append(token)
        if token == self.think_end and self.reasoning_budget:
            self.max_tokens, self.reasoning_budget = len(self.tokens) + self.max_tokens, 0
        if self.is_stopped is not None and self.is_stopped(self.tokens):
            self.finish = "stop"
        elif len(self.tokens) >= self.max_tokens + self.reasoning_budget:
            self.finish = "length"


@dataclass(slots=True, kw_only=True)
class Prefilled:
    """State after the prompts: the cache, the mask (B, positions so far) and the last logits (B, V)."""

    cache: Any
    mask: torch.Tensor
    logits: torch.Tensor


def uniforms(seed: int, count: int) -> np.ndarray:
    """``count`` numbers in [0, 1) that depend on the seed alone, never on the batch."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def shared_prefix(prompts: Sequence[list[int]]) -> int:
    """Length of the common beginning, leaving at least one token of each prompt; 0 where it is not worth it."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)
    limit = min(len(prompt) for prompt in prompts) - 1
    length = next((i for i in range(min(limit, len(first), len(last))) if first[i] != last[i]), limit)
    return length if length >= MIN_SHARED_PREFIX else 0


def _without_gradients(call: Callable[P, T]) -> Callable[P, T]:
    """Under autocast no_grad, elsewhere inference_mode, which is faster but under which autocast casts every weight again at every token."""

    @functools.wraps(call)
    def called(*positional: P.args, **named: P.kwargs) -> T:
        casting = any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda"))
        with torch.no_grad() if casting else torch.inference_mode():
            return call(*positional, **named)

    return called


@_without_gradients
def forward(model: Any, clock: Clock, **inputs: Any) -> torch.Tensor:
    """One forward pass, timed; returns the logits."""
    started = time.perf_counter()
    logits = model(use_cache=True, **inputs).logits
    if logits.is_cuda:
        torch.cuda.synchronize()
    clock.model_seconds += time.perf_counter() - started
    return logits


@_without_gradients
def prefill(model: Any, prompts: Sequence[list[int]], room: int, clock: Clock) -> Prefilled:
    """Read all prompts, leaving ``room`` positions in the cache for what follows."""
    device = model.device
    prefix = shared_prefix(prompts)
    rows, longest = len(prompts), max(len(prompt) for prompt in prompts)
    cache = new_cache(model.config, longest + room)
    if prefix:
        forward(model, clock, input_ids=torch.tensor([list(prompts[0][:prefix])], device=device), past_key_values=cache, logits_to_keep=1)
        select_rows(cache, torch.zeros(rows, dtype=torch.long, device=device))
    ids = torch.zeros((rows, longest - prefix), dtype=torch.long)
    mask = torch.zeros((rows, longest), dtype=torch.long)
    mask[:, :prefix] = 1
    for index, prompt in enumerate(prompts):
        tail = list(prompt[prefix:])
        ids[index, longest - prefix - len(tail):] = torch.tensor(tail)
        mask[index, longest - len(tail):] = 1
    positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, prefix:]
    mask = mask.to(device)
    logits = forward(model, clock, input_ids=ids.to(device), attention_mask=mask, position_ids=positions.to(device), past_key_values=cache, logits_to_keep=1)
    clock.prompt_tokens += sum(len(prompt) for prompt in prompts)
    return Prefilled(cache=cache, mask=mask, logits=logits[:, -1])


def pick(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """Next token of each row: the most probable at temperature 0, else by inverting the row's own uniform number.

    Sampling: Holtzman et al. 2020 for top-p (the smallest set whose probability reaches p).
    """
    tokens: list[int] = logits.argmax(-1).tolist()
    drawn = [index for index, row in enumerate(rows) if row.temperature > 0]
    if not drawn:
        return tokens
    chosen = [rows[index] for index in drawn]
    scale = torch.tensor([row.temperature for row in chosen], device=logits.device, dtype=torch.float32)
    probabilities = torch.softmax(logits[drawn].float() / scale[:, None], -1)
    order: torch.Tensor | None = None
    if any(row.top_p < 1 for row in chosen):
        probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = probabilities.double().cumsum(-1) - probabilities
        keep = before < torch.tensor([row.top_p for row in chosen], device=logits.device)[:, None]
        probabilities = probabilities * keep
    cumulative = probabilities.double().cumsum(-1)
    numbers = torch.tensor([_uniform(row) for row in chosen], device=logits.device, dtype=torch.float64)
    index = torch.searchsorted(cumulative, (numbers * cumulative[:, -1])[:, None], right=True).clamp_max(logits.shape[-1] - 1)
    picked = (index if order is None else order.gather(-1, index))[:, 0].tolist()
    for place, token in zip(drawn, picked, strict=True):
        tokens[place] = token
    return tokens


def _uniform(row: Row) -> float:
    if row.uniforms is None:
        raise ValueError("a row with temperature > 0 needs its uniform numbers")
    return float(row.uniforms[len(row.tokens)])


@_without_gradients
def decode(model: Any, rows: Sequence[Row], stop_tokens: frozenset[int], clock: Clock) -> None:
    """Write every row's completion into ``row.tokens``; rows leave the batch as they finish."""
    state = prefill(model, [row.prompt for row in rows], max(row.most_tokens for row in rows), clock)
    alive = list(rows)
    while True:
        finite = torch.isfinite(state.logits).all(-1).tolist()
        for row, ok, token in zip(alive, finite, pick(state.logits, alive), strict=True):
            if row.finish:
                continue
            if not ok:
                row.finite, row.finish = False, "error"
                continue
            clock.generated_tokens += 1
            row.push(token, stop_tokens)
        running = [index for index, row in enumerate(alive) if not row.finish]
        if not running:
            return
        if len(alive) - len(running) >= max(1, len(alive) // COMPACT_SHARE):
            keep = torch.tensor(running, device=model.device)
            select_rows(state.cache, keep)
            state.mask = state.mask[keep]
            alive = [alive[index] for index in running]
        _step(model, state, alive, clock)


def _step(model: Any, state: Prefilled, alive: Sequence[Row], clock: Clock) -> None:
    # A finished row that has not left yet repeats its last token; what it computes is never read.
    last = torch.tensor([[row.tokens[-1] if row.tokens else 0] for row in alive], device=model.device)
    state.mask = torch.cat([state.mask, state.mask.new_ones((len(alive), 1))], -1)
    positions = state.mask.sum(-1, keepdim=True) - 1
    logits = forward(model, clock, input_ids=last, attention_mask=state.mask, position_ids=positions, past_key_values=state.cache)
    state.logits = logits[:, -1]


@_without_gradients
def option_logprobs(model: Any, prompts: Sequence[list[int]], options: Sequence[Sequence[list[int]]], clock: Clock) -> list[list[list[float]]]:
    """Log-probability of each token of each option: result[row][option][token], in nats.

    The prompt is read once for all its options; logits exist only at answer positions.
    """
    longest = max(len(tokens) for row in options for tokens in row)
    state = prefill(model, prompts, longest, clock)
    first = torch.log_softmax(state.logits.float(), -1)
    values = [[[float(first[index, tokens[0]])] for tokens in row] for index, row in enumerate(options)]
    more = [(index, place) for index, row in enumerate(options) for place, tokens in enumerate(row) if len(tokens) > 1]
    if more:
        _continue_options(model, state, options, (more, values), clock)
    return values


def _continue_options(model: Any, state: Prefilled, options: Sequence[Sequence[list[int]]], todo: Any, clock: Clock) -> None:
    more, values = todo
    device = model.device
    select_rows(state.cache, torch.tensor([index for index, _ in more], device=device))
    mask = state.mask[[index for index, _ in more]]
    longest = max(len(options[index][place]) for index, place in more) - 1
    ids = torch.zeros((len(more), longest), dtype=torch.long)
    for row, (index, place) in enumerate(more):
        tokens = options[index][place]
        ids[row, :len(tokens) - 1] = torch.tensor(tokens[:-1])
    positions = mask.sum(-1, keepdim=True) + torch.arange(longest, device=device)
    mask = torch.cat([mask, mask.new_ones((len(more), longest))], -1)  # right padding comes after every token that is read
    logits = forward(model, clock, input_ids=ids.to(device), attention_mask=mask, position_ids=positions, past_key_values=state.cache)
    for row, (index, place) in enumerate(more):
        tokens = options[index][place][1:]
        lines = torch.log_softmax(logits[row, :len(tokens)].float(), -1)
        values[index][place] += lines.gather(-1, torch.tensor(tokens, device=device)[:, None])[:, 0].tolist()
    clock.prompt_tokens += sum(len(options[index][place]) - 1 for index, place in more)
