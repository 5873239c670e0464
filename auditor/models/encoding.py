"""From conversations to token ids: special tokens come from the template alone, and an option continues the text that stands before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from auditor.errors import ModelError
from auditor.models.chat import render
from auditor.schema import Message

PRIVATE_USE = range(0xF0000, 0xFFFFE)  # characters that no text means anything by
BORDER = "\n"


class Encoder:
    """Token ids of prompts under one tokenizer and chat template."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.bos = _bos(tokenizer)
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        specials = sorted({*added, *tokenizer.all_special_tokens} - {""}, key=len, reverse=True)
        self.special = re.compile("|".join(map(re.escape, specials))) if specials else None

    def ids(self, messages: Sequence[Message], tail: str = "") -> list[int]:
        """Ids of the rendered conversation and ``tail``, with a begin-of-sequence token where the tokenizer wants one.

        A special token's text inside a message or the tail ("<|im_end|>" in a quoted log) is encoded as the characters it is, so
        that no content can end its own turn. Raises ModelError where the template refuses the conversation.
        """
        contents = "".join(message.content for message in messages) + tail
        if self.special is not None and self.special.search(contents):
            ids = self._apart(messages, tail, contents)
        else:
            ids = self._encode(render(self.tokenizer, self.template, messages) + tail)
        # A template without a begin-of-sequence token still wants the one the tokenizer would have added.
        return ids if self.bos is None or ids[:1] == [self.bos] else [self.bos, *ids]

    def continuation(self, messages: Sequence[Message], option: str) -> list[int]:
        """Ids that ``option`` adds to the prompt: those of the joint text, where the prompt's own ids are a beginning of it.

        Tokenized alone, an option would get the word-start mark that a sentencepiece tokenizer puts before every text ("▁").
        Where the joint text merges prompt and option into one token, the option is tokenized after a line break instead: the model's
        choice starts at the end of the prompt's ids. Raises ModelError for an option without tokens.
        """
        prompt = self.ids(messages)
        ids = _tail(self.ids(messages, option), prompt) or _tail(self._plain(BORDER + option), self._plain(BORDER)) or self._plain(option)
        if not ids:
            raise ModelError(f"option {option!r} has no tokens; pass a non-empty option")
        return ids

    def _plain(self, text: str) -> list[int]:
        return self._encode(text, split_special_tokens=True)

    def _encode(self, text: str, **options: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, **options)["input_ids"]
        return ids

    def _apart(self, messages: Sequence[Message], tail: str, contents: str) -> list[int]:
        """Contents' special texts pass through the template as stand-ins; what is special in the outcome is the template's own."""
        if self.special is None:
            raise ValueError("a tokenizer without special tokens has nothing to keep apart")
        free = (chr(code) for code in PRIVATE_USE if chr(code) not in contents)
        marks = dict(zip(sorted(set(self.special.findall(contents))), free, strict=False))
        texts = {mark: text for text, mark in marks.items()}

        def marked(text: str) -> str:
            return self.special.sub(lambda found: marks[found.group()], text) if self.special else text

        text = render(self.tokenizer, self.template, [replace(message, content=marked(message.content)) for message in messages]) + marked(tail)
        ids: list[int] = []
        start = 0
        for found in self.special.finditer(text):
            ids += [*self._literal(text[start:found.start()], texts), self.tokenizer.convert_tokens_to_ids(found.group())]
            start = found.end()
        return ids + self._literal(text[start:], texts)

    def _literal(self, text: str, texts: dict[str, str]) -> list[int]:
        whole = "".join(texts.get(char, char) for char in text)
        return self._plain(whole) if whole else []


def _tail(joint: list[int], before: list[int]) -> list[int]:
    """What ``joint`` adds to ``before``; nothing where it does not begin with it."""
    return joint[len(before):] if joint[:len(before)] == before else []


def _bos(tokenizer: Any) -> int | None:
    """The begin-of-sequence token, where the tokenizer itself puts one before a text."""
    bos = tokenizer.bos_token_id
    return int(bos) if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else None
