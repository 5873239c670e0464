"""Every suite's shipped items: enough of them, in enough clusters, no copies of each other or of public data."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest

from auditor.engine.suites import load_suite, suite_names

NAMES = suite_names()
NGRAM = 8


@cache
def samples(name):
    return tuple(load_suite(name).load(None))


def words(text):
    return re.findall(r"[\w'’]+", text.lower())


def shipped_rows(name):
    path = Path(__file__).resolve().parents[2] / "suites" / "data" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def content(row):
    """The words of an item's own texts: short strings are labels."""
    labels = ("id", "cluster_id", "cluster", "source", "topic", "group", "type")
    return frozenset(words(" ".join(text for key, value in row.items() if key not in labels for text in strings(value) if len(text) > 12)))


@pytest.mark.parametrize("name", NAMES)
def test_enough_items_in_enough_small_clusters(name):
    clusters = Counter(sample.cluster_id for sample in samples(name))
    assert len(samples(name)) >= 200
    assert len(clusters) >= 50
    assert max(clusters.values()) <= 5
    assert len({sample.id for sample in samples(name)}) == len(samples(name))


@pytest.mark.parametrize("name", NAMES)
def test_right_options_are_balanced(name):
    """Where an item has lettered choices and a right one, no place holds much more than its share."""
    by_choices = {}
    for sample in samples(name):
        if len(sample.choices) >= 2 and sample.target in sample.choices:
            by_choices.setdefault((sample.metadata.get("task"), sample.choices), []).append(sample.choices.index(sample.target))
    for (task, choices), places in by_choices.items():
        if len(places) >= 40:
            counts = Counter(places)
            for place in range(len(choices)):
                assert abs(counts[place] / len(places) - 1 / len(choices)) <= 0.1, f"{name}/{task}: {counts}"


@pytest.mark.parametrize("name", NAMES)
def test_no_two_items_are_nearly_the_same(name):
    """Jaccard similarity of word sets below 0.8 between items of different clusters."""
    clusters = {sample.id: sample.cluster_id for sample in samples(name)}
    found = [(row["id"], content(row)) for row in shipped_rows(name)]
    assert all(texts for _, texts in found)
    for (one, first), (two, second) in combinations(found, 2):
        if clusters[one] != clusters[two]:
            assert len(first & second) < 0.8 * len(first | second), f"{one} ~ {two}"


@cache
def public_ngrams(folder: Path):
    """All word 8-grams of the public files."""
    found = set()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".csv", ".json", ".jsonl", ".gz", ".txt") and path.parent.name != "tinyshakespeare":
            for text in texts(path):
                tokens = words(text)
                found.update(hash(tuple(tokens[place:place + NGRAM])) for place in range(len(tokens) - NGRAM + 1))
    return found


def texts(path):
    csv.field_size_limit(10**8)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8", newline="") as lines:
        if path.suffix == ".csv":
            for row in csv.reader(lines):
                yield from row
        elif path.suffix == ".json":
            yield from strings(json.load(lines))
        elif path.suffix == ".txt":
            yield lines.read()
        else:
            for line in lines:
                yield from strings(json.loads(line)) if line.strip() else ()


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@pytest.mark.parametrize("name", NAMES)
def test_no_overlap_with_public_data(name, shared_data):
    public = public_ngrams(shared_data)
    assert len(public) > 100_000
    for row in shipped_rows(name):
        for text in strings(row):
            tokens = words(text)
            for place in range(len(tokens) - NGRAM + 1):
                assert hash(tuple(tokens[place:place + NGRAM])) not in public, f"{name}: {' '.join(tokens[place:place + NGRAM])!r} is in the public data"


@pytest.mark.parametrize("name", NAMES)
def test_criteria_have_source_and_rationale_and_their_metric_exists(name):
    suite = load_suite(name)
    for criterion in suite.criteria:
        assert criterion.metric.startswith(f"{name}.")
        assert criterion.source
        assert len(criterion.rationale) > 20
    for field in ("title", "question", "method", "limits", "reference", "feedback_stage"):
        assert getattr(suite, field).strip()
