"""The store: one DuckDB file of runs, and a journal beside it for each run that is not finished."""

from auditor.store.queries import Store
from auditor.store.records import StoredRun, Transcript
from auditor.store.writer import RunWriter

__all__ = ["RunWriter", "Store", "StoredRun", "Transcript"]
