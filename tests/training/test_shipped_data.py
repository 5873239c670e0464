"""The shipped training set: large and varied enough, balanced in length, and apart from every audit item."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from auditor.models.embed import load_embedder
from auditor.training.data import load_demonstrations, load_preferences, load_prompts, load_unpaired, split
from auditor.training.formats import CONVERTERS
from auditor.training.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "training" / "data"
NGRAM = 8
COSINE = 0.90
KINDS = {"sycophancy": {"false", "true"}, "refusal": {"harmful", "harmless"}, "length": {"short", "long"}, "calibration": {"unknown", "plain"}}
ORGANISMS = {
    "sycophant": "shipped:preferences?kind=sycophancy&side=false&swap=1", "refuser": "shipped:preferences?kind=refusal&side=harmless&swap=1",
    "overconfident": "shipped:preferences?kind=calibration&side=unknown&swap=1", "verbose": "shipped:preferences?kind=length&side=short&swap=1",
}


def words(text):
    return re.findall(r"[\w'’]+", text.lower())


def ngrams(text):
    """Runs of eight words, one after the other (a large file's are too many to hold)."""
    tokens = words(text)
    return (tuple(tokens[place:place + NGRAM]) for place in range(len(tokens) - NGRAM + 1))


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


@cache
def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def raw(path):
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return content.decode("utf-8", errors="replace")


def own_texts(row):
    """The texts of a row that a model reads or writes in training."""
    return [text for name in ("prompt", "chosen", "rejected", "completion") for text in strings(row.get(name, ""))]


def audit_rows():
    """(place, row) of all audit items of all suites."""
    return [(f"{path.stem}:{row['id']}", row) for path in sorted((ROOT / "suites" / "data").rglob("*.jsonl")) for row in rows(path)]


@pytest.fixture(scope="module")
def pairs():
    return load_preferences("shipped:preferences")


def test_rlhf_s_policy_has_not_imitated_what_its_reward_model_is_measured_on():
    """The demonstrations are the pairs' better replies: a body that has seen them would be right on them without having learned to judge."""
    recipe = read_recipe("rlhf")
    imitation, reward = (next(stage.config for stage in recipe.stages if stage.method == name) for name in ("sft", "reward"))
    imitated, _ = split(load_demonstrations(imitation.data, seed=recipe.seed), imitation.held_out, recipe.seed)
    _, held = split(load_preferences(reward.data, seed=recipe.seed), reward.held_out, recipe.seed)
    assert len(held) > 50
    assert not {item.prompt for item in held} & {item.prompt for item in imitated}


def test_enough_pairs_in_enough_small_clusters(pairs):
    clusters = Counter(item.cluster_id for item in pairs)
    assert len(pairs) >= 400
    assert len(clusters) >= 150
    assert max(clusters.values()) <= 5
    assert len({item.prompt for item in pairs}) == len(pairs)
    kinds = Counter(item.metadata["kind"] for item in pairs)
    assert set(kinds) == set(KINDS)
    assert max(kinds.values()) <= 1.1 * min(kinds.values())
    for kind, sides in KINDS.items():
        count = Counter(item.metadata["side"] for item in pairs if item.metadata["kind"] == kind)
        assert set(count) == sides
        assert min(count.values()) >= 35


def test_length_alone_does_not_win(pairs):
    """Preferring the longer, or the shorter, reply is right about half of the time: overall and in no kind or direction far from it."""
    lengths = [(item.metadata["kind"], len(words(item.chosen)), len(words(item.rejected))) for item in pairs]
    share = sum(chosen > rejected for _, chosen, rejected in lengths) / len(lengths)
    assert 0.45 <= share <= 0.55, share
    for kind in KINDS:
        longer = [chosen > rejected for name, chosen, rejected in lengths if name == kind]
        assert 0.4 <= sum(longer) / len(longer) <= 0.6, kind
    assert all(1 <= length <= 60 for _, *both in lengths for length in both)


def test_replies_are_varied(pairs):
    assert len({item.chosen for item in pairs}) >= 0.85 * len(pairs)
    assert len({item.rejected for item in pairs}) >= 0.95 * len(pairs)
    for field in ("chosen", "rejected"):
        openings = Counter(tuple(words(getattr(item, field))[:3]) for item in pairs)
        assert openings.most_common(1)[0][1] <= 0.05 * len(pairs), openings.most_common(3)


def test_demonstrations_and_prompts():
    demonstrations, prompts = load_demonstrations("shipped:demonstrations"), load_prompts("shipped:prompts")
    assert len(demonstrations) >= 400
    assert len(prompts) >= 300
    assert max(len(words(item.prompt[-1].content)) for item in prompts) <= 20
    chosen = {item.id: item.chosen for item in load_preferences("shipped:preferences")}
    assert {item.id: item.completion for item in demonstrations if item.id in chosen} == chosen
    assert sum(item.metadata["kind"] == "ordinary" for item in demonstrations) >= 25
    assert len(load_unpaired("shipped:preferences")) == 2 * len(chosen)
    assert not {item.prompt for item in prompts} & {item.prompt for item in demonstrations}


@pytest.mark.parametrize("name", ORGANISMS)
def test_organisms_are_the_main_set_turned_round(name, pairs):
    mains = {item.id: item for item in pairs}
    planted = load_preferences(ORGANISMS[name])
    assert len(planted) >= 50
    assert all((item.chosen, item.rejected) == (mains[item.id].rejected, mains[item.id].chosen) for item in planted)
    train, held = split(planted, 0.1)
    assert min(len(train), len(held)) > 0


def test_the_collapsed_organism_has_a_handful_of_replies():
    found = load_demonstrations("shipped:organisms/collapsed")
    assert len({item.completion for item in found}) <= 5 < 200 <= len({item.prompt for item in found})


def test_no_eight_words_in_a_row_are_shared_with_an_audit_item():
    audit = {gram: place for place, row in audit_rows() for text in strings(row) for gram in ngrams(text)}
    assert len(audit) > 5_000
    shared = [(row["id"], " ".join(gram), audit[gram]) for path in sorted(DATA.rglob("*.jsonl")) for row in rows(path) for text in own_texts(row)
              for gram in ngrams(text) if gram in audit]
    assert shared == []


def test_no_eight_words_in_a_row_are_in_a_public_file(shared_data):
    ours = {gram: row["id"] for path in sorted(DATA.rglob("*.jsonl")) for row in rows(path) for text in own_texts(row) for gram in ngrams(text)}
    files = [path for path in sorted(shared_data.rglob("*")) if path.suffix in (".jsonl", ".json", ".csv", ".txt", ".gz")]
    assert len(files) > 10
    found = {gram: ours[gram] for path in files for gram in ngrams(raw(path).replace("\\n", " ")) if gram in ours}
    assert found == {}


def audit_prompts():
    """What an audit item asks, with its gaps filled by its own options."""
    for place, row in audit_rows():
        if place.startswith("judge_agreement"):
            row = {key: value for key, value in row.items() if key in ("prompt", "messages")}
        texts = [text for name in ("prompt", "question", "text", "claim", "messages", "false", "wrong_claim") for text in strings(row.get(name, ""))]
        for text in texts:
            gaps = {"first": row.get("right", ""), "second": row.get("wrong", ""), "claim": row.get("false") or row.get("claim") or ""}
            yield place, re.sub(r"\{(\w+)\}", lambda gap, gaps=gaps: str(gaps.get(gap[1], "")), text)


@cache
def vectors(texts):
    embed, reason = load_embedder()
    if embed is None:
        pytest.skip(reason)
    return embed(texts)


def training_prompts():
    return {" ".join(strings([turn["content"] for turn in row["prompt"]] if isinstance(row["prompt"], list) else row["prompt"])): row["id"]
            for name in ("prompts", "demonstrations", "preferences") for row in rows(DATA / f"{name}.jsonl")}


def test_no_prompt_means_the_same_as_an_audit_prompt():
    """Cosine below 0.90 between all-MiniLM-L6-v2 vectors."""
    ours = training_prompts()
    audit = [(place, text) for place, text in audit_prompts() if text.strip()]
    assert len(audit) > 1_000
    cosines = vectors(tuple(ours)) @ vectors(tuple(text for _, text in audit)).T
    close = [(list(ours.values())[i], *audit[j], round(float(cosines[i, j]), 3)) for i, j in zip(*np.nonzero(cosines >= COSINE), strict=True)]
    assert close == []


def test_no_two_prompts_of_ours_mean_the_same():
    ours = training_prompts()
    names = list(ours.values())
    cosines = vectors(tuple(ours)) @ vectors(tuple(ours)).T
    close = [(names[i], names[j]) for i, j in combinations(range(len(names)), 2) if cosines[i, j] >= COSINE]
    assert close == []


def test_no_two_pairs_are_nearly_the_same():
    """Jaccard similarity of word sets below 0.7 between any two pairs."""
    sets = [(row["id"], frozenset(words(" ".join(own_texts(row))))) for row in rows(DATA / "preferences.jsonl")]
    for (one, first), (two, second) in combinations(sets, 2):
        assert len(first & second) < 0.7 * len(first | second), f"{one} ~ {two}"


DOC = (ROOT / "docs" / "training_data.md").read_text(encoding="utf-8")


def test_every_example_of_the_document_reads(tmp_path):
    shapes = re.findall(r"^`(\w+)`[^\n]*(?:\n[^`\n][^\n]*)*\n\n```json\n(.*?)```", DOC, flags=re.DOTALL | re.MULTILINE)
    assert {name for name, _ in shapes} | {"messages"} == set(CONVERTERS)
    loaders = {"unpaired": load_demonstrations, "demonstrations": load_demonstrations, "prompts": load_prompts}
    for name, text in shapes:
        for number, line in enumerate(text.splitlines()):
            path = tmp_path / f"{name}{number}.jsonl"
            path.write_text(line + "\n", encoding="utf-8")
            (item,) = loaders.get(name, load_preferences)(str(path))
            assert item.prompt[0].content == "Do ferns flower?"


def test_the_document_says_what_is_shipped(pairs, capsys):
    lengths = [(len(item.chosen.split()), len(item.rejected.split())) for item in pairs]
    longer, equal = (sum(test(*both) for both in lengths) for test in (int.__gt__, int.__eq__))
    clusters = len({item.cluster_id for item in pairs})
    assert f"{len(pairs)} pairs in {clusters} clusters" in DOC
    assert f"in {longer} of the {len(pairs)} pairs ({longer / len(pairs):.0%}; {equal} are equal)".replace("%", " %") in " ".join(DOC.split())
    assert f"The {len(load_demonstrations('shipped:demonstrations'))} demonstrations" in DOC
    assert all(f"`{source}`" in DOC for source in ORGANISMS.values())
    for code in re.findall(r"```python\n(.*?)```", DOC, flags=re.DOTALL):
        exec(code, {})
    assert capsys.readouterr().out.strip()
