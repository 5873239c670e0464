"""Where training data comes from: a source string in, rows with their places out.

    shipped:NAME                 the package's own files (``shipped:preferences``, ``shipped:organisms/collapsed``)
    FILE.jsonl, .jsonl.gz, .parquet
    FILE.csv, .json              labelled pairs in the forms that the judge agreement suite reads (Tulu, LLMBar)
    hf:org/name[:split]          a data set on the Hugging Face hub, read from its Parquet files

Options follow a question mark, as in ``shipped:preferences?kind=refusal&swap=1``; :class:`Options` lists them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from auditor.errors import DataError, InputError, UnknownNameError
from auditor.items import read_jsonl
from auditor.training.hub import dataset_files

FORMS = "shipped:NAME, a .jsonl, .jsonl.gz, .parquet or .csv file, or hf:org/name[:split]"
REMEDY = "correct or remove the row, or add ?skip=1 to leave such rows out"


@dataclass(frozen=True, slots=True)
class Options:
    """What may follow the question mark of a source.

    ``kind``, ``side``: keep rows whose metadata says so (several, with commas). ``swap=1``: exchange chosen and rejected, to plant the
    fault that a set removes. ``field=rejected``: the reply of a pair that becomes a demonstration. ``format``: the shape of the rows
    where it should not be guessed. ``skip=1``: leave bad rows out, with a warning that counts them. ``config``: of a hub data set.
    ``part=1/2``: keep the topics of the first of two parts, which have none in common; a topic's part is the hash of its cluster id.
    """

    kind: frozenset[str] = frozenset()
    side: frozenset[str] = frozenset()
    swap: bool = False
    field: str = "chosen"
    format: str = ""
    skip: bool = False
    config: str = ""
    part: tuple[int, int] | None = None

    def keeps(self, cluster_id: str, metadata: Mapping[str, Any]) -> bool:
        """Whether a row of this topic and these fields is asked for."""
        if (self.kind and metadata.get("kind") not in self.kind) or (self.side and metadata.get("side") not in self.side):
            return False
        return self.part is None or int.from_bytes(hashlib.sha256(f"part:{cluster_id}".encode()).digest()[:7]) % self.part[1] == self.part[0] - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file, at its place; its readers complain with the place."""

    path: str
    line: int | None
    data: Mapping[str, Any] = field(repr=False)

    def fail(self, problem: str) -> NoReturn:
        raise DataError(self.path, self.line, problem)

    def text(self, name: str) -> str:
        """A string with something in it. Raises DataError otherwise."""
        if self.data.get(name) is None:
            self.fail(f"missing field {name!r}; the row has {', '.join(map(str, self.data)) or 'no field'}")
        value = self.data[name]
        if not isinstance(value, str):
            self.fail(f"{name!r} is {shown(value)}, where a string is expected")
        if not value.strip():
            self.fail(f"{name!r} is empty; {REMEDY}")
        return value

    def number(self, name: str, default: float, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number within the bounds; ``default`` where the field is absent. Raises DataError otherwise."""
        value = self.data.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            bounds = f" from {low:g} to {high:g}" if math.isfinite(low) else ""
            self.fail(f"{name!r} is {shown(value)}, where a number{bounds} is expected")
        return float(value)


def shown(value: Any) -> str:
    """A value for an error message, cut to 60 characters."""
    text = repr(value)
    return f"{text[:57]}..." if len(text) > 60 else text


def parse(source: str) -> tuple[str, Options]:
    """A source without its options, and the options. Raises InputError where an option or its value is not known."""
    place, mark, query = source.rpartition("?")
    if not mark or Path(source).exists():
        return source, Options()
    known = [option.name for option in dataclasses.fields(Options)]
    chosen: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise UnknownNameError("option of a data source", name, known)
        if name in chosen:
            raise InputError(f"{source}: {name} stands twice; write it once")
        if name in ("swap", "skip") and value not in ("0", "1"):
            raise InputError(f"{source}: {name}={value}; write {name}=1 or leave it out")
        if name == "field" and value not in ("chosen", "rejected"):
            raise InputError(f"{source}: field={value}; write field=chosen or field=rejected")
        chosen[name] = _value(source, name, value)
    return place, Options(**chosen)


def _value(source: str, name: str, value: str) -> Any:
    if name in ("swap", "skip"):
        return value == "1"
    if name in ("kind", "side"):
        return frozenset(value.split(","))
    if name == "part":
        found = re.fullmatch(r"([1-9]\d{0,3})/([1-9]\d{0,3})", value, re.ASCII)
        part, parts = map(int, found.groups()) if found else (1, 0)
        if part > parts:
            raise InputError(f"{source}: part={value}; write part=1/2 for the first of two parts")
        return part, parts
    return value


def read_rows(place: str, config: str = "") -> Iterator[Row]:
    """The rows of a source that has been parsed. Raises InputError where it cannot be found or read, DataError at a bad line."""
    if place.startswith("hf:"):
        for path in dataset_files(place.removeprefix("hf:"), config):
            yield from _read_file(path, f"{place}/{path.name}")
    elif place.startswith("shipped:"):
        path = shipped(place.removeprefix("shipped:"))
        yield from _read_file(path, path.name)
    else:
        yield from _read_file(Path(place).expanduser(), place)


def shipped(name: str) -> Path:
    """Path of one of the package's own files. Raises UnknownNameError."""
    folder = Path(str(resources.files("auditor.training") / "data"))
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.jsonl"))}
    if name not in known:
        raise UnknownNameError("shipped data set", name, known)
    return known[name]


def _read_file(path: Path, label: str) -> Iterator[Row]:
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        for line, data in read_jsonl(path):
            yield Row(label, line, data)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path, label)
    elif not path.is_file():
        raise InputError(f"no data source {label!r}; pass {FORMS}")
    elif path.suffix.lower() in (".csv", ".json"):
        yield from _read_votes(path, label)
    else:
        raise InputError(f"{label}: no known kind of file; pass {FORMS}")


def _read_parquet(path: Path, label: str) -> Iterator[Row]:
    """Rows are counted from 1."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        if not table.metadata.num_rows:
            raise InputError(f"{label} holds no rows")
        line = 0
        for batch in table.iter_batches(batch_size=1024):
            for data in batch.to_pylist():
                line += 1
                yield Row(label, line, data)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"cannot read {label}: {error}; pass a Parquet file") from None


def _read_votes(path: Path, label: str) -> Iterator[Row]:
    """Pairs with people's votes; the soft label is their mean (a tie counts half). Pairs that nobody judged are left out."""
    from auditor.judges.formats import load_pairs

    weight = {"a": 1.0, "tie": 0.5, "b": 0.0}
    for sample in load_pairs(path):
        votes = [weight[vote] for vote in sample.metadata["humans"].values()]
        if votes:
            share = sum(votes) / len(votes)
            first, second = sample.choices if share >= 0.5 else sample.choices[::-1]
            prompt = [{"role": message.role, "content": message.content} for message in sample.messages]
            yield Row(f"{label}, item {sample.id}", None, {"id": sample.id, "cluster_id": sample.cluster_id, "prompt": prompt, "chosen": first,
                                                           "rejected": second, "label": max(share, 1 - share), "labeller": f"{len(votes)} people"})
