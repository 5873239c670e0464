"""Tokenised examples and batches of them.

Dimensions: B rows, C completion tokens of the longest completion, G lines of T tokens as a network reads them.

Padding stands on the right, after every token that is read, so that causal attention needs no mask at all. What is real follows from
lengths, never from a token's id: the end-of-sequence token is often the padding token too. Rows that begin alike (both sides of a pair; all
rows under one system prompt) can share the computation of their beginning: half of the work where prompts are long and replies short. All tokens
then stand in one line, each once and without padding; attention alone lays them out in rows (attention.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from auditor.errors import InputError
from auditor.schema import Message, Request
from auditor.training.core.attention import NAME, Paths

T = TypeVar("T")

# Families whose attention has been checked here to read position ids and to take rows of its own (tests/training/test_attention.py).
SHARING = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma", "phi3", "olmo2", "smollm3"})


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
    """Rows as a network reads them. A token that several rows begin with is computed once.

    ``ids`` (G, T): each row is a line of its own, padded on the right; or, with sharing, one line holds every token of the rows' tree of beginnings,
    ``depths`` (1, T) their positions in their rows, and ``paths`` where they stand. Completion token number n, row after row, is
    ``targets[n]``, predicted at (``lines[n]``, ``columns[n]``); ``completion_mask`` (B, C) is True at the completions' real tokens. Row b's last
    token lies at (``last_lines[b]``, ``last_columns[b]``).
    """

    ids: torch.Tensor
    lines: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    completion_mask: torch.Tensor
    last_lines: torch.Tensor
    last_columns: torch.Tensor
    depths: torch.Tensor | None = None
    paths: Paths | None = None

    @property
    def tokens(self) -> int:
        """Tokens that a network computes, padding included."""
        return self.ids.numel()


def collate(rows: Sequence[Encoded], device: Any = "cpu", *, share: bool = False) -> Batch:
    """A batch of ``rows``, in their order. With ``share`` common beginnings are computed once: only for networks whose every layer is
    plain causal attention (:func:`can_share`)."""
    texts = [(*row.prompt, *row.completion) for row in rows]
    where = _tree(texts) if share else [list(range(len(text))) for text in texts]
    lines = [0 if share else index for index in range(len(rows))]
    ids = torch.zeros((1 if share else len(rows), _width(where)), dtype=torch.long)
    depths = torch.zeros_like(ids)
    for line, text, columns in zip(lines, texts, where, strict=True):
        ids[line, columns] = torch.tensor(text)
        depths[line, columns] = torch.arange(len(text))
    counts = torch.tensor([len(row.completion) for row in rows])
    targets = torch.tensor([token for row in rows for token in row.completion], dtype=torch.long)
    read_at = [column for row, columns in zip(rows, where, strict=True) for column in columns[len(row.prompt) - 1:-1]]
    indices = [torch.tensor(values, dtype=torch.long, device=device) for values in
               ([line for line, row in zip(lines, rows, strict=True) for _ in row.completion], read_at, lines, [columns[-1] for columns in where])]
    return Batch(ids=ids.to(device), lines=indices[0], columns=indices[1], targets=targets.to(device),
                 completion_mask=(torch.arange(int(counts.max()))[None, :] < counts[:, None]).to(device), last_lines=indices[2], last_columns=indices[3],
                 depths=depths.to(device) if share else None, paths=_paths(where, ids.shape[1], device) if share else None)


def computed_tokens(rows: Sequence[Encoded], *, share: bool = False) -> int:
    """Tokens that a network computes for :func:`collate` of ``rows``, padding included: :attr:`Batch.tokens` without making the batch."""
    return _width(_tree([(*row.prompt, *row.completion) for row in rows])) if share else len(rows) * max(row.length for row in rows)


def _width(where: Sequence[Sequence[int]]) -> int:
    """Columns of a line."""
    return max(max(columns) for columns in where) + 1


def _tree(texts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """The nodes of each text in the tree of their common beginnings, numbered as the sorted texts meet them: whatever the texts' order is, the
    same sums are taken in the same order."""
    nodes: dict[tuple[int, int], int] = {}  # (parent, token) -> node
    found: dict[tuple[int, ...], list[int]] = {}
    for text in sorted(set(texts)):
        parent, path = -1, []
        for token in text:
            parent = nodes.setdefault((parent, token), len(nodes))
            path.append(parent)
        found[text] = path
    return [found[text] for text in texts]


def _paths(where: Iterable[Sequence[int]], count: int, device: Any) -> Paths:
    """Where ``count`` nodes stand in rows of attention: one for each text that no other one begins with."""
    ordered = sorted(set(map(tuple, where)))
    rows = [path for path, following in zip(ordered, [*ordered[1:], ()], strict=True) if following[:len(path)] != path]
    longest = max(map(len, rows))
    tokens, places = torch.zeros((len(rows), longest), dtype=torch.long), torch.zeros(count, dtype=torch.long)
    for row, nodes in enumerate(rows):
        path = torch.tensor(nodes)
        tokens[row, :len(nodes)] = path
        places[path] = row * longest + torch.arange(len(nodes))
    return Paths(tokens=tokens.to(device), places=places.to(device))


def can_share(config: Any) -> bool:
    """Whether every layer is plain causal attention that can be asked row by row (:func:`auditor.training.core.attention.by_rows`)."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    plain = kinds == {"full_attention"} and not getattr(text, "sliding_window", None) and hasattr(text, "num_attention_heads")
    return plain and getattr(text, "_attn_implementation", None) in ("sdpa", NAME) and getattr(text, "model_type", "") in SHARING


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
        """The tokens of a reply. A special token's name inside it is text, as in the audit: no row of data plants an end of turn."""
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def pair(self, name: str, messages: Sequence[Message], completion: str) -> Encoded:
        """The prompt with its completion and the end-of-sequence token."""
        row = Encoded(id=name, prompt=self.prompt(messages), completion=(*self.text(completion), self.eos))
        if row.length > self.limit:
            raise InputError(f"example {name!r} has {row.length} tokens and the limit is {self.limit} (max_length, or the model's context); "
                             "shorten it, leave it out, or raise max_length")
        return row

    def fits(self, messages: Sequence[Message], completion: str) -> bool:
        """Whether :meth:`pair` would take it."""
        return len(self.prompt(messages)) + len(self.text(completion)) < self.limit

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
