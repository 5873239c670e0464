"""Replies to other topics: how they are drawn, what a reward that never reads its prompt scores, and that PPO refuses one which prefers a fixed reply."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import pytest

from auditor.errors import InputError
from auditor.schema import Preference, user
from auditor.training import labeller, reward
from auditor.training.core.batch import Encoder
from auditor.training.core.noncontextual import FIXED, addition_notes, always_preferred, context_notes, measure_context, questions, with_noncontextual
from auditor.training.core.rewards import Part, described, open_rewards, refuse_unvalidated, reward_notes
from auditor.training.core.stage import StageRun
from auditor.training.core.world import World
from auditor.training.data import load_preferences


def pair(number, chosen, rejected, topic=None, label=1.0):
    return Preference(id=f"p{number}", prompt=(user(f"word{number}?"),), chosen=chosen, rejected=rejected, cluster_id=topic or f"c{number}", label=label)


HELD = [pair(n, f"word{n} is what was asked about", f"word{n} perhaps", topic=f"c{n // 2}") for n in range(24)]


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
    three = twins(pairs, count=3)
    assert sum(three[f"{item.id}|noncontextual-1"].rejected != three[f"{item.id}|noncontextual-3"].rejected for item in pairs) > 40
    assert twins(pairs).items() <= two.items()
    assert sum(two[f"{item.id}|noncontextual-1"].rejected != two[f"{item.id}|noncontextual-2"].rejected for item in pairs) > 50
    same = [pair(n, "mid reply", "x" * 30) for n in range(40)] + [pair(n, f"w{n}", "w" * n) for n in range(40, 90)]
    assert len({twins(same)[f"p{n}|noncontextual-1"].rejected for n in range(40)}) > 5  # alike but for their ids
    assert questions(HELD, 0) == [(23 - index, kind, text) for index, kind, text in sorted(questions(HELD[::-1], 0), key=lambda one: -one[0])]
    assert questions(HELD, 0) != questions(HELD, 1)


def test_with_two_additions_one_lies_on_either_side_of_the_better_replys_length():
    pairs = [pair(n, "b" * (40 + n % 20), "w" * (10 + n % 20) if n % 5 else "w" * (70 + n % 20)) for n in range(200)]
    for count, expected in ((0, 0.8), (1, 0.5), (2, 0.6), (3, 0.5)):
        both = [(len(item.chosen), len(item.rejected)) for item in with_noncontextual(pairs, count, 0, "here")]
        assert sum(better > worse for better, worse in both) / len(both) == pytest.approx(expected, abs=0.02)


def test_additions_keep_no_margin_and_take_no_text_of_the_pairs_own():
    rows = [dataclasses.replace(pair(n, f"better {n}", "shared"), margin=2.0) for n in range(30)]
    found = twins(rows)
    assert {item.margin for item in found.values()} == {0.0}
    assert all(item.rejected not in ("shared", item.chosen) for item in found.values())
    empty = [pair(n, "" if n < 5 else f"better {n}", "  " if n < 15 else f"worse {n}") for n in range(30)]
    assert all(item.rejected.strip() and item.chosen for item in twins(empty).values())
    assert len(twins(empty)) == 25
    assert {index for index, _, _ in questions(empty, 0)} == set(range(5, 30))
    yes_no = [pair(n, "Yes.", "No.") for n in range(6)]
    assert with_noncontextual(yes_no, 1, 0, "here") == yes_no
    (note,) = addition_notes(yes_no, yes_no, 2)
    assert note.startswith("WARNING: 12 of 12 pairs with a reply to another topic could not be made")
    assert addition_notes(rows, [*rows, *found.values()], 1) == ()


def test_where_one_topic_has_nearly_all_replies_the_others_are_drawn_alike():
    rows = [pair(n, f"better {n}", f"worse {n}", topic="large") for n in range(2000)] + [pair(n, f"better {n}", f"worse {n}") for n in range(2000, 2010)]
    drawn = Counter(item.rejected for item in twins(rows).values() if item.cluster_id == "large")
    assert len(drawn) == 20
    assert max(drawn.values()) < 300


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


def test_a_fixed_reply_that_few_pairs_were_asked_about_hides_none_of_many():
    """The better reply is "No." itself on 76 of 80 pairs: on the other four it wins always, which says little; "Yes." wins on 76 of 80, which says much."""
    held = [pair(n, f"word{n}" if n < 4 else "No.", "worse") for n in range(80)]
    scores = {"No.": 1.0, "Yes.": 2.0}
    found = measured_by(lambda asked, text: 9.0 if asked in ("word5", "word6") and text == "No." else scores.get(text, 0.0), held)
    assert found["fixed_replies"]["No."]["value"] == 1.0 > found["fixed_replies"]["Yes."]["value"]
    assert found["fixed_replies"]["No."]["n"] == 4
    assert found["fixed_reply_wins"]["reply"] == "Yes."
    assert "'Yes.' scores higher" in always_preferred(found)


def test_intervals_are_over_topics_and_a_warning_follows_from_the_interval():
    """Twelve topics of two pairs that go alike: the interval is that of twelve, wider than that of 24."""
    def score(asked, text):
        return 1.0 if asked in text.split() else (0.5 if int(asked[4:]) // 2 < 8 else 2.0)

    found = measured_by(score)["on_topic"]
    alone = measured_by(score, [dataclasses.replace(item, cluster_id=item.id) for item in HELD])["on_topic"]
    assert found["value"] == alone["value"] == pytest.approx(2 / 3)
    assert found["high"] - found["low"] > 1.2 * (alone["high"] - alone["low"])
    assert len(context_notes({"on_topic": found})) == 1
    assert context_notes({"on_topic": {**found, "low": 0.51}}) == ()
    assert len(context_notes({"on_topic": {**found, "low": None}})) == 1
    assert context_notes({"on_topic": None})[0].startswith("WARNING: not measured whether it reads the prompt")


def test_of_very_many_pairs_a_thousand_are_asked_about_in_any_order():
    many = [pair(n, f"word{n} it is", "no") for n in range(1500)]
    asked = {many[index].id for index, _, _ in questions(many, 0)}
    assert len(asked) == 1000
    assert asked == {many[::-1][index].id for index, _, _ in questions(many[::-1], 0)}


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


def test_a_policys_lineage_says_what_its_rewards_were_not_shown_to_do():
    blind = {"value": 0.48, "low": 0.37, "high": 0.59, "n": 102}
    chance = {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 82}}
    first, second = reward_notes({"sound": Measured(), "blind": Measured(on_topic=blind), "weak": Measured(**chance), "count": lambda episodes: []})
    assert first.startswith("reward 'blind': WARNING: not shown to read the prompt")
    assert second.startswith("NOT VALIDATED: reward 'weak': accuracy 0.500 (0.400 to 0.600) on 82 held-out pairs, which is not above chance")


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
    assert more.notes == context_notes(more.measured)
    assert json.loads((more.path / "auditor_reward.json").read_text())["measured"]["fixed_reply_wins"]["reply"] in FIXED
    rated = run("rated", lambda stage: labeller.train(labeller.Config(**common, ask="rating", noncontextual=1, measure_before=False), stage))
    assert rated.steps == -(-2 * rated.measured["trained_on"] // 4)
    probed = {"on_topic", "fixed_reply_wins", "fixed_replies"}
    assert set(rated.measured["after"]["rating"]) >= probed
    assert rated.notes == context_notes(rated.measured["after"]["rating"])
    # What rates for d-RLAIF is asked the same before its ratings are a reward, and its word stands in the lineage.
    part = Part(kind="labeller", uri=str(rated.path), gold=data, held_out=0.3)
    rewards = open_rewards([part], StageRun(name="ppo", folder=tmp_path, world=World(), inputs={}), {})
    assert set(rewards["labeller"].facts["measured"]) >= probed
    assert {"on_topic", "fixed_reply_wins"} <= set(described([part], rewards)[0])


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
    assert any("could not be made" in note for note in outcome.notes)
    with pytest.raises(InputError, match="the limit is"):
        reward.train(reward.Config(data=str(path), held_out=0.4, noncontextual=3, max_length=limit - 1, batch_size=4), run)


@pytest.mark.parametrize("made", [labeller, reward])
def test_a_count_below_0_is_refused_when_the_recipe_is_read(made):
    with pytest.raises(InputError, match="stage 'x': noncontextual is -1; pass 0 or more"):
        made.check(made.Config(noncontextual=-1), "stage 'x'")


def test_a_labeller_draws_replies_that_fit_its_questions(tiny_checkpoint, shipped):
    """The limit is the longest question about the pairs themselves: a reply that would make a longer one is drawn again."""
    engine = StageRun(name="x", folder=tiny_checkpoint, world=World()).open(str(tiny_checkpoint))
    pairs, config = [item for item in shipped if item.metadata["kind"] == "length"][:30], labeller.Config(ask="rating", max_length=4096)
    longest = max(len(prompt) for example in labeller.examples_of(engine, pairs, config, 0) for prompt in example.prompts)
    tight = dataclasses.replace(config, max_length=longest - 20)
    shown = with_noncontextual(pairs, 3, 0, "here", labeller.fitting(engine, tight, 0))[30:]
    labeller.examples_of(engine, shown, tight, 0)
    with pytest.raises(InputError, match="makes a question of"):
        labeller.examples_of(engine, with_noncontextual(pairs, 3, 0, "here")[30:], tight, 0)
