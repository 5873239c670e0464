"""Tokenised examples and batches of them.

Dimensions: B rows, C completion tokens of the longest completion, G groups of T tokens.

Padding stands on the right, after every token that is read, so that causal attention needs no mask at all. What is real follows from
lengths, never from a token's id: the end-of-sequence token is often the padding token too. Rows that begin alike (both sides of a pair; all
rows under one system prompt) can share the computation of their beginning: half of the work where prompts are long and replies short.
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

# Attention costs the square of a group's tokens, sharing saves the tokens of common beginnings: at this size both are small.
GROUP = 320
# Families whose attention has been checked here to read position ids and a mask of any shape (tests/training/test_core.py).
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

    ``ids``, ``depths`` (G, T) hold G groups of rows: the tokens of each group's tree of beginnings, parents before children, and their positions
    in their rows; ``mask`` (G, 1, T, T) lets a token see its ancestors and itself. Without sharing each row is a group of its own and ``mask``
    is None. Completion token number n, row after row, is ``targets[n]``, predicted at (``groups[n]``, ``columns[n]``); ``completion_mask``
    (B, C) is True at the completions' real tokens. Row b's last token lies at (``last_groups[b]``, ``last_columns[b]``).
    """

    ids: torch.Tensor
    groups: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    completion_mask: torch.Tensor
    last_groups: torch.Tensor
    last_columns: torch.Tensor
    depths: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        """Tokens that a network computes, padding included."""
        return self.ids.numel()


def collate(rows: Sequence[Encoded], device: Any = "cpu", *, share: bool = False) -> Batch:
    """A batch of ``rows``, in their order. With ``share`` common beginnings are computed once: only for networks whose every layer is
    plain causal attention (:func:`can_share`)."""
    texts, places = _places(rows, share)
    count, width = _extent(places)
    ids, depths = torch.zeros((count, width), dtype=torch.long), torch.zeros((count, width), dtype=torch.long)
    mask = torch.eye(width, dtype=torch.bool).repeat(count, 1, 1) if share else None
    groups: list[int] = []
    columns: list[int] = []
    for row, text, (group, path) in zip(rows, texts, places, strict=True):
        where = torch.tensor(path)
        ids[group, where] = torch.tensor(text)
        depths[group, where] = torch.arange(len(text))
        if mask is not None:
            mask[group, where[:, None], where[None, :]] |= torch.ones((len(path), len(path)), dtype=torch.bool).tril()
        groups += [group] * len(row.completion)
        columns += path[len(row.prompt) - 1:-1]
    counts = torch.tensor([len(row.completion) for row in rows])
    targets = torch.tensor([token for row in rows for token in row.completion], dtype=torch.long)
    indices = [torch.tensor(values, dtype=torch.long, device=device) for values in
               (groups, columns, [group for group, _ in places], [path[-1] for _, path in places])]
    return Batch(ids=ids.to(device), groups=indices[0], columns=indices[1], targets=targets.to(device),
                 completion_mask=(torch.arange(int(counts.max()))[None, :] < counts[:, None]).to(device), last_groups=indices[2], last_columns=indices[3],
                 depths=depths.to(device) if share else None, mask=mask[:, None].to(device) if mask is not None else None)


def computed_tokens(rows: Sequence[Encoded], *, share: bool = False) -> int:
    """Tokens that a network computes for :func:`collate` of ``rows``, padding included: :attr:`Batch.tokens` without making the batch."""
    count, width = _extent(_places(rows, share)[1])
    return count * width


def _places(rows: Sequence[Encoded], share: bool) -> tuple[list[tuple[int, ...]], list[tuple[int, list[int]]]]:
    """The rows' tokens, and the group and the columns of each."""
    texts = [(*row.prompt, *row.completion) for row in rows]
    return texts, _shared(texts) if share else [(index, list(range(len(text)))) for index, text in enumerate(texts)]


def _extent(places: Sequence[tuple[int, list[int]]]) -> tuple[int, int]:
    """Groups, and columns of the widest."""
    return max(group for group, _ in places) + 1, max(max(path) for _, path in places) + 1


def _shared(texts: Sequence[tuple[int, ...]]) -> list[tuple[int, list[int]]]:
    """Group and path of each text in a forest of common beginnings; a group has at most GROUP tokens, unless one text alone has more."""
    found: dict[int, tuple[int, list[int]]] = {}
    group, size = 0, 0
    tree: dict[tuple[int, int], int] = {}  # (parent, token) -> node
    for index in sorted(range(len(texts)), key=lambda place: texts[place]):  # neighbours share most
        path = _insert(tree, size, texts[index])
        if size and max(size, path[-1] + 1) > GROUP:
            group, size, tree = group + 1, 0, {}
            path = _insert(tree, 0, texts[index])
        size = max(size, path[-1] + 1)
        found[index] = (group, path)
    return [found[index] for index in range(len(texts))]


def _insert(tree: dict[tuple[int, int], int], size: int, text: Sequence[int]) -> list[int]:
    path, parent = [], -1
    for token in text:
        node = tree.get((parent, token))
        if node is None:
            node, size = size, size + 1
            tree[(parent, token)] = node
        path.append(node)
        parent = node
    return path


def can_share(config: Any) -> bool:
    """Whether every layer is plain causal attention under an implementation that takes a mask of any shape."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    plain = kinds == {"full_attention"} and not getattr(text, "sliding_window", None) and hasattr(text, "num_attention_heads")
    return plain and getattr(text, "_attn_implementation", None) == "sdpa" and getattr(text, "model_type", "") in SHARING


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
