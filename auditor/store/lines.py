"""What a journal line looks like, and what may not stand in one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from auditor.errors import InputError
from auditor.schema import Sample
from auditor.store.codec import Columns

T = TypeVar("T")

_ROWS_PER_LINE = 2000


def build(table: str, columns: Columns, **constant: str) -> dict[str, Any]:
    """A journal line: a batch of one table's rows, column-wise, with the columns that are the same in every row apart."""
    n = len(next(iter(columns.values()), ()))
    varying = {name: column for name, column in columns.items() if name not in constant}
    return {"table": table, "n": n, "constant": constant, "columns": varying}


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Parts of at most as many items as one journal line holds."""
    return (items[start:start + _ROWS_PER_LINE] for start in range(0, len(items), _ROWS_PER_LINE))


def grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    """The items of each key, in their order."""
    groups: dict[str, list[T]] = {}
    for key, item in pairs:
        groups.setdefault(key, []).append(item)
    return groups


def not_finite(records: Sequence[Mapping[str, Any]]) -> str:
    """Names the first number that is NaN or infinite, with the row it stands in."""
    for line in records:
        columns = line.get("columns", {})
        for name, column in columns.items():
            for row, value in enumerate(column):
                if isinstance(value, float) and not math.isfinite(value):
                    who = [str(columns[key][row]) for key in ("sample_id", "scorer", "name", "metric") if key in columns]
                    return f"{line['table']} {' '.join(who)}: {name} is {value}, where a finite number or None is expected"
    return ""


def refuse_surrogates(suite: str, samples: Sequence[Sample]) -> None:
    """Ids must survive storing unchanged, or replies would not be found again."""
    for sample in samples:
        try:
            sample.id.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"suite {suite}: the sample id {sample.id!r} is not valid Unicode text; give it another id") from None
