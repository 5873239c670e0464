"""Every error a user can meet, in one tree.

    AuditorError                 (exit 3) anything the product itself reports
    ├── InputError               (exit 2) what the user passed is wrong
    │   ├── UnknownNameError              a suite, run, model or key that does not exist; names the nearest
    │   ├── ModelError                    a model that cannot be found or may not be loaded
    │   └── DataError                     a file with a malformed line; names the line
    ├── EngineError              (exit 3) the model ran and went wrong (NaN logits, out of memory)
    ├── TrainingError            (exit 3) training went wrong (loss not finite, disk full) and can be resumed
    └── StoreError               (exit 3) the database or its journal cannot be read or written
        └── StoreLockedError              another process holds it

A message says what is wrong, the offending value, and what to pass instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AuditorError(Exception):
    """Base of all errors that are shown to the user without a traceback."""

    exit_code = 3


class InputError(AuditorError):
    """Bad input from the user."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that is not known; the message lists the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        listing = ", ".join(known) if known else "none"
        super().__init__(f"unknown {kind} {name!r}: {hint}known: {listing}")


class ModelError(InputError):
    """A model that cannot be found, read, or that may not be loaded."""


class DataError(InputError):
    """A data file with a problem at a known place."""

    def __init__(self, path: object, line: int | None, problem: str) -> None:
        place = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{place}: {problem}")


class EngineError(AuditorError):
    """The model was loaded but its computation failed."""


class TrainingError(AuditorError):
    """A training run cannot go on; what was saved before stays."""


class StoreError(AuditorError):
    """The database or journal cannot be opened, read or written."""


class StoreLockedError(StoreError):
    """Another process holds the database or the run's journal."""
