"""Principles that an AI critique or comparison is asked against, read from a TOML file that a person can change.

    [[principle]]
    id = "no-flattery"
    critique = "Say where the reply flatters …"
    revision = "Write the reply again without …"
    comparison = "Which answer flatters less?"
    standard = "It does not flatter."   # the same of one answer, where answers are rated one by one
    kinds = ["sycophancy"]      # kinds of gold pairs on which the comparison can be checked; left out: all
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import InputError
from auditor.training.core.config import build

SHIPPED = "shipped:constitution"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principle:
    """One principle as three requests, and as the ``standard`` of one answer, "" where none is written. ``kinds`` are the kinds of gold pairs that
    its comparison speaks to, () for all."""

    id: str
    critique: str
    revision: str
    comparison: str
    standard: str = ""
    kinds: tuple[str, ...] = ()


def load_constitution(source: str) -> list[Principle]:
    """The principles of ``shipped:constitution`` or of a TOML file.

    Raises InputError where the file is absent, malformed, without principles, or names one twice; UnknownNameError for an unknown key.
    """
    path = Path(__file__).parents[1] / "data" / "constitution.toml" if source == SHIPPED else Path(source).expanduser()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"constitution {source!r} cannot be read: {error}; pass {SHIPPED} or a TOML file with [[principle]] tables") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"constitution {source!r}: no valid TOML: {error}") from None
    rows = table.get("principle")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"constitution {source!r} has no principles; add at least one [[principle]] with id, critique, revision and comparison")
    found = [build(Principle, row, f"constitution {source!r}, principle {number}") for number, row in enumerate(rows, start=1)]
    for principle in found:
        empty = next((name for name in ("id", "critique", "revision", "comparison") if not getattr(principle, name).strip()), None)
        if empty:
            raise InputError(f"constitution {source!r}: {empty!r} of principle {principle.id!r} is empty; write it")
    names = [principle.id for principle in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"constitution {source!r}: two principles are called {twice!r}; give each its own id")
    return found


def sample(principles: Sequence[Principle], seed: int, name: str, kind: str = "") -> Principle | None:
    """The principle that ``seed`` and ``name`` draw, evenly, among those that speak to ``kind`` (all, where none is given); None where none does."""
    fitting = [principle for principle in principles if not kind or not principle.kinds or kind in principle.kinds]
    if not fitting:
        return None
    number = int.from_bytes(hashlib.sha256(f"principle|{seed}|{name}".encode()).digest()[:8], "big")
    return fitting[number % len(fitting)]
