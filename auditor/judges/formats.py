"""Files of labelled pairs of answers, read into samples. One reader a format; the format is detected.

    pairs JSONL     ours, and the form of recorded studies, one object a line:
                    {"id": …, "prompt": … or "messages": […], "a": …, "b": …, "humans": {"name": "a|b|tie"},
                     "judges": {"name": {"ab": "a|b|tie or P(a)", "ba": …}}, "authors": {"a": model, "b": model},
                     "group": {"facet": "value"}, "cluster_id": …}
    dataset.json    LLMBar: an array of {"input", "output_1", "output_2", "label": 1 or 2}
    evaluators.json LLMBar's recorded judges; the dataset.json beside it is read too
    annotations.csv Tulu's human evaluation: one row per instance and annotator, five-level preference

Verdicts are always about the answers, never about places: "a" is answer a in both orders. Of repeated rows one is kept and
the others are counted; a row without a human label is kept, for what can be measured without one.

The samples' metadata: ``humans`` {rater: label}, ``judges`` {judge: {order: verdict}}, ``authors``, ``group`` {facet: value},
``duplicates``. ``target`` is the majority label, ``choices`` the answers (a, b).
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.errors import DataError, InputError
from auditor.items import read_jsonl, require
from auditor.judges.labels import Label, majority, read_label
from auditor.schema import Message, Sample, user

KNOWN = "a pairs JSONL file, LLMBar's dataset.json or evaluators.json, or a Tulu annotations CSV"
TULU_COLUMNS = ("instance_id", "prompt", "model_a", "model_b", "completion_a", "completion_b", "preference", "evaluator")
_TULU_SCALE: dict[str, int] = {"a-is-better": 2, "a-is-slightly-better": 1, "tie": 0, "b-is-slightly-better": -1, "b-is-better": -2}


def load_pairs(path: Path) -> list[Sample]:
    """Labelled pairs from any known format.

    Raises InputError where the file is unreadable, empty or of no known format, DataError naming the line or row of a bad one.
    """
    if path.suffix.lower() == ".csv":
        return read_tulu(path)
    start = _text(path).lstrip("\ufeff \t\r\n")
    if start.startswith("["):
        return read_llmbar(path)
    if start.startswith("{") and path.suffix.lower() == ".json" and _is_one_object(start):
        return read_llmbar_verdicts(path)
    return read_pairs(path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; pass {KNOWN}") from None


def _is_one_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


def _json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(path, error.lineno, f"not JSON ({error.msg} at column {error.colno}); pass {KNOWN}") from None
    if not isinstance(value, kind) or not value:
        raise InputError(f"{path} holds no items in a form that is known; pass {KNOWN}")
    return value


# -- ours -------------------------------------------------------------------------------------------------------------


def read_pairs(path: Path) -> list[Sample]:
    """The shipped items' format, which is that of recorded studies too."""
    samples: dict[str, Sample] = {}
    lines: dict[str, tuple[int, str]] = {}
    for line, row in read_jsonl(path):
        require(row, ("id", "a", "b"), path, line)
        name, content = str(row["id"]), json.dumps(row, sort_keys=True)
        if name in samples:
            if content != lines[name][1]:
                raise DataError(path, line, f"id {name!r} stands on line {lines[name][0]} already, with other content; rename one")
            samples[name] = _again(samples[name])
            continue
        samples[name] = _pair(path, line, row)
        lines[name] = (line, content)
    return list(samples.values())


def _pair(path: Path, line: int, row: Mapping[str, Any]) -> Sample:
    for field in ("a", "b"):
        if not isinstance(row[field], str):
            raise DataError(path, line, f"field {field!r} is {row[field]!r}; the text of an answer is expected")
    messages = _messages(path, line, row)
    tables = {field: _table(path, line, row, field) for field in ("humans", "judges", "authors", "group")}
    humans = {str(name): label for name, value in tables["humans"].items() if (label := _human(path, line, value)) is not None}
    for name, orders in tables["judges"].items():
        if not isinstance(orders, dict) or not set(orders) <= {"ab", "ba"}:
            raise DataError(path, line, f"judge {name!r} has {orders!r}; an object with its verdicts 'ab' and 'ba' is expected")
    metadata = {**tables, "humans": humans, "task": str(tables["group"].get("kind", "pairs")), "duplicates": 0}
    cluster = row.get("cluster_id") or _cluster(" ".join(message.content for message in messages))
    return Sample(id=str(row["id"]), messages=messages, cluster_id=str(cluster), target=majority(humans.values()),
                  choices=(row["a"], row["b"]), source=path.name, metadata=metadata)


def _messages(path: Path, line: int, row: Mapping[str, Any]) -> tuple[Message, ...]:
    if isinstance(row.get("prompt"), str):
        return (user(row["prompt"]),)
    turns = row.get("messages")
    known = isinstance(turns, list) and turns and all(isinstance(turn, dict) and {"role", "content"} <= set(turn) for turn in turns)
    if not known:
        raise DataError(path, line, "missing field 'prompt'; an item needs the text 'prompt', or 'messages' as a list of {role, content}")
    return tuple(Message(role=str(turn["role"]), content=str(turn["content"])) for turn in turns or [])


def _table(path: Path, line: int, row: Mapping[str, Any], field: str) -> dict[str, Any]:
    value = row.get(field) or {}
    if not isinstance(value, dict):
        raise DataError(path, line, f"field {field!r} is {value!r}; an object is expected")
    return value


def _human(path: Path, line: int | None, value: Any) -> Label | None:
    label = read_label(value)
    if label is None:
        raise DataError(path, line, f"human label {value!r}; a, b or tie is expected (empty where a person gave none)")
    return None if label in ("missing", "refused") else label  # type: ignore[return-value]


def _cluster(text: str) -> str:
    """Items with the same prompt are one cluster."""
    return "prompt-" + hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def _again(sample: Sample) -> Sample:
    return dataclasses.replace(sample, metadata={**sample.metadata, "duplicates": sample.metadata["duplicates"] + 1})


# -- LLMBar -----------------------------------------------------------------------------------------------------------


def read_llmbar(path: Path) -> list[Sample]:
    """LLMBar's dataset.json (Zeng et al. 2024, arXiv 2310.07641): ``label`` 1 or 2 names the better output.

    Raises DataError naming the row.
    """
    kept: dict[tuple[str | None, ...], Sample] = {}
    for sample in _llmbar(path):
        content = (sample.messages[0].content, *sample.choices, sample.target)
        kept[content] = _again(kept[content]) if content in kept else sample
    return list(kept.values())


def _llmbar(path: Path) -> list[Sample]:
    samples = []
    for index, row in enumerate(_json(path, list)):
        place = f"row {index} (counted from 0): "
        if not isinstance(row, dict):
            raise DataError(path, None, f"{place}a JSON {type(row).__name__}, where an object is expected")
        missing = [field for field in ("input", "output_1", "output_2") if not isinstance(row.get(field), str)]
        if missing:
            raise DataError(path, None, f"{place}missing field {missing[0]!r}; a row needs input, output_1, output_2 and label")
        label = read_label(row.get("label"))
        if label is None:
            raise DataError(path, None, f"{place}label {row['label']!r}; 1 or 2 is expected")
        samples.append(_llmbar_sample(path, index, row, None if label in ("missing", "refused") else label))  # type: ignore[arg-type]
    return samples


def _llmbar_sample(path: Path, index: int, row: Mapping[str, Any], label: Label | None) -> Sample:
    subset = path.resolve().parent.name
    humans = {} if label is None else {"gold": label}
    metadata = {"humans": humans, "judges": {}, "authors": {}, "group": {"subset": subset}, "task": subset, "duplicates": 0}
    return Sample(id=f"llmbar-{subset}-{index}", messages=(user(row["input"]),), cluster_id=_cluster(row["input"]), target=label,
                  choices=(row["output_1"], row["output_2"]), source=path.name, metadata=metadata)


def read_llmbar_verdicts(path: Path) -> list[Sample]:
    """LLMBar's items with the recorded verdicts of its judges: {judge: {"verdicts": [{"i", "noswap", "swap"}, …]}}.

    ``noswap`` and ``swap`` name the better *output* (1 or 2) with output_1, respectively output_2, shown first. Raises DataError naming
    the judge and row; InputError where no dataset.json lies beside it.
    """
    judges = _json(path, dict)
    if not all(isinstance(entry, dict) and isinstance(entry.get("verdicts"), list) for entry in judges.values()):
        raise InputError(f"{path} is a JSON object, but not one of recorded judges with 'verdicts'; pass {KNOWN}")
    items = dict(enumerate(_llmbar(path.with_name("dataset.json"))))
    for name, entry in judges.items():
        for row, verdict in enumerate(entry["verdicts"]):
            index = verdict.get("i") if isinstance(verdict, dict) else None
            if index not in items or not {"noswap", "swap"} <= set(verdict):
                problem = f"judge {name!r}, verdict {row} (counted from 0): {verdict!r}; i (a row of dataset.json), noswap, swap expected"
                raise DataError(path, None, problem)
            items[index].metadata["judges"][name] = {"ab": verdict["noswap"], "ba": verdict["swap"]}
    return list(items.values())


# -- Tulu -------------------------------------------------------------------------------------------------------------


def read_tulu(path: Path) -> list[Sample]:
    """Tulu's human evaluation (Wang et al. 2023, arXiv 2306.04751): the rows of one instance and pair of models are one item.

    The five levels become a, tie and b. Annotators saw the answers in either order: labels are turned to the order of the item's first
    row. Of several rows of one annotator the last counts. Raises DataError naming the line.
    """
    rows: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for line, row in _csv(path):
        if row["preference"].strip() not in (*_TULU_SCALE, ""):
            raise DataError(path, line, f"preference {row['preference']!r}; {', '.join(_TULU_SCALE)} or nothing is expected")
        models = sorted((row["model_a"], row["model_b"]))
        rows[(row["instance_id"], *models)].append(row)
    return [_tulu_sample(path, key, group) for key, group in rows.items()]


def _csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [column for column in TULU_COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise DataError(path, 1, f"no column {missing[0]!r}; pass {KNOWN}")
            empty = True
            for row in reader:
                if any(row.get(column) is None for column in TULU_COLUMNS):
                    raise DataError(path, reader.line_num, "a row with fewer columns than the header")
                empty = False
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; pass {KNOWN}") from None
    if empty:
        raise InputError(f"{path} holds no rows; one row per instance and annotator is expected")


def _tulu_sample(path: Path, key: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Sample:
    first = rows[0]
    scale: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: row.get("timestamp") or ""):
        preference = row["preference"].strip()
        if preference:
            scale[row["evaluator"]] = _TULU_SCALE[preference] * (1 if row["model_a"] == first["model_a"] else -1)
    humans: dict[str, Label] = {name: "a" if value > 0 else "b" if value < 0 else "tie" for name, value in scale.items()}
    group = {"models": " vs ".join(key[1:]), "margin": _margin(list(scale.values()))}
    metadata = {"humans": humans, "judges": {}, "authors": {"a": first["model_a"], "b": first["model_b"]}, "group": group,
                "task": "pairs", "duplicates": len(rows) - len({row["evaluator"] for row in rows})}
    choices = (first["completion_a"], first["completion_b"])
    return Sample(id=f"{first['instance_id']}:{key[1]}:{key[2]}", messages=(user(first["prompt"]),), cluster_id=first["instance_id"],
                  target=majority(humans.values()), choices=choices, source=path.name, metadata=metadata)


def _margin(values: Sequence[int]) -> str:
    if not values:
        return "unlabelled"
    strength = abs(sum(values) / len(values))
    return "clear" if strength >= 1.5 else "slight" if strength > 0 else "tie"
