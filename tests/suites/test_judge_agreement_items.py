"""The shipped pairs: many, balanced, short, varied, and not those of public files."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from auditor.suites.judge_agreement import SUITE

SHIPPED = SUITE.load(None)
WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    return WORD.findall(re.sub(r"\\[nrt\"]", " ", text).lower())


def test_items_are_many_and_in_small_clusters() -> None:
    clusters = Counter(sample.cluster_id for sample in SHIPPED)
    assert len(SHIPPED) >= 200
    assert len({sample.id for sample in SHIPPED}) == len(SHIPPED)
    assert len(clusters) >= 50
    assert max(clusters.values()) <= 5
    assert all(sample.source == "shipped" for sample in SHIPPED)


def test_gold_and_length_are_balanced_and_unrelated() -> None:
    longer = {sample.id: (len(sample.choices[0]) > len(sample.choices[1])) == (sample.target == "a") for sample in SHIPPED}
    cells = Counter((sample.target, longer[sample.id]) for sample in SHIPPED)
    assert set(cells) == {("a", True), ("a", False), ("b", True), ("b", False)}
    assert max(cells.values()) - min(cells.values()) <= 0.05 * len(SHIPPED)
    assert all(len(sample.choices[0]) != len(sample.choices[1]) for sample in SHIPPED)
    for cluster in {sample.cluster_id for sample in SHIPPED}:
        assert {sample.target for sample in SHIPPED if sample.cluster_id == cluster} == {"a", "b"}


def test_kinds_topics_and_languages() -> None:
    for facet, least in (("kind", 8), ("topic", 10), ("language", 4)):
        counts = Counter(sample.metadata["group"][facet] for sample in SHIPPED)
        assert len(counts) >= least
        if facet != "topic":
            assert min(counts.values()) >= 10
    languages = Counter(sample.metadata["group"]["language"] for sample in SHIPPED)
    assert 0.8 < languages["en"] / len(SHIPPED) < 0.95


def test_items_are_short() -> None:
    lengths = [len(words(sample.messages[0].content + " " + " ".join(sample.choices))) for sample in SHIPPED]
    assert max(lengths) <= 45
    assert np.mean(lengths) < 30


def test_no_two_items_are_near_duplicates() -> None:
    bags = [set(words(sample.messages[0].content + " " + " ".join(sample.choices))) for sample in SHIPPED]
    prompts = [sample.messages[0].content for sample in SHIPPED]
    assert len(set(prompts)) == len(prompts)
    nearest = max(len(bags[i] & bags[j]) / len(bags[i] | bags[j]) for i in range(len(bags)) for j in range(i))
    assert nearest < 0.8


def public_texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", errors="ignore") as handle:
                yield handle.read()
        elif path.suffix in (".json", ".jsonl", ".csv", ".txt"):
            yield path.read_text(encoding="utf-8", errors="ignore")


def test_no_eight_words_in_a_row_are_in_a_public_file(shared_data: Path) -> None:
    ours = {gram: sample.id for sample in SHIPPED for text in (sample.messages[0].content, *sample.choices)
            for gram in zip(*(words(text)[start:] for start in range(8)), strict=False)}
    shared = {ours[gram]: gram for text in public_texts(shared_data) for found in [words(text)]
              for gram in zip(*(found[start:] for start in range(8)), strict=False) if gram in ours}
    assert shared == {}
