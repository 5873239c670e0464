"""Completions from a model that is not being trained, asked through the audit engine's requests: any engine may answer them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from auditor.errors import InputError
from auditor.models.resolve import open_model
from auditor.schema import Generation, Message, ask
from auditor.training.core.asking import answer
from auditor.training.core.rollout import row_seed


class Writer:
    """Draws completions, each keyed by its name and the seed, at one temperature and length. Raises InputError for a recording."""

    def __init__(self, uri: str, temperature: float, max_new_tokens: int, seed: int) -> None:
        if uri.startswith("recorded:"):
            raise InputError(f"{uri} is a recording and cannot answer new prompts; pass a checkpoint folder, a GGUF file, hf:org/name or smollm2")
        self.model = open_model(uri)
        self.temperature, self.max_new_tokens, self.seed = temperature, max_new_tokens, seed

    def __call__(self, prompts: Sequence[tuple[str, Sequence[Message]]], tokens: int | None = None) -> list[Generation]:
        """A completion of each (name, messages), in order, of another length if given; one that could not be written has its ``error`` set."""
        length = tokens or self.max_new_tokens
        return answer(self.model, [dataclasses.replace(ask(messages, max_tokens=length, temperature=self.temperature), seed=row_seed(self.seed, name))
                                   for name, messages in prompts])
