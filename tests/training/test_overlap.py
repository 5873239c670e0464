"""Whether pairs that would measure a model are among those that it learned from: of a part of the set, from another file, of a set too large to list."""

from __future__ import annotations

import dataclasses
import json

import pytest

from auditor.models.identity import LINEAGE
from auditor.schema import ModelSpec, Preference, user
from auditor.training import reward
from auditor.training.core.overlap import SIZE, known_whole, learned_from, shares_a_pair, sketches_of
from auditor.training.core.stage import StageRun
from auditor.training.core.validation import trained_on
from auditor.training.core.world import World
from auditor.training.data import data_hash, load_preferences
from auditor.training.pipeline import train
from auditor.training.recipe import read_recipe


def pair(number, **changes):
    return dataclasses.replace(Preference(id=f"p{number}", prompt=(user(f"Ask {number}"),), chosen=f"yes {number}", rejected=f"no {number}",
                                          cluster_id=f"c{number}"), **changes)


PAIRS = [pair(n) for n in range(40)]


def test_a_pair_is_told_by_its_texts_alone():
    known = [learned_from(PAIRS, PAIRS[:20])]
    assert shares_a_pair([PAIRS[3]], known)
    assert not shares_a_pair(PAIRS[20:], known)
    other = pair(3, id="another", cluster_id="moved", label=0.2, chosen="no 3 ", rejected="yes 3", margin=2.0)
    assert shares_a_pair([other], known)
    for changed in (pair(3, chosen="yes, 3"), pair(3, prompt=(user("Ask 3!"),)), pair(3, rejected="yes 3", chosen="yes 3")):
        assert not shares_a_pair([changed], known)
    # What stands where one text ends and the next begins is no matter of chance.
    assert not shares_a_pair([Preference(id="x", prompt=(user("a"),), chosen="b", rejected="cd", cluster_id="x")],
                             [learned_from([], [Preference(id="x", prompt=(user("a"),), chosen="bc", rejected="d", cluster_id="x")])])


def test_of_a_large_set_the_smallest_hashes_are_kept_and_it_is_not_known_whole():
    many = [pair(n) for n in range(5 * SIZE)]
    entry = learned_from(many, many)
    assert len(entry["pairs"]) == SIZE * 8
    assert entry["pairs"] == learned_from(many, many[::-1])["pairs"]
    found = sum(shares_a_pair([item], [entry]) for item in many)
    assert found == SIZE  # each one recognised or not, a fifth of them
    assert shares_a_pair(many[:60], [entry])  # 60 are missed with .8^60, one in 650,000
    assert not shares_a_pair([pair(n) for n in range(5 * SIZE, 10 * SIZE)], [entry])
    digest = data_hash(many)
    assert not known_whole(digest, [entry])
    assert known_whole(digest, [learned_from(many, many[:SIZE - 1])])
    assert not known_whole(digest, [learned_from(many, many[:9]), entry])
    assert not known_whole(digest, [learned_from(PAIRS, PAIRS)])


@pytest.mark.parametrize("broken", [None, 7, "no base64!", "é", [], {}])
def test_a_sketch_that_cannot_be_read_knows_nothing(broken):
    entry = {"data": data_hash(PAIRS), "pairs": broken}
    assert not shares_a_pair(PAIRS, [entry])
    spec = ModelSpec(uri="m", lineage={"method": "dpo", "history": ["dpo"], "data_hashes": {"x": data_hash(PAIRS)}, "data_sketches": [entry, "odd"]})
    assert trained_on(PAIRS, PAIRS[:5], spec) is not isinstance(broken, str)


@pytest.mark.parametrize(("entries", "listed", "seen"), [
    ([learned_from(PAIRS, PAIRS[10:])], True, False),  # the held-out ones were left alone
    ([learned_from(PAIRS, PAIRS[5:])], True, True),  # another split
    ([learned_from(PAIRS[:20], PAIRS[:20])], False, True),  # a part of the set
    ([learned_from(PAIRS[20:], PAIRS[20:])], False, False),  # the other part
    ([learned_from(PAIRS, PAIRS[10:]), learned_from(PAIRS, PAIRS)], True, True),  # a second stage that held nothing out
    ([learned_from(PAIRS, ())], True, False),  # measured, never learned from
    ([{"data": data_hash(PAIRS), "pairs": None}], True, True)])  # a stage from before there were sketches
@pytest.mark.parametrize("method", ["labeller", "dpo"])
def test_the_pairs_that_measure_are_held_against_those_that_taught(entries, listed, seen, method):
    hashes = {"pairs.jsonl": data_hash(PAIRS)} if listed else {"part": "other"}
    spec = ModelSpec(uri="m", lineage={"method": method, "history": ["dpo", method], "data_hashes": hashes, "data_sketches": entries})
    assert trained_on(PAIRS, PAIRS[:10], spec) is seen


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"id": item.id, "cluster_id": item.cluster_id, "prompt": item.prompt[0].content, "chosen": item.chosen, "rejected": item.rejected}
            for item in PAIRS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_stages_tell_what_they_learned_from_and_lineages_add_up(tiny_checkpoint, file, tmp_path):
    """A policy that dpo taught one part: a reward model on it is measured on the other part, not on that one, nor on the whole set."""
    recipe = tmp_path / "two.toml"
    recipe.write_text(f'''model = "{tiny_checkpoint}"
[[stage]]
method = "dpo"
data = "{file}?part=1/2"
max_steps = 1
[[stage]]
method = "reward"
data = "{file}?part=2/2"
max_steps = 1
held_out = 0.4
''')
    outcomes = train(read_recipe(str(recipe)), tmp_path / "run")
    assert "seen_in_training" not in outcomes[1].measured
    parts = [load_preferences(f"{file}?part={part}/2") for part in (1, 2)]
    lineage = json.loads((outcomes[1].path / LINEAGE).read_text())
    taught = sketches_of(lineage)
    assert [entry["data"] for entry in taught] == [data_hash(part) for part in parts]
    assert all(shares_a_pair([item], taught) for item in parts[0])
    left = [item for item in parts[1] if not shares_a_pair([item], taught)]
    assert len(left) == outcomes[1].measured["n"]  # what the reward model was measured on
    assert not trained_on(PAIRS, left, ModelSpec(uri="m", lineage=lineage))
    common = {"max_steps": 1, "batch_size": 2, "held_out": 0.4, "model": str(outcomes[0].path)}
    for data, seen in ((file, True), (f"{file}?part=1/2", True), (f"{file}?part=2/2", False)):
        folder = tmp_path / f"reward-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        measured = reward.train(reward.Config(data=data, **common), StageRun(name="reward", folder=folder, world=World())).measured
        assert measured.get("seen_in_training", False) is seen, data
