"""Whether pairs that would measure a model are among those that it learned from: of a part of the set, from another file, of a set too large to list."""

from __future__ import annotations

import dataclasses
import json

import pytest

from auditor.models.identity import LINEAGE
from auditor.schema import Message, ModelSpec, Preference, user
from auditor.training import labeller, reward
from auditor.training.core.overlap import SIZE, known_whole, learned_from, shared, sketches_of
from auditor.training.core.stage import StageRun
from auditor.training.core.validation import unseen
from auditor.training.core.world import World
from auditor.training.data import data_hash, load_preferences, split
from auditor.training.pipeline import Options, train
from auditor.training.recipe import read_recipe


def pair(number, **changes):
    return dataclasses.replace(Preference(id=f"p{number}", prompt=(user(f"Ask {number}"),), chosen=f"yes {number}", rejected=f"no {number}",
                                          cluster_id=f"c{number}"), **changes)


PAIRS = [pair(n) for n in range(40)]


def met(pairs, *entries):
    return [item.id for item in shared(pairs, entries)[0]]


def test_a_pair_is_told_by_its_texts_alone():
    known = learned_from(PAIRS, PAIRS[:20])
    assert met(PAIRS, known) == [item.id for item in PAIRS[:20]]
    other = pair(3, id="another", cluster_id="moved", label=0.2, chosen="no 3 ", rejected="yes 3", margin=2.0)
    assert met([other], known) == ["another"]
    assert met([pair(3)], learned_from([], [pair(3, chosen=" yes 3", rejected="no 3\n", prompt=(user("Ask 3 "),))])) == ["p3"]
    for changed in (pair(3, chosen="yes, 3"), pair(3, prompt=(user("Ask 3!"),)), pair(3, rejected="yes 3", chosen="yes 3"),
                    pair(3, prompt=(Message(role="system", content="Be brief"), user("Ask 3"))), pair(3, prompt=(Message(role="system", content="Ask 3"),))):
        assert not met([changed], known)
    # Where one text ends and the next begins matters.
    assert not met([pair(0, chosen="b", rejected="cd")], learned_from([], [pair(0, chosen="bc", rejected="d")]))


def test_of_a_large_set_the_smallest_hashes_are_kept_and_it_is_not_known_whole():
    many = [pair(n) for n in range(5 * SIZE)]
    entry = learned_from(many, [*many, *many])
    assert (len(entry["pairs"]), entry["learned"]) == (SIZE * 8, 5 * SIZE)
    assert entry == learned_from(many, many[::-1])
    found, whole = shared(many, [entry])
    assert (len(found), whole) == (SIZE, False)  # each one recognised or not, a fifth of them
    assert shared(many[:60], [entry])[0]  # 60 are missed with .8^60, one in 650,000
    assert shared([pair(n) for n in range(5 * SIZE, 10 * SIZE)], [entry]) == ([], True)
    # Sketches of one set and of a part of it hold the same end of the hashes.
    assert len(shared(many[:2 * SIZE], [learned_from(many, many[:2 * SIZE]), entry])[0]) == SIZE
    digest = data_hash(many)
    assert not known_whole(digest, [entry])
    assert known_whole(digest, [learned_from(many, many[:SIZE])])
    assert known_whole(digest, [learned_from(many, PAIRS * 100)])
    assert not known_whole(digest, [learned_from(many, many[:9]), entry])
    assert not known_whole(digest, [learned_from(PAIRS, PAIRS)])


WHOLE = learned_from(PAIRS, PAIRS)["pairs"]


@pytest.mark.parametrize("broken", [None, 7, "no base64!", "é", [], {}, "", WHOLE[:-1], WHOLE[4:], WHOLE[8:], WHOLE[:40] + "\n" + WHOLE[40:]])
def test_a_damaged_sketch_clears_nothing(broken):
    entry = {"data": data_hash(PAIRS), "learned": 40, "pairs": broken}
    lineage = {"method": "dpo", "history": ["dpo"], "data_hashes": {"x": data_hash(PAIRS)}, "data_sketches": [entry, "odd"]}
    assert unseen(PAIRS, PAIRS[:5], ModelSpec(uri="m", lineage=lineage))[1] == {"seen_in_training": True}
    assert unseen(PAIRS, PAIRS[:5], ModelSpec(uri="m", lineage=lineage | {"data_sketches": "odd"}))[1] == {"seen_in_training": True}


SEEN = {"seen_in_training": True}


@pytest.mark.parametrize(("entries", "listed", "told"), [
    ([learned_from(PAIRS, PAIRS[10:])], True, {}),  # the held-out ones were left alone
    ([learned_from(PAIRS, PAIRS[4:])], True, {"left_out_as_seen": 6}),  # another split
    ([learned_from(PAIRS[:9], PAIRS[:9])], False, {"left_out_as_seen": 9}),  # a part of the set
    ([learned_from(PAIRS[:20], PAIRS[:20])], False, SEEN),
    ([learned_from(PAIRS[20:], PAIRS[20:])], False, {}),  # the other part
    ([learned_from([], [pair(30, cluster_id="c3")])], False, {}),  # that pair's topic in gold is another
    ([learned_from(PAIRS, PAIRS[4:]), {"data": data_hash(PAIRS), "pairs": None}], True, SEEN),  # more is known of it, not less
    ([learned_from(PAIRS, PAIRS[10:]), {"data": "a larger set", "pairs": None}], True, SEEN),
    ([learned_from(PAIRS, PAIRS[10:]), learned_from(PAIRS, PAIRS)], True, SEEN),  # a second stage that held nothing out
    ([learned_from(PAIRS, ())], True, {}),  # measured, never learned from
    ([learned_from([], [PAIRS[0], *(pair(n) for n in range(100, 100 + 50 * SIZE))]), learned_from([], PAIRS[:3])], False, SEEN),  # the rest is not known
    ([{"data": data_hash(PAIRS), "pairs": None}], True, SEEN)])  # a stage from before there were sketches
@pytest.mark.parametrize("method", ["labeller", "dpo"])
def test_the_pairs_that_measure_are_held_against_those_that_taught(entries, listed, told, method):
    hashes = {"pairs.jsonl": data_hash(PAIRS)} if listed else {"part": "other"}
    spec = ModelSpec(uri="m", lineage={"method": method, "history": ["dpo", method], "data_hashes": hashes, "data_sketches": entries})
    if entries[0].get("learned", 0) > SIZE:
        entries[0]["pairs"] = learned_from([], [PAIRS[0]])["pairs"] + entries[0]["pairs"][8:]  # whatever its hash, it is in the sample
    left, found = unseen(PAIRS, PAIRS[:10], spec)
    assert found == told
    assert len(left) == 10 - found.get("left_out_as_seen", 0)
    assert not shared(left, entries)[0] or found == SEEN
    if entries[0].get("pairs") is None:
        assert unseen(PAIRS, PAIRS[:10], spec, listed=False)[1] == {}


def test_a_topic_of_which_a_pair_was_learned_does_not_measure():
    pairs = [pair(n, cluster_id=f"c{n // 2}") for n in range(40)]
    spec = ModelSpec(uri="m", lineage={"method": "dpo", "history": ["dpo"], "data_sketches": [learned_from([], [pairs[0], pairs[3], pairs[30]])]})
    left, told = unseen(pairs, pairs[:10], spec)
    assert (left, told) == (pairs[4:10], {"left_out_as_seen": 4})
    assert unseen(pairs, pairs[31:32], spec) == (pairs[31:32], SEEN)  # its topic was taught, though not it


@pytest.mark.parametrize(("method", "before", "told"), [
    ("labeller", ["sft"], {}), ("labeller", ["ppo"], SEEN), ("labeller", ["labeller"], SEEN), ("labeller", ["dpo"], SEEN), ("ppo", [], SEEN)])
def test_lineages_from_before_there_were_sketches_count_as_they_did(method, before, told):
    lineage = {"method": method, "history": [*before, method], "data_hashes": {"pairs.jsonl": data_hash(PAIRS)}}
    assert unseen(PAIRS, PAIRS[:5], ModelSpec(uri="m", lineage=lineage))[1] == told


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"id": item.id, "cluster_id": item.cluster_id, "prompt": item.prompt[0].content, "chosen": item.chosen, "rejected": item.rejected}
            for item in PAIRS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def stage(folder, name, **inputs):
    (folder / name).mkdir()
    return StageRun(name=name, folder=folder / name, world=World(), inputs={role: str(path) for role, path in inputs.items()})


def test_stages_tell_what_they_learned_from_and_lineages_add_up(tiny_checkpoint, file, tmp_path):
    """A policy that dpo taught one part: a reward model on it is measured on what is left of the held-out pairs, and on that part not at all."""
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
    parts = [load_preferences(f"{file}?part={part}/2") for part in (1, 2)]
    taught = sketches_of(json.loads((outcomes[1].path / LINEAGE).read_text()))
    assert [entry["data"] for entry in taught] == [data_hash(part) for part in parts]
    assert len(met(parts[0], *taught)) == len(parts[0])
    assert len(parts[1]) - len(met(parts[1], *taught)) == outcomes[1].measured["n"]  # what the reward model was measured on
    assert not {"seen_in_training", "left_out_as_seen"} & set(outcomes[1].measured)
    # What a stopped run reads back of a finished stage is the same, and of one from before there were sketches nothing.
    assert train(read_recipe(str(recipe)), tmp_path / "run", Options(resume=True))[1].data_sketches == outcomes[1].data_sketches
    done = tmp_path / "run" / "2-reward" / "stage.json"
    done.write_text(json.dumps({name: value for name, value in json.loads(done.read_text()).items() if name != "data_sketches"}))
    assert train(read_recipe(str(recipe)), tmp_path / "run", Options(resume=True))[1].data_sketches == ()
    common = {"max_steps": 1, "batch_size": 2, "held_out": 0.4, "model": str(outcomes[0].path)}
    whole = len(split(PAIRS, 0.4, 0)[1])
    of_part = len([item for item in split(PAIRS, 0.4, 0)[1] if item in parts[0] or met([item], *taught[:1])])
    for name, data, told in (("all", file, {"left_out_as_seen": of_part}), ("same", f"{file}?part=1/2", SEEN), ("other", f"{file}?part=2/2", {})):
        measured = reward.train(reward.Config(data=data, **common), stage(tmp_path, name)).measured
        assert {key: value for key, value in measured.items() if key in ("seen_in_training", "left_out_as_seen")} == told, data
        if name == "all":
            assert measured["n"] == whole - of_part < whole


@pytest.mark.parametrize("history", [["labeller"], ["sft", "reward", "ppo"]])
def test_whatever_taught_a_body_a_reward_is_not_measured_on_it(own_checkpoint, file, tmp_path, history):
    entry = learned_from([], PAIRS)
    (own_checkpoint / LINEAGE).write_text(json.dumps({"method": history[-1], "history": history, "data_hashes": {}, "data_sketches": [entry]}))
    run = stage(tmp_path, "reward", policy=own_checkpoint)
    assert reward.train(reward.Config(data=file, max_steps=1, batch_size=2, held_out=0.4), run).measured["seen_in_training"] is True


def test_a_labeller_teaches_itself_the_topics_that_are_not_held_out(own_checkpoint, file, tmp_path):
    """It may label where its held-out topics measure it; on a body of which an older lineage only says that dpo had the set, it may not."""
    config = labeller.Config(data=file, max_steps=1, batch_size=2, held_out=0.4, ask="rating", measure_before=False)
    (own_checkpoint / LINEAGE).write_text(json.dumps({"method": "dpo", "history": ["dpo"], "data_hashes": {file: data_hash(load_preferences(file))}}))
    recipe = tmp_path / "one.toml"
    recipe.write_text(f'model = "{own_checkpoint}"\n[[stage]]\nmethod = "labeller"\ndata = "{file}"\nmax_steps = 1\nheld_out = 0.4\nask = "rating"\n'
                      "measure_before = false\nbatch_size = 2\n")
    pairs = load_preferences(file)
    rest, held = split(pairs, config.held_out, 0)
    (outcome,) = train(read_recipe(str(recipe)), tmp_path / "run")
    (entry,) = outcome.data_sketches
    assert met(pairs, entry) == [item.id for item in rest]
    lineage = json.loads((outcome.path / LINEAGE).read_text())
    assert unseen(pairs, held, ModelSpec(uri="m", lineage=lineage))[1] == SEEN
    (own_checkpoint / LINEAGE).unlink()
    (outcome,) = train(read_recipe(str(recipe)), tmp_path / "fresh")
    lineage = json.loads((outcome.path / LINEAGE).read_text())
    assert unseen(pairs, held, ModelSpec(uri="m", lineage=lineage)) == (held, {})
