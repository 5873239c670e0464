"""Reading item files: JSON lines in, plain dictionaries out, with the line number in every complaint."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from auditor.errors import DataError, InputError

LABELS = ("id", "cluster", "cluster_id", "task", "kind", "form", "label", "register", "first")


def shipped(suite: str) -> Path:
    """Path of a suite's own items inside the installed package."""
    return Path(str(resources.files("auditor.suites") / "data" / f"{suite}.jsonl"))


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a file, which may be gzipped (``.gz``). Blank lines are skipped.

    Raises InputError where the file is absent, unreadable or has no object at all, and DataError naming the line where one is not a JSON object.
    """
    seen = False
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = _parsed(path, number, line)
                if not isinstance(row, dict):
                    raise DataError(path, number, f"a JSON {type(row).__name__}, where an object is expected")
                seen = True
                _check_labels(path, number, row)
                yield number, row
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; pass a UTF-8 JSONL file") from None
    if not seen:
        raise InputError(f"{path} holds no items; one JSON object a line is expected")


def _parsed(path: Path, number: int, line: str) -> Any:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise DataError(path, number, f"not JSON ({error.msg} at column {error.colno}); one JSON object a line is expected") from None
    except UnicodeEncodeError:
        raise DataError(path, number, "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character; write the whole character") from None
    except (RecursionError, ValueError) as error:
        raise DataError(path, number, f"cannot be read as JSON: {type(error).__name__}; nest less deeply and write shorter numbers") from None
    return row


def _check_labels(path: Path, number: int, row: Mapping[str, Any]) -> None:
    """Fields by which suites look things up must be single values: a list or an object is no key."""
    for name in LABELS:
        if isinstance(row.get(name), (list, dict)):
            raise DataError(path, number, f"{name!r} is {json.dumps(row[name], ensure_ascii=False)[:60]}; a text is expected")


def require(row: Mapping[str, Any], fields: Sequence[str], path: Path, line: int) -> None:
    """Raise DataError unless every field is present and not None."""
    missing = [name for name in fields if row.get(name) is None]
    if missing:
        raise DataError(path, line, f"missing field {missing[0]!r}; an item needs {', '.join(fields)}")


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
