"""Tokenised examples and right-padded batches of them.

Dimensions: B rows, T tokens of the longest row, C completion tokens of the longest completion.

Rows are padded on the right, after every token that is read, so that causal attention needs no mask at all. What is real follows from
lengths, never from a token's id: the end-of-sequence token is often the padding token too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from auditor.errors import InputError
from auditor.schema import Message, Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One prompt with one completion, as token ids. The completion ends with the end-of-sequence token where the text ended by itself."""

    id: str
    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """``ids`` (B, T) right-padded; ``starts`` (B,) where completions begin; ``lengths`` (B,) tokens of prompt and completion."""

    ids: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor

    @property
    def completion_mask(self) -> torch.Tensor:
        """(B, C) True at the completions' real tokens."""
        counts = self.lengths - self.starts
        return torch.arange(int(counts.max()), device=counts.device)[None, :] < counts[:, None]

    def positions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows (N,) and columns (N,) of the completion tokens, row by row."""
        mask = self.completion_mask
        rows, offsets = mask.nonzero(as_tuple=True)
        return rows, self.starts[rows] + offsets


def collate(rows: Sequence[Encoded], device: Any = "cpu") -> Batch:
    """Right-padded batch of ``rows``, in their order."""
    longest = max(row.length for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, :row.length] = torch.tensor([*row.prompt, *row.completion])
    starts = torch.tensor([len(row.prompt) for row in rows])
    lengths = torch.tensor([row.length for row in rows])
    return Batch(ids=ids.to(device), starts=starts.to(device), lengths=lengths.to(device))


class Encoder:
    """Text to tokens, exactly as the audit engine writes its prompts.

    ``engine`` is the loaded :class:`auditor.models.hf.HFModel`. A prompt with a completion that is longer than ``max_length`` or the context
    raises InputError that names the example: training on a cut text would teach the cut.
    """

    def __init__(self, engine: Any, max_length: int) -> None:
        self.engine = engine
        self.tokenizer = engine.tokenizer
        self.limit = min(max_length, engine.context)
        eos = engine.tokenizer.eos_token_id
        if eos is None:
            raise InputError(f"{engine.spec.uri}: its tokenizer names no end-of-sequence token; set eos_token in tokenizer_config.json")
        self.eos = int(eos)

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(self.engine.prompt_ids(Request(kind="generate", messages=tuple(messages))))

    def text(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def pair(self, name: str, messages: Sequence[Message], completion: str) -> Encoded:
        """The prompt with its completion and the end-of-sequence token."""
        row = Encoded(id=name, prompt=self.prompt(messages), completion=(*self.text(completion), self.eos))
        if row.length > self.limit:
            raise InputError(f"example {name!r} has {row.length} tokens and the limit is {self.limit} (max_length, or the model's context); "
                             "shorten it, leave it out, or raise max_length")
        return row

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))


def order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of ``count`` examples in one epoch: a function of seed and epoch alone."""
    return list(np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count))


def micro_batches(items: Iterable[T], length: Callable[[T], int], budget: int) -> list[list[T]]:
    """Split into groups of similar length whose padded size (rows × longest) stays within ``budget`` tokens; one item may exceed it."""
    groups: list[list[T]] = []
    for item in sorted(items, key=length, reverse=True):
        if not groups or (len(groups[-1]) + 1) * length(groups[-1][0]) > budget:
            groups.append([])
        groups[-1].append(item)
    return groups
