"""From messages to the text a model reads, and from its text to the answer without the reasoning."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from auditor.errors import ModelError
from auditor.schema import Message

# For a checkpoint without a chat template. Documented in the README; a run that used it is flagged.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n' }}"
    "{% else %}{{ 'Assistant: ' + message['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def render(tokenizer: Any, template: str, messages: Sequence[Message]) -> str:
    """The prompt text. A last message of role assistant is left open, to be continued by the model.

    Raises ModelError where the template refuses the conversation (no system role, say).
    """
    from jinja2.exceptions import TemplateError

    prefix = ""
    if messages and messages[-1].role == "assistant":
        prefix, messages = messages[-1].content, messages[:-1]
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError) as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise ModelError(f"the model's chat template refuses a conversation of roles ({roles}): {error}") from None
    # A template that ends in white space has set the place where the answer begins; one that does not, wants a space.
    if prefix and not prefix[0].isspace() and text and not text[-1].isspace() and template == PLAIN_TEMPLATE:
        prefix = " " + prefix
    return str(text) + prefix


def template_hash(template: str) -> str:
    return hashlib.sha256(template.encode("utf-8")).hexdigest()


def split_reasoning(text: str, *, opened: bool = False) -> tuple[str, str]:
    """Split ``<think>`` parts off: (answer, reasoning). An unclosed part is all reasoning, also where the prompt ``opened`` it."""
    if opened and "</think>" not in text:
        return "", text.strip()
    if "</think>" not in text and "<think>" not in text:
        return text, ""
    answer, reasoning, rest = [], [], text
    head, closed, tail = rest.partition("</think>")
    if closed and "<think>" not in head:  # the prompt's template opened the block
        reasoning.append(head)
        rest = tail
    while rest:
        before, mark, after = rest.partition("<think>")
        answer.append(before)
        if not mark:
            break
        inside, _, rest = after.partition("</think>")
        reasoning.append(inside)
    return "".join(answer).strip(), "\n".join(part.strip() for part in reasoning)
