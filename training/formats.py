"""The common shapes of preference and instruction data, each turned into ours. The shape is detected from the first row.

    pairs            {"prompt": text or messages, "chosen": text, "rejected": text, "label", "margin", …}: our own
    conversational   {"chosen": [messages], "rejected": [messages]}, the prompt being what they share (or a field ``prompt``)
    hh               {"chosen": "\\n\\nHuman: … \\n\\nAssistant: …", "rejected": …}
    tree             {"prompt": {"text", "role", "replies": [{…, "rank"}]}}: every pair of ranked replies to the same message
    ratings          {"instruction", "completions": [{"response", "overall_score"}]}: the best against the worst
    unpaired         {"prompt", "completion", "label": true or false}
    demonstrations   {"prompt", "completion"}
    messages         {"messages": […]}: the last message is the completion
    prompts          {"prompt"}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from auditor.errors import UnknownNameError
from auditor.schema import Demonstration, Message, Preference, Prompt, Unpaired, sha256_json, user
from auditor.training.sources import REMEDY, Row, shown

Item = Preference | Demonstration | Unpaired | Prompt
ROLES = ("system", "user", "assistant", "tool")
_OWN = ("id", "cluster_id", "prompt", "chosen", "rejected", "label", "labeller", "rationale", "margin", "completion", "desirable", "messages", "instruction",
        "completions")
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def detect(row: Row, name: str = "") -> Callable[[Row], Iterator[Item]]:
    """The converter of a shape: the named one, else the one that fits the fields of ``row``. Raises UnknownNameError or DataError."""
    if name:
        if name not in CONVERTERS:
            raise UnknownNameError("format", name, CONVERTERS)
        return CONVERTERS[name]
    shape = _shape(row)
    if not shape:
        row.fail(f"fields {', '.join(map(str, row.data)) or '(none)'} are of no known format; known: {', '.join(CONVERTERS)}")
    return CONVERTERS[shape]


def _shape(row: Row) -> str:
    data = row.data
    if isinstance(data.get("prompt"), Mapping):
        return "tree"
    if "chosen" in data or "rejected" in data:
        if isinstance(data.get("chosen"), list):
            return "conversational"
        return "hh" if "prompt" not in data and _TURN.search(str(data.get("chosen"))) else "pairs"
    if "completions" in data:
        return "ratings"
    if "completion" in data:
        return "unpaired" if "label" in data or "desirable" in data else "demonstrations"
    if "messages" in data:
        return "messages"
    return "prompts" if "prompt" in data else ""


# -- parts ------------------------------------------------------------------------------------------------------------


def messages_of(row: Row, value: Any, name: str) -> tuple[Message, ...]:
    """Messages from a list of {role, content}. Raises DataError."""
    if not isinstance(value, list) or not value:
        row.fail(f"{name!r} is {shown(value)}, where a list of {{role, content}} is expected")
    found = []
    for place, message in enumerate(value, 1):
        if not isinstance(message, Mapping) or message.get("role") not in ROLES or not isinstance(message.get("content"), str):
            row.fail(f"message {place} of {name!r} is {shown(message)}; it needs a role ({', '.join(ROLES)}) and a content, both strings")
        if not message["content"].strip():
            row.fail(f"message {place} of {name!r} is empty; {REMEDY}")
        found.append(Message(role=message["role"], content=message["content"]))
    return tuple(found)


def prompt_of(row: Row) -> tuple[Message, ...]:
    """The field ``prompt``, a string (one user message) or a list of messages that ends before the assistant's turn. Raises DataError."""
    value = row.data.get("prompt")
    if not isinstance(value, str | None) and not isinstance(value, list):
        row.fail(f"'prompt' is {shown(value)}, where a string or a list of {{role, content}} is expected")
    return _asked(row, messages_of(row, value, "prompt") if isinstance(value, list) else (user(row.text("prompt")),))


def _asked(row: Row, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    if not prompt or prompt[-1].role not in ("user", "tool"):
        row.fail(f"the prompt ends with {'nothing' if not prompt else 'a message of role ' + repr(prompt[-1].role)}; the user speaks last, the reply follows")
    return prompt


def _identity(row: Row, prompt: tuple[Message, ...], suffix: str = "") -> dict[str, Any]:
    """Id, cluster and the fields that are not ours. Without a cluster of its own a row belongs to that of its first user message."""
    opening = next(message.content for message in prompt if message.role in ("user", "tool"))
    cluster = row.data.get("cluster_id") or "prompt-" + hashlib.sha256(opening.encode()).hexdigest()[:12]
    metadata = {str(key): value for key, value in row.data.items() if key not in _OWN and isinstance(value, str | int | float | bool)}
    name = row.data.get("id") if row.data.get("id") is not None else f"{row.path.rpartition('/')[2]}:{row.line}"
    return {"id": f"{name}{suffix}", "cluster_id": str(cluster), "metadata": metadata, "prompt": prompt}


def _pair(row: Row, identity: dict[str, Any], chosen: str, rejected: str, *, margin: float | None = None) -> Preference:
    if chosen.strip() == rejected.strip():
        row.fail(f"chosen and rejected are the same text ({shown(chosen)}); {REMEDY}")
    return Preference(**identity, chosen=chosen, rejected=rejected, label=row.number("label", 1.0, 0.0, 1.0), labeller=str(row.data.get("labeller") or ""),
                      rationale=str(row.data.get("rationale") or ""), margin=row.number("margin", 0.0) if margin is None else margin)


# -- one converter a shape --------------------------------------------------------------------------------------------


def _pairs(row: Row) -> Iterator[Item]:
    yield _pair(row, _identity(row, prompt_of(row)), row.text("chosen"), row.text("rejected"))


def _conversational(row: Row) -> Iterator[Item]:
    yield _parted(row, messages_of(row, row.data.get("chosen"), "chosen"), messages_of(row, row.data.get("rejected"), "rejected"))


def _hh(row: Row) -> Iterator[Item]:
    yield _parted(row, _turns(row, "chosen"), _turns(row, "rejected"))


def _turns(row: Row, name: str) -> tuple[Message, ...]:
    """Messages of a "\\n\\nHuman: … \\n\\nAssistant: …" text."""
    start, *rest = _TURN.split(row.text(name))
    if start.strip() or not rest:
        row.fail(f"{name!r} begins {shown(start or row.data[name])}; a dialogue of '\\n\\nHuman:' and '\\n\\nAssistant:' is expected")
    roles = {"Human": "user", "Assistant": "assistant"}
    value = [{"role": roles[who], "content": text.strip()} for who, text in zip(rest[::2], rest[1::2], strict=True)]
    return messages_of(row, value, name)


def _parted(row: Row, chosen: Sequence[Message], rejected: Sequence[Message]) -> Preference:
    """A pair of dialogues that differ in their last message, the assistant's."""
    if tuple(chosen[:-1]) != tuple(rejected[:-1]):
        row.fail(f"chosen and rejected differ before their last message; they must answer the same prompt; {REMEDY}")
    for name, dialogue in (("chosen", chosen), ("rejected", rejected)):
        if dialogue[-1].role != "assistant":
            row.fail(f"{name!r} ends with a message of role {dialogue[-1].role!r}; the assistant's reply is expected last")
    prompt = _asked(row, tuple(chosen[:-1])) if len(chosen) > 1 else prompt_of(row)
    return _pair(row, _identity(row, prompt), chosen[-1].content, rejected[-1].content)


def _tree(row: Row) -> Iterator[Item]:
    root = row.data.get("prompt")
    if not isinstance(root, Mapping):
        row.fail(f"'prompt' is {shown(root)}, where the root message of a tree is expected")
    tree = Row(row.path, row.line, {"cluster_id": str(row.data.get("message_tree_id") or f"tree-{row.line}")})
    yield from _ranked(tree, root, ())


def _ranked(tree: Row, node: Mapping[str, Any], before: tuple[Message, ...]) -> Iterator[Item]:
    """Pairs of the ranked replies to a node and to all below it; margin is the difference of ranks."""
    here = Row(tree.path, tree.line, node)
    role = {"prompter": "user", "assistant": "assistant"}.get(str(node.get("role")), "")
    replies = [reply for reply in node.get("replies") or [] if isinstance(reply, Mapping) and not reply.get("deleted")]
    if not role:
        here.fail(f"'role' is {shown(node.get('role'))}, where prompter or assistant is expected")
    path = (*before, Message(role=role, content=here.text("text")))
    ranked = sorted((reply for reply in replies if role == "user" and reply.get("rank") is not None), key=lambda reply: int(reply["rank"]))
    for better, worse in combinations(ranked, 2):
        if better["rank"] != worse["rank"]:
            ids = "-".join(str(message.get("message_id") or f"{sha256_json(path)[:8]}.{message['rank']}") for message in (better, worse))
            texts = [Row(tree.path, tree.line, message).text("text") for message in (better, worse)]
            name = {**tree.data, "id": f"{tree.line}-{ids}"}
            yield _pair(tree, _identity(Row(tree.path, tree.line, name), path), *texts, margin=float(worse["rank"] - better["rank"]))
    for reply in replies:
        yield from _ranked(tree, reply, path)


def _ratings(row: Row) -> Iterator[Item]:
    prompt = (user(row.text("instruction")),)
    answers = row.data.get("completions")
    if not isinstance(answers, list) or len(answers) < 2 or not all(isinstance(answer, Mapping) for answer in answers):
        row.fail(f"'completions' is {shown(answers)}, where a list of at least two {{response, overall_score}} is expected")
    rated = [Row(row.path, row.line, answer) for answer in answers]
    if any(answer.data.get("overall_score") is None for answer in rated):
        row.fail(f"a completion has no 'overall_score'; {REMEDY}")
    rated.sort(key=lambda answer: answer.number("overall_score", 0.0))
    margin = rated[-1].number("overall_score", 0.0) - rated[0].number("overall_score", 0.0)
    if margin > 0:  # all rated alike: no preference to learn
        yield _pair(row, _identity(row, prompt), rated[-1].text("response"), rated[0].text("response"), margin=margin)


def _unpaired(row: Row) -> Iterator[Item]:
    mark = row.data.get("label", row.data.get("desirable"))
    if not isinstance(mark, bool):
        row.fail(f"the label is {shown(mark)}, where true (a wanted reply) or false is expected")
    yield Unpaired(**_identity(row, prompt_of(row)), completion=row.text("completion"), desirable=mark)


def _demonstrations(row: Row) -> Iterator[Item]:
    completion = row.data.get("completion")
    if isinstance(completion, list):
        reply = messages_of(row, completion, "completion")
        if len(reply) != 1 or reply[0].role != "assistant":
            row.fail(f"'completion' is {shown(completion)}, where one message of the assistant is expected")
        yield Demonstration(**_identity(row, prompt_of(row)), completion=reply[0].content)
    else:
        yield Demonstration(**_identity(row, prompt_of(row)), completion=row.text("completion"))


def _messages(row: Row) -> Iterator[Item]:
    dialogue = messages_of(row, row.data.get("messages"), "messages")
    if dialogue[-1].role != "assistant":
        row.fail(f"the last message is of role {dialogue[-1].role!r}; the assistant's reply is expected last")
    yield Demonstration(**_identity(row, _asked(row, dialogue[:-1])), completion=dialogue[-1].content)


def _prompts(row: Row) -> Iterator[Item]:
    yield Prompt(**_identity(row, prompt_of(row)))


CONVERTERS: dict[str, Callable[[Row], Iterator[Item]]] = {
    "pairs": _pairs, "conversational": _conversational, "hh": _hh, "tree": _tree, "ratings": _ratings, "unpaired": _unpaired,
    "demonstrations": _demonstrations, "messages": _messages, "prompts": _prompts,
}
