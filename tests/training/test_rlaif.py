"""AI labels: soft labels by hand, the gate before any label, what is left out, and a killed run's file is the whole run's file."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import zip_longest

import pytest

from auditor.errors import InputError, TrainingError
from auditor.schema import Generation, Judgment, Message, Prompt, RunSpec, user
from auditor.schema import ModelSpec as Spec
from auditor.training import labeller, rlaif
from auditor.training.core.asking import Opinion, open_labeller
from auditor.training.core.chunks import in_chunks
from auditor.training.core.constitution import SHIPPED, load_constitution, sample
from auditor.training.core.labelled import JudgeReward, RatingReward
from auditor.training.core.rewards import Episode, Part, described, open_rewards
from auditor.training.core.stage import StageRun
from auditor.training.core.world import World
from auditor.training.core.writing import Writer
from auditor.training.data import load_preferences, load_prompts
from auditor.training.pipeline import train
from auditor.training.recipe import read_recipe

PROMPT = Prompt(id="p", prompt=(user("Why?"),), cluster_id="c")


def stage(folder, inputs, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return StageRun(name="rlaif", folder=folder, world=World(), inputs={name: str(path) for name, path in inputs.items()}, **options)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    gold = [{"id": f"g{n}", "cluster_id": f"c{n // 2}", "kind": "length", "prompt": f"Item {n}?", "chosen": f"yes yes {n}", "rejected": "no no"}
            for n in range(40)]
    return {"gold": write(folder / "gold.jsonl", gold), "prompts": write(folder / "prompts.jsonl", [{"id": f"q{n}", "prompt": f"Ask {n}"} for n in range(7)])}


@pytest.fixture(scope="module")
def trained(tiny_checkpoint, tmp_path_factory, files):
    """A labeller that knows that yes is better than no, for both questions, and replies with a digit to whatever a random policy writes."""
    folder = tmp_path_factory.mktemp("labeller")
    config = labeller.Config(data=files["gold"], ask="both", lr=3e-3, epochs=4.0, batch_size=8, held_out=0.3, measure_before=False,
                             mass_weight=1.0)
    return labeller.train(config, stage(folder, {"policy": tiny_checkpoint})).path


def config(files, **changes):
    return rlaif.Config(prompts=files["prompts"], gold=files["gold"], held_out=0.3, max_new_tokens=6, chunk=3, **changes)


# -- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ab", "ba", "chosen", "label"), [(0.9, 0.5, "one", 0.7), (0.1, 0.3, "two", 0.8), (0.75, 0.25, "one", 0.5)])
def test_the_soft_label_is_the_mean_of_both_orders(ab, ba, chosen, label):
    opinion = Opinion(judgment=Judgment(a="one", b="two", ab=ab, ba=ba), rationale="because")
    found = rlaif.soft_preference(PROMPT, ("one", "two"), opinion, "judge")
    assert (found.chosen, found.label, found.labeller, found.rationale) == (chosen, pytest.approx(label), "judge", "because")
    assert {found.chosen, found.rejected} == {"one", "two"}


def test_one_order_alone_makes_no_label():
    opinion = Opinion(judgment=Judgment(a="one", b="two", ab=0.9, status="unparseable"))
    assert rlaif.soft_preference(PROMPT, ("one", "two"), opinion, "judge") is None


def replies(texts, errors=()):
    return [Generation(sample_id="", text=text, error=error) for text, error in zip_longest(texts, errors)]


@pytest.mark.parametrize(("texts", "errors", "reason"), [("ba", (), ""), (("a", " a\n"), (), "identical"), (("a", " "), (), "empty"),
                                                         (("a", ""), (None, "too long"), "error"), (("a", "", "b"), (None, "too long"), ""),
                                                         (("a", "a", ""), (), "empty")])
def test_completions_that_cannot_be_compared_have_a_reason(texts, errors, reason):
    found, why = rlaif.usable(replies(texts, errors))
    assert why == reason
    assert found == list(dict.fromkeys(text.strip() for text in texts if text.strip()))


@pytest.mark.parametrize(("ratings", "kept"), [((0.1, 0.5, -0.5, 0.2), ("b", "c")), ((0.5, None, -0.5, 0.6), ("c", "d")), ((-0.5, 0.5, 0.5, -0.5), ("b", "d")),
                                               ((None, None, 0.1, 0.0), ("c", "d"))])
def test_the_ends_are_kept_in_the_order_in_which_they_were_drawn(ratings, kept):
    opinion = rlaif.extremes("abcd", ratings)
    assert (opinion.judgment.a, opinion.judgment.b) == kept
    left, right = (ratings["abcd".index(text)] for text in kept)
    assert opinion.judgment.prefers_a == pytest.approx(1 / (1 + math.exp(-4 * (left - right))))


def test_one_rating_alone_makes_no_pair():
    assert rlaif.extremes("abc", (0.3, None, None)) is None


class Rater:
    """Rates a text as the table says, and remembers by which standard; None where the table does not."""

    spec = Spec(uri="rater")

    def __init__(self, table):
        self.table, self.asked = table, []

    def rate(self, answers, standards=()):
        self.asked += [(messages[0].content, text, standard) for (messages, text), standard in zip(answers, standards, strict=True)]
        return [self.table.get(text) for _, text in answers]


def test_every_completion_is_rated_by_its_own_prompts_standard_and_what_could_not_be_is_counted(tmp_path):
    drawn = {"p": [("a", None), ("b", None), ("a ", None), ("c", None)], "q": [("x", None)] * 4, "r": [("d", None), ("", "too long"), ("?", None), ("e", None)],
             "s": [("?", None), ("f", None), ("", None), ("f", None)]}
    principles = load_constitution(SHIPPED)
    rater = Rater({"a": 0.1, "b": 0.5, "c": -0.5, "d": -0.2, "e": 0.9, "f": 0.0})
    prompts = [Prompt(id=name, prompt=(user(f"Ask {name}"),), cluster_id=name) for name in drawn]

    def writer(asked):
        assert [name for name, _ in asked] == [f"{name}|{number}" for name in drawn for number in (1, 2, 3, 4)]
        return [Generation(sample_id="", text=text, error=error) for several in drawn.values() for text, error in several]

    rows = rlaif._Stage(rlaif.Config(ask="rating", completions=4), stage(tmp_path, {}), (writer, rater), principles).label(prompts)
    standards = {prompt.prompt[0].content: sample(principles, 0, prompt.id).standard for prompt in prompts}
    assert len(set(standards.values())) > 2
    assert rater.asked == [(f"Ask {name}", text, standards[f"Ask {name}"]) for name, texts in (("p", "abc"), ("r", "d?e"), ("s", "?f")) for text in texts]
    assert [(row["id"], row["reason"], row["unwritten"], row["unrated"]) for row in rows] == [
        ("p", "", 0, 0), ("q", "identical", 0, 0), ("r", "", 1, 1), ("s", "unlabelled", 0, 1)]
    assert [row["preference"] and (row["preference"]["chosen"], row["preference"]["rejected"], row["preference"]["chosen_drawn"]) for row in rows] == [
        ("b", "c", "first"), None, ("e", "d", "second"), None]
    _, counted = rlaif._collected(rows, stage(tmp_path, {}), ordered=False)
    assert (counted["unwritten_completions"], counted["unrated_completions"]) == (1, 2)
    # Resumed on labels of a version that did not count: how many there were cannot be told.
    before = [{name: value for name, value in rows[0].items() if name not in ("unwritten", "unrated")}, *rows[1:]]
    assert rlaif._collected(before, stage(tmp_path, {}), ordered=False)[1]["unrated_completions"] is None


# -- the stage --------------------------------------------------------------------------------------------------------


def test_a_labeller_above_chance_writes_soft_labels_that_load(tiny_checkpoint, trained, files, tmp_path):
    outcome = rlaif.train(config(files, mix=files["gold"]), stage(tmp_path / "run", {"policy": tiny_checkpoint, "labeller": trained}))
    assert outcome.kind == "preferences"
    assert outcome.measured["labeller"]["accuracy"]["low"] > 0.5
    assert outcome.notes[0].startswith("labeller")
    found = {item.id: item for item in load_preferences(str(outcome.path))}
    mixed = [name for name in found if name.startswith("mix-")]
    assert len(mixed) == outcome.measured["mixed_in"] > 0
    assert len(found) - len(mixed) == outcome.measured["labelled"] == 7 - sum(outcome.measured["left_out"].values())
    item = next(item for name, item in found.items() if name.startswith("q"))
    assert item.labeller == str(trained)
    orders = item.metadata["first_shown_first"], item.metadata["first_shown_second"]
    assert item.label == pytest.approx(max(sum(orders) / 2, 1 - sum(orders) / 2))
    assert outcome.judges[0]["uri"] == str(trained)
    assert outcome.judges[0]["weights_hash"]


def test_a_labeller_is_measured_in_the_manner_in_which_it_will_be_asked(tiny_checkpoint, trained, files, tmp_path):
    manner = config(files, shots=2, preamble="Compare.", constitution=SHIPPED, allow_unvalidated_labeller=True)
    outcome = rlaif.train(manner, stage(tmp_path / "run", {"policy": tiny_checkpoint, "labeller": trained}))
    plain = rlaif.train(config(files), stage(tmp_path / "plain", {"policy": tiny_checkpoint, "labeller": trained}))
    assert outcome.measured["labeller"]["position_bias"] != plain.measured["labeller"]["position_bias"]
    named = {item.metadata["principle"] for item in load_preferences(str(outcome.path))}
    assert named <= {principle.id for principle in load_constitution(SHIPPED)}
    assert len(named) > 1


def test_a_labeller_at_chance_is_refused_unless_allowed(tiny_checkpoint, files, tmp_path):
    inputs = {"policy": tiny_checkpoint, "labeller": tiny_checkpoint}
    with pytest.raises(InputError, match="not above chance.*allow_unvalidated_labeller"):
        rlaif.train(config(files), stage(tmp_path / "refused", inputs))
    assert not (tmp_path / "refused" / "labels.jsonl").exists()  # nothing was labelled
    # Its letters have no mass at all: where such a labeller is allowed, there are still no labels, rather than made-up ones.
    with pytest.raises(TrainingError, match="7 unlabelled"):
        rlaif.train(config(files, allow_unvalidated_labeller=True), stage(tmp_path / "allowed", inputs))


def test_a_killed_run_writes_the_same_file(tiny_checkpoint, trained, files, tmp_path):
    inputs = {"policy": tiny_checkpoint, "labeller": trained}
    cot = config(files, chain_of_thought=True, rationale_tokens=4, allow_unvalidated_labeller=True)
    whole = rlaif.train(cot, stage(tmp_path / "whole", inputs))
    with pytest.raises(KeyboardInterrupt):
        rlaif.train(cot, stage(tmp_path / "killed", inputs, reporter=Killer()))
    journal = tmp_path / "killed" / "labels.jsonl"
    assert len(journal.read_text().splitlines()) == 2
    journal.write_bytes(journal.read_bytes()[:-20])  # and the last line was cut off
    resumed = rlaif.train(cot, stage(tmp_path / "killed", inputs, resume=True))
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert any(item.rationale for item in load_preferences(str(whole.path)))
    assert "accuracy" in whole.notes[0]


class Killer:
    """Watches, and stops the run after two chunks."""

    def stage(self, name, steps, done): ...

    def step(self, name, step, values):
        if step == 2:
            raise KeyboardInterrupt

    def say(self, text): ...

    def finished(self, name): ...


def test_chunks_are_not_done_again(tmp_path):
    done = []

    def work(items):
        done.extend(items)
        return [{"item": item} for item in items]

    run = stage(tmp_path / "run", {})
    whole = in_chunks(range(5), 2, work, run, "items")
    assert whole == [{"item": item} for item in range(5)] == in_chunks(range(5), 2, work, dataclasses.replace(run, resume=True), "items")
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("changes", "told"), [({"temperature": 0.0}, "temperature is 0.0"), ({"shots": 99}, "shots is 99"), ({"limit": -1}, "limit is -1"),
                                               ({"labeller": "recorded:x.jsonl"}, "is a recording"), ({"labeller": ""}, "needs a labeller")])
def test_bad_settings_are_refused(tiny_checkpoint, trained, files, tmp_path, changes, told):
    given = {"policy": tiny_checkpoint} | ({} if changes == {"labeller": ""} else {"labeller": trained})
    with pytest.raises(InputError, match=told):
        rlaif.train(config(files, **changes), stage(tmp_path / "run", given))


# -- rewards ----------------------------------------------------------------------------------------------------------


def test_ratings_and_verdicts_are_rewards(tiny_checkpoint, trained, files, tmp_path):
    run = stage(tmp_path / "run", {"policy": tiny_checkpoint, "labeller": trained})
    parts = [Part(kind="labeller", gold=files["gold"], held_out=0.3), Part(kind="judge", gold=files["gold"], held_out=0.3, against_tokens=4)]
    opened = open_rewards(parts, run, {})
    assert isinstance(opened["labeller"], RatingReward)
    assert isinstance(opened["judge"], JudgeReward)
    episodes = [Episode(messages=(user("Item 3?"),), row=None, text=text) for text in ("yes yes 3", "no no")]
    for name, low in (("labeller", -1), ("judge", 0)):
        better, worse = opened[name](episodes)
        assert low <= worse < better <= 1
        assert opened[name].facts["measured"]["accuracy"]["low"] > 0.5
    assert [facts["uri"] for facts in described(parts, opened)] == [str(trained)] * 2
    assert all(facts["weights_hash"] == opened["judge"].engine.spec.weights_hash for facts in described(parts, opened))


# -- lineage ----------------------------------------------------------------------------------------------------------


def test_what_learned_from_ai_labels_knows_its_labeller(tiny_checkpoint, files, tmp_path):
    recipe = tmp_path / "short.toml"
    recipe.write_text(f"""
model = "{tiny_checkpoint}"
[[stage]]
method = "labeller"
data = "{files['gold']}"
ask = "both"
lr = 3e-3
epochs = 4.0
batch_size = 8
held_out = 0.3
measure_before = false
[[stage]]
method = "rlaif"
prompts = "{files['prompts']}"
gold = "{files['gold']}"
max_new_tokens = 6
[[stage]]
method = "dpo"
data = "stage:rlaif"
""", encoding="utf-8")
    outcomes = train(read_recipe(str(recipe)), tmp_path / "out")
    found = json.loads((outcomes[-1].path / "auditor_lineage.json").read_text())
    (judge,) = found["judges"]
    assert judge["uri"] == str(outcomes[0].path)
    policy = Spec(uri="policy", lineage=found)
    assert not RunSpec(suites=(), suite_versions=(), model=policy, judge=Spec(uri="elsewhere", weights_hash=judge["weights_hash"])).judge_is_independent
    assert RunSpec(suites=(), suite_versions=(), model=policy, judge=Spec(uri="another", weights_hash="other")).judge_is_independent


@pytest.mark.parametrize("name", ["rlaif", "d-rlaif", "constitutional"])
def test_the_shipped_recipes_read(name):
    recipe = read_recipe(name)
    assert recipe.stages[0].method == "labeller"
    assert recipe.stages[-1].method == "ppo"


# -- by ratings -------------------------------------------------------------------------------------------------------


def test_a_labeller_trained_on_ratings_labels_by_ratings(trained, tiny_checkpoint, files, tmp_path):
    outcome = rlaif.train(config(files, labeller=str(trained), ask="rating"), stage(tmp_path, {"policy": tiny_checkpoint}))
    assert outcome.measured["labeller"]["accuracy"]["low"] > 0.5
    assert outcome.measured["position_bias"] is outcome.measured["labeller"]["position_bias"] is None  # nothing was shown in an order
    rows = [json.loads(line) for line in outcome.path.read_text().splitlines()]
    assert rows
    assert all(row["first_shown_first"] == row["first_shown_second"] for row in rows)
    # P(first is better) = σ(r₁ − r₂), the ratings from 1 to 9.
    ratings = RatingReward(Part(kind="labeller", uri=str(trained), gold=files["gold"], held_out=0.3), stage(tmp_path / "again", {}))
    for row in rows:
        first, second = (row["chosen"], row["rejected"]) if row["chosen_drawn"] == "first" else (row["rejected"], row["chosen"])
        prompt = tuple(Message(**message) for message in row["prompt"])
        left, right = ratings.labeller.rate([(prompt, first), (prompt, second)])
        assert row["first_shown_first"] == pytest.approx(1 / (1 + math.exp(-4 * (left - right))), abs=1e-4)


def test_of_four_completions_the_best_and_the_worst_are_kept(trained, tiny_checkpoint, files, tmp_path):
    """Against the same four drawn and rated one by one here; and a killed run goes on to the same file."""
    four = config(files, labeller=str(trained), ask="rating", completions=4)
    outcome = rlaif.train(four, stage(tmp_path / "whole", {"policy": tiny_checkpoint}))
    asked, writer = open_labeller(str(trained)), Writer(str(tiny_checkpoint), 1.0, 6, 0)
    found = {item.id: item for item in load_preferences(str(outcome.path))}
    assert len(found) == 7
    for prompt in load_prompts(files["prompts"]):
        texts = [reply.text.strip() for reply in writer([(f"{prompt.id}|{number}", prompt.prompt) for number in (1, 2, 3, 4)])]
        rated = zip(texts, asked.rate([(prompt.prompt, text) for text in texts]), strict=True)
        values = {text: value for text, value in rated if text and value is not None}
        item = found[prompt.id]
        assert (values[item.chosen], values[item.rejected]) == pytest.approx((max(values.values()), min(values.values())), abs=1e-5)
    with pytest.raises(KeyboardInterrupt):
        rlaif.train(four, stage(tmp_path / "killed", {"policy": tiny_checkpoint}, reporter=Killer()))
    resumed = rlaif.train(four, stage(tmp_path / "killed", {"policy": tiny_checkpoint}, resume=True))
    assert resumed.path.read_bytes() == outcome.path.read_bytes()


@pytest.mark.parametrize(("changes", "why"), [({"completions": 1, "ask": "rating"}, "completions is 1; pass at least 2"),
                                              ({"completions": 3}, "completions = 3 is for ask = rating")])
def test_completions_are_at_least_two_and_more_are_rated(tiny_checkpoint, files, tmp_path, changes, why):
    with pytest.raises(InputError, match=why):
        rlaif.train(config(files, **changes), stage(tmp_path, {"policy": tiny_checkpoint, "labeller": tiny_checkpoint}))


def test_ratings_need_standards_and_no_shots(trained, tiny_checkpoint, files, tmp_path):
    bare = tmp_path / "constitution.toml"
    bare.write_text('[[principle]]\nid = "p"\ncritique = "c"\nrevision = "r"\ncomparison = "Which?"\n')
    where = stage(tmp_path / "run", {"policy": tiny_checkpoint})
    with pytest.raises(InputError, match="'p' has no standard"):
        rlaif.train(config(files, labeller=str(trained), ask="rating", constitution=str(bare)), where)
    with pytest.raises(InputError, match="shots = 2 is for ask = pairwise"):
        rlaif.train(config(files, labeller=str(trained), ask="rating", shots=2), where)


def test_a_labeller_is_trained_and_measured_by_standard(tiny_checkpoint, files, tmp_path):
    found = labeller.train(labeller.Config(data=files["gold"], ask="rating", constitution=SHIPPED, max_steps=1, batch_size=4, held_out=0.3),
                           stage(tmp_path, {"policy": tiny_checkpoint}))
    assert found.measured["after"]["rating_by_principle"]["n"] > 0
