"""Completions from the policy in training, written by the audit engine's decoder: rows leave the batch at their end of sequence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from auditor.errors import TrainingError
from auditor.models.decode import Clock, Row, decode, uniforms
from auditor.training.core.batch import Encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn: no top-k, no top-p, so that the sampled distribution is the one whose log-probabilities are trained."""

    temperature: float = 1.0
    max_new_tokens: int = 48


class Sampler(Protocol):
    """The seam for another generator (a server, say): tokens in, tokens out."""

    def __call__(self, prompts: Sequence[tuple[str, tuple[int, ...]]], sampling: Sampling, seed: int) -> list[Encoded]:
        """Completions of (id, prompt tokens), in order. One that ended by itself ends with its stop token; no other does."""


def row_seed(seed: int, name: str) -> int:
    """The seed of one completion: a function of the run's seed and the sample's name, never of its place in a batch."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8], "big")


class EngineSampler:
    """The audit engine's decoder on the network in training. ``rows`` bounds the batch."""

    def __init__(self, engine: Any, model: Any, rows: int = 64) -> None:
        self.engine, self.model, self.rows = engine, model, rows
        self.clock = Clock()

    def __call__(self, prompts: Sequence[tuple[str, tuple[int, ...]]], sampling: Sampling, seed: int) -> list[Encoded]:
        training = self.model.training
        self.model.eval()  # in training mode with gradient checkpointing there is no cache
        ordered = sorted(range(len(prompts)), key=lambda index: len(prompts[index][1]))
        done: dict[int, Encoded] = {}
        for start in range(0, len(ordered), self.rows):
            places = ordered[start:start + self.rows]
            rows = [self._row(*prompts[place], sampling, seed) for place in places]
            decode(self.model, rows, self.engine.stop_tokens, self.clock)
            if not all(row.finite for row in rows):
                raise TrainingError("the policy gives logits that are not finite: its weights have come apart; go back to the last checkpoint with a lower lr")
            for place, row in zip(places, rows, strict=True):
                name, prompt = prompts[place]
                ending = () if row.stopped_by is None else (row.stopped_by,)
                done[place] = Encoded(id=name, prompt=prompt, completion=(*row.tokens, *ending))
        self.model.train(training)
        return [done[index] for index in range(len(prompts))]

    def _row(self, name: str, prompt: tuple[int, ...], sampling: Sampling, seed: int) -> Row:
        room = min(sampling.max_new_tokens, self.engine.context - len(prompt))
        numbers = uniforms(row_seed(seed, name), room + 1) if sampling.temperature > 0 else None
        return Row(prompt=list(prompt), max_tokens=room, temperature=sampling.temperature, uniforms=numbers)


def ended(row: Encoded, stop_tokens: frozenset[int]) -> bool:
    """Whether a completion ended by itself."""
    return bool(row.completion) and row.completion[-1] in stop_tokens
