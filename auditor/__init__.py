"""Audit language models: run suites on a model, keep every score in DuckDB, decide by intervals, report.

>>> import auditor
>>> store = auditor.open("auditor.duckdb")      # doctest: +SKIP
>>> store.metrics_frame("latest")                # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auditor.store import Store

__all__ = ["open"]


def open(db: str | Path) -> Store:
    """Open a database of runs for reading: metrics, samples and scores as pandas frames, runs, verdicts, transcripts.

    Raises InputError where there is no such file and StoreError where it cannot be read.
    """
    from auditor.store import Store

    return Store.open(Path(db))
