"""The user's own words about the system: a small TOML file, checked key by key. What is missing in it is said to be missing."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditor.errors import InputError, UnknownNameError

NOT_STATED = "not stated"
MOST_CHARACTERS, MOST_ITEMS = 4_000, 50  # of one text, and of texts in one list
Texts = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One statement to each of the six questions about feedback; a statement stands beside what was measured and never in its place."""

    source: str = ""
    standards: str = ""
    agreement: str = ""
    bias: str = ""
    rewards: str = ""
    monitoring: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewer:
    """Who is to sign: printed into the sign-off block."""

    name: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What only the people behind a system can say. Every key may be left out; it is then reported as not stated."""

    system: str = ""
    version: str = ""
    provider: str = ""
    role: str = ""
    owner: str = ""
    contact: str = ""
    licence: str = ""
    intended_purpose: str = ""
    intended_users: str = ""
    affected_people: str = ""
    deployment: str = ""
    languages: Texts = ()
    out_of_scope: Texts = ()
    known_risks: Texts = ()
    limits: Texts = ()
    training_data: str = ""
    human_oversight: str = ""
    monitoring: str = ""
    incidents: str = ""
    feedback: Feedback = field(default_factory=Feedback)
    reviewer: Reviewer = field(default_factory=Reviewer)


LABELS: Mapping[str, str] = {
    "system": "System", "version": "Version", "provider": "Provider", "role": "Role of whoever reports (provider, deployer …)",
    "owner": "Accountable owner", "contact": "Contact", "licence": "Licence", "intended_purpose": "Intended purpose", "intended_users": "Intended users",
    "affected_people": "People affected", "deployment": "Where and how it is deployed", "languages": "Languages", "out_of_scope": "Uses out of scope",
    "known_risks": "Known risks", "limits": "Known limits", "training_data": "Training data, in the owner's words",
    "human_oversight": "Human oversight", "monitoring": "Monitoring in use", "incidents": "Where incidents go",
}


def read_about(path: Path) -> About:
    """The file's content. Raises InputError for a file that cannot be read or has a value of the wrong kind, UnknownNameError for an unknown key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read --about {str(path)!r}: {error.strerror or error}; pass a TOML file, for instance docs/about.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: no valid TOML: {error}") from None
    return from_table(table, str(path))


def from_table(table: Mapping[str, Any], place: str) -> About:
    """The typed form of a parsed file (or of :func:`to_table`'s dictionary); ``place`` names it in errors."""
    return typing.cast(About, _build(About, table, place, ""))


def to_table(about: About | Feedback | Reviewer) -> dict[str, Any]:
    """Only what is stated, as plain data that :func:`from_table` reads back."""
    found: dict[str, Any] = {}
    for name in (entry.name for entry in dataclasses.fields(about)):
        value = getattr(about, name)
        plain = to_table(value) if isinstance(value, Feedback | Reviewer) else list(value) if isinstance(value, tuple) else value
        if plain:
            found[name] = plain
    return found


def stated(about: About, name: str) -> str:
    """A field as one text; "" where it is not stated. ``feedback.source`` reaches into a table."""
    value: Any = about
    for part in name.split("."):
        value = getattr(value, part)
    return "; ".join([*(text.rstrip(".") for text in value[:-1]), *value[-1:]]) if isinstance(value, tuple) else str(value)


def names() -> list[str]:
    """Every key that a file may hold, those of tables as ``table.key``."""
    nested = {"feedback": Feedback, "reviewer": Reviewer}
    return [full for entry in dataclasses.fields(About) for full in
            ([f"{entry.name}.{inner.name}" for inner in dataclasses.fields(nested[entry.name])] if entry.name in nested else [entry.name])]


def _build(kind: type, table: Mapping[str, Any], place: str, prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if key not in hints:
            raise UnknownNameError(f"key in {place}:", prefix + key, [prefix + name for name in hints])
        name, hint = prefix + key, hints[key]
        if dataclasses.is_dataclass(hint):
            values[key] = _build(typing.cast(type, hint), _table(value, name, place), place, f"{name}.")
        else:
            values[key] = _text(value, name, place) if hint is str else _texts(value, name, place)
    return kind(**values)


def _table(value: Any, name: str, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{place}: {name} is {_kind(value)}; write a table, [{name}]")
    return value


def _text(value: Any, name: str, place: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{place}: {name} is {_kind(value)}; write a text in quotes")
    if len(value) > MOST_CHARACTERS:
        raise InputError(f"{place}: {name} has {len(value):,} characters; at most {MOST_CHARACTERS:,} fit a report: say it shorter and point to a document")
    return value.strip()


def _texts(value: Any, name: str, place: str) -> Texts:
    if not isinstance(value, list):
        raise InputError(f"{place}: {name} is {_kind(value)}; write a list of texts, [\"…\", \"…\"]")
    if len(value) > MOST_ITEMS:
        raise InputError(f"{place}: {name} has {len(value)} entries; at most {MOST_ITEMS} fit a report")
    return tuple(text for text in (_text(one, f"{name}[{k}]", place) for k, one in enumerate(value)) if text)


def _kind(value: Any) -> str:
    return {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}.get(type(value), type(value).__name__)
