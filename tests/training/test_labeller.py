"""The labeller: losses by hand, both orders, the gate at chance, resume, and that it learns what its pairs teach."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from auditor.errors import InputError, TrainingError
from auditor.judges.pairwise import WHICH, pairwise_requests
from auditor.models.resolve import open_model
from auditor.schema import Generation, ModelSpec, OptionLogprob, Preference, user
from auditor.training import labeller
from auditor.training.core.asking import RATINGS, Labeller, Manner, expected_ratings, gold_comparison, rating
from auditor.training.core.constitution import SHIPPED, load_constitution, sample
from auditor.training.core.stage import StageRun
from auditor.training.core.validation import measure_comparisons, measure_ratings, refuse_at_chance, shown, split_gold, unseen
from auditor.training.core.world import World
from auditor.training.data import data_hash, load_preferences, split
from auditor.training.labeller import Config, pairwise_loss, rating_loss


def pair(number, label=1.0, **fields):
    """The better answer says yes, the worse one no; a topic has two pairs."""
    return Preference(id=f"p{number}", prompt=(user(f"Item {number}?"),), chosen="yes yes", rejected="no no", cluster_id=f"c{number // 2}", label=label,
                      **fields)


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"id": f"p{n}", "cluster_id": f"c{n // 2}", "kind": "odd" if n % 2 else "even", "prompt": f"Item {n}?", "chosen": f"yes yes {n}",
             "rejected": "no no"} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def stage(folder, model, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return StageRun(name="labeller", folder=folder, world=World(), inputs={"policy": str(model)}, **options)


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_the_pairwise_loss_is_the_cross_entropy_of_the_soft_label_in_both_orders():
    first, second = torch.log(torch.tensor([[0.5, 0.25], [0.1, 0.2]])), torch.log(torch.tensor([[0.5, 0.4], [0.3, 0.2]]))
    losses, statistics = pairwise_loss(first, second, torch.tensor([1.0, 0.25]))
    one = -math.log(0.5) - math.log(0.4)
    two = -0.25 * math.log(0.1) - 0.75 * math.log(0.2) - 0.25 * math.log(0.2) - 0.75 * math.log(0.3)
    assert losses.tolist() == pytest.approx([one / 2, two / 2])
    # Odds for the first answer: 2 and 4/5, together above 1; then 1/2 and 2/3, together below, as the label 0.25 is.
    assert float(statistics["accuracy"]) == 2
    assert float(statistics["option_mass"]) == pytest.approx((0.75 + 0.9) / 2 + (0.3 + 0.5) / 2)


def test_expected_ratings_weigh_the_digits_by_their_normalised_probability():
    probabilities = torch.full((1, 9), 1e-30)
    probabilities[0, 2], probabilities[0, 6] = 0.1, 0.3  # ratings 3 and 7, three quarters on 7
    assert float(expected_ratings(torch.log(probabilities))[0]) == pytest.approx(6.0)


def test_the_rating_loss_is_bradley_terry_on_the_gap_and_asks_for_every_digit():
    """Mostly 6 and mostly 4, the eight other digits at .01 and .02 each, so that both replies are a digit with probability .8."""
    def digits(first, at, others):
        values = torch.full((1, 9), others)
        values[0, first - 1] = at
        return torch.log(values)

    better, worse = digits(6, 0.72, 0.01), digits(4, 0.64, 0.02)
    gap = (0.72 * 6 + 0.01 * (45 - 6)) / 0.8 - (0.64 * 4 + 0.02 * (45 - 4)) / 0.8
    losses, statistics = rating_loss(better, worse, torch.tensor([0.75]), 0.1)
    pull = (math.log(0.72) + 8 * math.log(0.01) + math.log(0.64) + 8 * math.log(0.02)) / 18
    assert float(losses[0]) == pytest.approx(0.75 * math.log1p(math.exp(-gap)) + 0.25 * math.log1p(math.exp(gap)) - 0.1 * pull, rel=1e-5)
    assert float(statistics["option_mass"]) == pytest.approx(0.8)


def test_no_digit_is_pulled_more_than_another_and_a_labeller_that_says_one_digit_always_can_still_learn():
    """The pull's gradient is p − 1/9 of each digit's logit, so that what is likely already is not made likelier; saturated ratings are drawn apart again."""
    logits = torch.tensor([[3.0, *[0.0] * 8, 2.0]], requires_grad=True)  # nine digits and the rest of the vocabulary
    logprobs = torch.log_softmax(logits, -1)[:, :9]
    rating_loss(logprobs, logprobs, torch.tensor([0.5]), 1.0)[0].sum().backward()
    share = torch.softmax(logits.detach(), -1)[0]
    assert logits.grad[0, :9].tolist() == pytest.approx((share[:9] - 1 / 9).tolist(), abs=1e-6)
    assert float(logits.grad[0, 0]) > 0  # the likeliest digit is held back
    stuck = torch.tensor([[20.0, *[0.0] * 8, 0.0]], requires_grad=True)
    logprobs = torch.log_softmax(stuck, -1)[:, :9]
    rating_loss(logprobs, logprobs, torch.tensor([1.0]), 0.1)[0].sum().backward()
    assert float(stuck.grad.norm()) > 0.05


def reply(*probabilities, error=None):
    options = tuple(OptionLogprob(text=text, logprob=math.log(value)) for text, value in zip(RATINGS, probabilities, strict=True))
    return Generation(sample_id="s", logprobs=options, error=error)


def test_a_rating_is_scaled_to_one_and_missing_where_the_digits_have_no_mass():
    assert rating(reply(*[0.1] * 9)) == pytest.approx(0.0)
    assert rating(reply(*[1e-9] * 8, 0.5)) == pytest.approx(1.0, abs=1e-6)
    assert rating(reply(*[0.001] * 9)) is None
    assert rating(reply(*[0.1] * 9, error="out of memory")) is None


# -- asking -----------------------------------------------------------------------------------------------------------


class Fixed:
    """A model whose probability of " A" is 0.8 where the first answer says yes, 0.3 elsewhere; it remembers what it was asked."""

    spec = ModelSpec(uri="fixed", weights_hash="f" * 8)

    def __init__(self):
        self.asked = []

    def plan(self, requests):
        return [list(requests)[::-1]]  # another order than asked

    def run(self, requests):
        for request in requests:
            self.asked.append(request)
            place = {"sample_id": request.sample_id, "slot": request.slot}
            if request.kind == "generate":
                yield Generation(**place, text=" Because\nso. ")
            elif request.options == RATINGS:
                high = "yes" in request.messages[-2].content
                yield dataclasses.replace(reply(*[0.01] * 8, 0.9) if high else reply(0.9, *[0.01] * 8), **place)
            else:
                first = 0.8 if "Answer A: yes" in request.messages[-2].content else 0.3
                options = tuple(OptionLogprob(text=text, logprob=math.log(value / 2)) for text, value in ((" A", first), (" B", 1 - first)))
                yield Generation(**place, logprobs=options)


def test_both_orders_make_the_soft_label_and_the_question_is_the_judges():
    model = Fixed()
    measured = measure_comparisons(Labeller(model), [pair(n, 0.2 if n == 0 else 1.0) for n in range(6)])
    plain = {request.messages for n in range(6) for request in pairwise_requests((user(f"Item {n}?"),), "yes yes", "no no")}
    assert {request.messages for request in model.asked} == plain
    # Better first: 0.8. Better second: 1 − 0.3 = 0.7. Soft label 0.75; bias 0.1; the first place gets (0.8 + 0.3)/2. Pair 0 prefers "no no".
    assert measured["accuracy"]["value"] == pytest.approx(5 / 6)
    assert measured["n"] == 6
    assert measured["unscored"] == 0
    assert measured["position_bias"]["value"] == pytest.approx(0.1)
    assert measured["prefers_first"]["value"] == pytest.approx(0.55)
    assert measure_ratings(Labeller(model), [pair(n) for n in range(6)])["accuracy"]["value"] == 1.0


def test_ratings_have_no_order_so_no_position_bias_is_measured():
    """A bias of 0 that could not have come out otherwise would read as evidence in a report."""
    measured = measure_comparisons(Labeller(Fixed(), Manner(ask="rating")), [pair(n) for n in range(6)])
    assert measured["accuracy"]["value"] == 1.0
    assert measured["position_bias"] is measured["prefers_first"] is None


def test_preamble_shots_and_rationale_come_before_the_letter():
    model = Fixed()
    shots = tuple(gold_comparison(pair(n)) for n in (7, 8))
    manner = Manner(preamble="You compare answers.", shots=shots, chain_of_thought=True)
    (opinion,) = Labeller(model, manner).compare([gold_comparison(pair(1))])
    assert opinion.rationale == "Because so."
    asked = next(request for request in model.asked if request.kind == "logprobs")
    assert asked.messages[0].content.startswith("You compare answers.\n\nQuestion: Item 7?\nAnswer A: yes yes")
    assert [message.content[-1] for message in asked.messages[1:4:2]] == ["A", "B"]  # the better answer's place changes
    assert asked.messages[-1].content == "Because so.\nThe better answer is Answer"


def test_undecided_pairs_are_not_asked_and_missing_verdicts_are_counted():
    class Silent(Fixed):
        def run(self, requests):
            for request in requests:
                yield Generation(sample_id=request.sample_id, error="too long")

    measured = measure_comparisons(Labeller(Silent()), [pair(0, 0.5), pair(1)])
    assert (measured["accuracy"], measured["unscored"], measured["not_asked"]) == (None, 1, 1)
    assert "1 held-out pairs without a verdict" in shown(measured)


@pytest.mark.parametrize("measured", [{}, {"accuracy": None, "n": 0}, {"accuracy": None, "unscored": 0, "not_asked": 3}])
def test_an_accuracy_that_nothing_was_asked_for_does_not_speak_of_missing_verdicts(measured):
    assert shown(measured) == "not measured (no held-out pair has a better side)"


def test_the_gate_opens_above_chance_only():
    good, chance = ({"accuracy": {"value": 0.6, "low": low, "high": 0.7, "n": 90}} for low in (0.51, 0.5))
    assert refuse_at_chance(good, "m", "stage 'rlaif'", False) == ("labeller m: accuracy 0.600 (0.510 to 0.700) on 90 held-out pairs",)
    for measured in (chance, {"accuracy": None}, {"accuracy": {"value": 1.0, "low": None, "high": None, "n": 3}}):
        with pytest.raises(InputError, match="not above chance.*allow_unvalidated_labeller"):
            refuse_at_chance(measured, "m", "stage 'rlaif'", False)
        assert refuse_at_chance(measured, "m", "stage 'rlaif'", True)[0].startswith("NOT VALIDATED")


def test_gold_is_split_as_the_labellers_own_pairs_were():
    gold = [pair(n) for n in range(80)]
    spec = ModelSpec(uri="m", lineage={"method": "labeller", "seed": 3, "config": {"held_out": 0.25}})
    assert split_gold(gold, 0.4, 0, spec) == split(gold, 0.25, 3)
    assert split_gold(gold, 0.4, 0, ModelSpec(uri="m")) == split(gold, 0.4, 0)
    kept = {item.id for item in split(gold, 0.25, 3)[1]}
    assert {item.id for item in split_gold(gold, 0.1, 0, spec)[1]} <= kept  # a smaller share holds out some of the same topics


@pytest.mark.parametrize(("lineage", "seen"), [
    ({}, False), ({"method": "labeller", "history": ["sft", "labeller"]}, False), ({"method": "dpo", "history": ["labeller", "dpo"]}, True),
    ({"method": "labeller", "history": ["dpo", "labeller"]}, True), ({"method": "labeller", "history": ["labeller", "labeller"]}, True),
    ({"method": "dpo", "history": ["dpo"], "data_hashes": {"elsewhere": "other"}}, False)])
def test_a_model_that_learned_from_the_gold_pairs_is_not_measured_on_them(lineage, seen):
    gold = [pair(n) for n in range(8)]
    spec = ModelSpec(uri="m", lineage={"data_hashes": {"gold.jsonl": data_hash(gold)}, **lineage} if lineage else {})
    assert unseen(gold, gold[:3], spec)[1].get("seen_in_training", False) is seen
    measured = {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 90}} | ({"seen_in_training": True} if seen else {})
    if seen:
        with pytest.raises(InputError, match="its lineage lists the gold pairs.*other gold pairs are needed.*allow_unvalidated_labeller"):
            refuse_at_chance(measured, "m", "stage 'rlaif'", False)
    else:
        refuse_at_chance(measured, "m", "stage 'rlaif'", False)


# -- principles -------------------------------------------------------------------------------------------------------


def test_the_shipped_constitution_speaks_to_every_kind_of_gold_pair():
    principles = load_constitution(SHIPPED)
    assert 10 <= len(principles) <= 16
    for item in load_preferences("shipped:preferences")[::40]:
        assert sample(principles, 0, item.id, item.metadata["kind"]) is not None


def test_a_principle_is_drawn_by_name_among_those_that_fit():
    principles = load_constitution(SHIPPED)
    drawn = [sample(principles, 0, f"p{n}") for n in range(200)]
    assert drawn == [sample(principles, 0, f"p{n}") for n in range(200)]
    assert {item.id for item in drawn} == {item.id for item in principles}
    only = [dataclasses.replace(principles[0], kinds=("length",))]
    assert sample(only, 0, "p", "refusal") is None
    assert gold_comparison(pair(1, metadata={"kind": "refusal"}), only) is None
    asked = gold_comparison(pair(1, metadata={"kind": "length"}), only)
    assert asked.question == principles[0].comparison != WHICH


@pytest.mark.parametrize(("text", "told"), [("", "no principles"), ("[[principle]]\nid = 'x'\n", "'critique' is missing"), ("a = [", "no valid TOML"),
                                            ("[[principle]]\nid='x'\ncritique='c'\nrevision='r'\ncomparison=' '\n", "'comparison' of principle 'x' is empty"),
                                            ("[[principle]]\nid='x'\ncritiqe='c'\n", "did you mean 'critique'"),
                                            ("[[principle]]\nid='x'\ncritique='c'\nrevision='r'\ncomparison='q'\n" * 2, "two principles are called 'x'")])
def test_a_bad_constitution_is_refused(tmp_path, text, told):
    path = tmp_path / "constitution.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=told):
        load_constitution(str(path))


# -- training ---------------------------------------------------------------------------------------------------------


def test_it_learns_what_the_pairs_teach_and_judges_as_a_judge(tiny_checkpoint, tmp_path, pairs):
    config = Config(data=pairs, ask="both", lr=3e-3, epochs=4.0, batch_size=8, held_out=0.3)
    outcome = labeller.train(config, stage(tmp_path / "run", tiny_checkpoint))
    held = split(load_preferences(pairs), 0.3, 0)[1]
    measured = outcome.measured["after"]
    assert outcome.kind == "labeller"
    assert outcome.measured["trained_on"] == 40 - len(held)
    assert measured["pairwise"]["n"] == len(held)
    assert measured["pairwise"]["accuracy"]["low"] > 0.5
    assert measured["rating"]["accuracy"]["low"] > 0.5
    assert set(measured["pairwise"]["by_kind"]) == {"even", "odd"}
    assert outcome.measured["accuracy"] == measured["pairwise"]["accuracy"]
    again = measure_comparisons(Labeller(open_model(str(outcome.path))), held)
    assert again["accuracy"] == measured["pairwise"]["accuracy"]  # the checkpoint that was written is the one that was measured


def test_it_goes_on_to_the_same_losses(tiny_checkpoint, tmp_path, pairs):
    config = Config(data=pairs, ask="both", lr=1e-3, batch_size=8, save_every=3, lora_rank=4, measure_before=False, constitution=SHIPPED)
    whole = stage(tmp_path / "whole", tiny_checkpoint)
    labeller.train(config, whole)
    killed = stage(tmp_path / "killed", tiny_checkpoint, after_step=_kill)
    with pytest.raises(KeyboardInterrupt):
        labeller.train(config, killed)
    labeller.train(config, stage(tmp_path / "killed", tiny_checkpoint, resume=True))
    losses = [[json.loads(line)["loss"] for line in (tmp_path / name / "steps.jsonl").read_text().splitlines()] for name in ("whole", "killed")]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 6


def _kill(step):
    raise KeyboardInterrupt


def test_a_question_longer_than_the_limit_is_refused(tiny_checkpoint, tmp_path, pairs):
    with pytest.raises(InputError, match=r"pair 'p\d+' makes a question of \d+ tokens and the limit is 40"):
        labeller.train(Config(data=pairs, max_length=40), stage(tmp_path / "run", tiny_checkpoint))


def test_a_loss_that_is_not_finite_stops_it(tiny_checkpoint, tmp_path, pairs):
    with pytest.raises(TrainingError, match="lower lr"):
        labeller.train(Config(data=pairs, lr=1e9, epochs=3.0, batch_size=8, warmup=0.0, measure_before=False), stage(tmp_path / "run", tiny_checkpoint))
