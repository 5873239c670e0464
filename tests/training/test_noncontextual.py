"""Replies to other topics: how they are drawn, what a reward that never reads its prompt scores, and that PPO refuses one which prefers a fixed reply."""

from __future__ import annotations

import json

import pytest

from auditor.errors import InputError
from auditor.schema import Preference, user
from auditor.training import labeller, reward
from auditor.training.core.batch import Encoder
from auditor.training.core.noncontextual import FIXED, always_preferred, context_notes, measure_context, questions, with_noncontextual
from auditor.training.core.rewards import refuse_unvalidated
from auditor.training.core.stage import StageRun
from auditor.training.core.world import World
from auditor.training.data import load_preferences


def pair(number, chosen, rejected, topic=None, label=1.0):
    return Preference(id=f"p{number}", prompt=(user(f"word{number}?"),), chosen=chosen, rejected=rejected, cluster_id=topic or f"c{number}", label=label)


def twins(pairs, **options):
    return {item.id: item for item in with_noncontextual(pairs, options.get("count", 1), options.get("seed", 0), "here")[len(pairs):]}


@pytest.fixture(scope="module")
def shipped():
    return load_preferences("shipped:preferences")


def test_a_better_reply_stands_over_one_to_another_topic_on_the_other_side_of_its_length(shipped):
    topics = {}
    for item in shipped:
        for text in (item.chosen, item.rejected):
            topics.setdefault(text, set()).add(item.cluster_id)
    found = twins(shipped)
    assert len(found) == sum(item.label != 0.5 for item in shipped)
    outside = 0
    for item in shipped:
        twin = found[f"{item.id}|noncontextual-1"]
        assert (twin.chosen, twin.prompt, twin.cluster_id, twin.label) == (item.chosen, item.prompt, item.cluster_id, 1.0)
        assert topics[twin.rejected] - {item.cluster_id}
        assert twin.rejected not in (item.chosen, item.rejected)
        outside += (len(twin.rejected) < len(item.chosen)) != (len(item.rejected) >= len(item.chosen))
    assert outside <= 2  # "4." is among the shortest of all: nothing shorter can be drawn for it
    both = [(item.chosen, item.rejected) for item in (*shipped, *found.values())]
    alone = sum(len(a) > len(b) for a, b in both[:len(shipped)]) / len(shipped)
    assert abs(sum(len(a) > len(b) for a, b in both) / len(both) - 0.5) < min(0.02, abs(alone - 0.5))


def test_what_is_drawn_follows_from_seed_and_id_not_from_the_order_of_the_rows(shipped):
    pairs = shipped[:60]
    assert twins(pairs) == twins(pairs[::-1])
    assert twins(pairs) != twins(pairs, seed=1)
    two = twins(pairs, count=2)
    assert len(two) == 120
    assert twins(pairs).items() <= two.items()


def test_the_better_side_is_read_off_the_label_and_undecided_pairs_have_no_addition():
    pairs = [pair(1, "worse one", "better", label=0.2), pair(2, "a", "bb", label=0.5), pair(3, "x", "a much longer one")]
    found = twins(pairs)
    assert set(found) == {"p1|noncontextual-1", "p3|noncontextual-1"}
    one = found["p1|noncontextual-1"]
    assert (one.chosen, one.label) == ("better", 1.0)
    assert one.rejected in ("a", "bb", "x")  # its own worse reply is the longer one, so this is shorter
    assert with_noncontextual(pairs, 0, 0, "here") == pairs
    # No other topic has a longer reply than this one's: any of another topic is taken.
    assert twins([pair(1, "the longest of all", "short"), pair(2, "mid", "mids")])["p1|noncontextual-1"].rejected in ("mid", "mids")


def test_a_drawn_reply_that_does_not_fit_is_drawn_again_and_a_pair_for_which_none_fits_stays_alone(shipped):
    pairs = shipped[:40]
    short = {item.id: item for item in with_noncontextual(pairs, 1, 0, "here", lambda twin: len(twin.rejected) < 40)[40:]}
    assert max(len(item.rejected) for item in twins(pairs).values()) > 40 > max(len(item.rejected) for item in short.values())
    assert len(short) == 40
    assert with_noncontextual(pairs, 1, 0, "here", lambda twin: False) == pairs
    asked = questions(pairs, 0, lambda item, text: len(text) < 34)
    assert {kind for _, kind, _ in asked} == {"better", "other", *FIXED[:3]}
    assert max(len(text) for _, kind, text in asked if kind == "other") < 34


def test_pairs_of_one_topic_are_refused():
    with pytest.raises(InputError, match="stage 'r': noncontextual = 2 .* all 2 pairs are of one; pass more topics"):
        with_noncontextual([pair(1, "a", "b", "one"), pair(2, "c", "d", "one")], 2, 0, "stage 'r'")


# -- the probe --------------------------------------------------------------------------------------------------------

HELD = [pair(n, f"word{n} is what was asked about", f"word{n} perhaps", topic=f"c{n // 2}") for n in range(24)]


def measured_by(function, held=HELD):
    """What is measured of a reward that is this function of the word asked about and the reply."""
    asked = questions(held, 0)
    return measure_context(held, asked, [function(held[index].prompt[-1].content.rstrip("?"), text) for index, _, text in asked])


def test_a_reward_that_reads_the_prompt_and_one_that_counts_characters():
    reads = measured_by(lambda asked, text: float(asked in text.split()))
    assert (reads["on_topic"]["value"], reads["fixed_reply_wins"]["value"]) == (1.0, 0.0)
    assert (always_preferred(reads), context_notes(reads)) == ("", ())
    short = measured_by(lambda asked, text: -float(len(text)))
    assert short["fixed_reply_wins"]["reply"] in ("Yes.", "No.")
    assert (short["fixed_reply_wins"]["value"], short["fixed_reply_wins"]["n"]) == (1.0, 24)
    assert short["fixed_replies"][FIXED[-1]]["value"] == 0.0  # 34 characters; the better replies have 30 or 31
    assert short["on_topic"]["low"] < 0.5 < short["on_topic"]["high"]
    first, second = context_notes(short)
    assert first.startswith(f"WARNING: {short['fixed_reply_wins']['reply']!r} scores higher than the better reply on 1.000")
    assert second.startswith("WARNING: not shown to read the prompt: a reply to it scores higher than one to another topic on 0.")


def test_ties_count_half_and_what_has_no_score_is_left_out():
    flat = measured_by(lambda asked, text: 0.0)
    assert (flat["on_topic"]["value"], flat["fixed_reply_wins"]["value"]) == (0.5, 0.5)
    assert always_preferred(flat) == ""
    some = measured_by(lambda asked, text: None if asked in ("word3", "word4") else 1.0)
    assert (some["on_topic"]["n"], some["fixed_reply_wins"]["n"]) == (22, 22)
    none = measured_by(lambda asked, text: None)
    assert (none["on_topic"], none["fixed_reply_wins"]) == (None, None)
    assert measured_by(lambda asked, text: 0.0, [pair(1, "a", "b", label=0.5)]) == {}


def test_a_better_reply_that_is_a_fixed_one_is_not_compared_with_itself():
    held = [pair(n, "No." if n < 10 else f"word{n}", "Yes.") for n in range(24)]
    found = measured_by(lambda asked, text: float(text == "No."), held)["fixed_replies"]
    assert (found["No."]["n"], found["No."]["value"], found["Yes."]["n"]) == (14, 1.0, 24)


class Measured:
    def __init__(self, **measured):
        self.facts = {"measured": {"accuracy": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 82}, **measured}}


def test_a_reward_that_prefers_a_fixed_reply_is_refused_and_one_measured_before_this_was_is_not():
    wins = {"reply": "No.", "value": 0.829, "low": 0.721, "high": 0.901, "n": 82}
    with pytest.raises(InputError, match=r"stage .ppo.: reward .model.: .No.. scores higher .* 0.829 \(0.721 to 0.901\) of 82 .*noncontextual"):
        refuse_unvalidated({"model": Measured(fixed_reply_wins=wins)}, "stage 'ppo'")
    for sound in ({"fixed_reply_wins": {**wins, "low": 0.49}}, {"fixed_reply_wins": {**wins, "low": None}}, {"fixed_reply_wins": None}, {}):
        refuse_unvalidated({"model": Measured(**sound)}, "stage 'ppo'")


# -- in the stages ----------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"id": f"p{n}", "cluster_id": f"c{n}", "prompt": f"Item {n}?", "chosen": f"yes {n}", "rejected": f"no, not {n} at all"} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_reward_and_labeller_learn_from_the_added_pairs_and_measure_on_the_given_ones(tiny_checkpoint, data, tmp_path):
    def run(name, made):
        folder = tmp_path / name
        folder.mkdir()
        return made(StageRun(name=name, folder=folder, world=World(), inputs={"policy": str(tiny_checkpoint)}))

    common = {"data": data, "batch_size": 4, "held_out": 0.3, "lora_rank": 2}
    plain = run("plain", lambda stage: reward.train(reward.Config(**common), stage))
    more = run("more", lambda stage: reward.train(reward.Config(**common, noncontextual=2), stage))
    assert more.steps == -(-3 * (20 - more.measured["n"]) // 4) > plain.steps
    assert more.measured["n"] == plain.measured["n"] == more.measured["on_topic"]["n"]
    assert json.loads((more.path / "auditor_reward.json").read_text())["measured"]["fixed_reply_wins"]["reply"] in FIXED
    rated = run("rated", lambda stage: labeller.train(labeller.Config(**common, ask="rating", noncontextual=1, measure_before=False), stage))
    assert rated.steps == -(-2 * rated.measured["trained_on"] // 4)
    assert set(rated.measured["after"]["rating"]) >= {"on_topic", "fixed_reply_wins", "fixed_replies"}


def test_a_drawn_reply_too_long_for_its_prompt_ends_no_training(own_checkpoint, tmp_path):
    """The longest prompt has room for its own short replies alone: neither additions nor the probe at the end may ask for more."""
    rows = [{"id": f"p{n}", "cluster_id": f"c{n}", "prompt": "Say it " * (40 if n < 4 else 2), "chosen": "a b" if n < 4 else "word " * 30, "rejected": "a"}
            for n in range(12)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    engine = StageRun(name="reward", folder=tmp_path, world=World()).open(str(own_checkpoint))
    encoder = Encoder(engine, 512)
    limit = max(encoder.pair("", item.prompt, text).length for item in load_preferences(str(path)) for text in (item.chosen, item.rejected))
    run = StageRun(name="reward", folder=tmp_path, world=World(), inputs={"policy": str(own_checkpoint)})
    outcome = reward.train(reward.Config(data=str(path), held_out=0.4, noncontextual=3, max_length=limit, batch_size=4), run)
    assert outcome.measured["on_topic"]["n"] <= outcome.measured["n"]
    with pytest.raises(InputError, match="the limit is"):
        reward.train(reward.Config(data=str(path), held_out=0.4, noncontextual=3, max_length=limit - 1, batch_size=4), run)
