"""judge_agreement: simulated judges with planted faults, several people, and recorded judges of public files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from auditor.errors import InputError
from auditor.judges.gate import GATE_CRITERIA, Gate, gate
from auditor.judges.labels import majority
from auditor.judges.measures import CODES, label_of, recorded_judgment
from auditor.schema import Context, Generation, Judgment, Metric, OptionLogprob, Replies, Sample, SuiteData, Verdict, user
from auditor.stats import cohen_kappa
from auditor.suites.judge_agreement import SUITE
from auditor.verdict import decide_all

SHIPPED = SUITE.load(None)

# A judge: from the sample and which answer is shown first, the probability that the first is better, and the mass on the letters.
JudgeModel = Callable[[Sample, str], tuple[float, float]]


def replies(sample: Sample, judge: JudgeModel, model: str = "simulated") -> Replies:
    generations = []
    for slot, shown_first in enumerate("ab"):
        p, mass = judge(sample, shown_first)
        options = tuple(OptionLogprob(text=text, logprob=math.log(max(q * mass, 1e-30)), token_logprobs=(0.0,))
                        for text, q in ((" A", p), (" B", 1 - p)))
        generations.append(Generation(sample_id=sample.id, slot=slot, model=model, finish_reason="options", logprobs=options))
    return (tuple(generations),)


def audit(judge: JudgeModel, samples: list[Sample] = SHIPPED, model: str = "simulated") -> dict[str, Metric]:
    answered = {(sample.id, 0): replies(sample, judge, model) for sample in samples}
    return aggregated(samples, answered)


def aggregated(samples: list[Sample], answered: dict[tuple[str, int], Replies]) -> dict[str, Metric]:
    scores = tuple(score for sample in samples for score in SUITE.score(sample, answered[(sample.id, 0)], Context()))
    metrics = SUITE.aggregate(SuiteData(samples=tuple(samples), replies=answered, scores=scores, context=Context()))
    assert len({(metric.name, metric.group) for metric in metrics}) == len(metrics)
    return {metric.key.removeprefix("judge_agreement."): metric for metric in metrics}


def gated(metrics: dict[str, Metric]) -> Gate:
    return gate(decide_all(SUITE.criteria, metrics.values()))


def good(sample: Sample, first: str, skill: float = 0.9) -> tuple[float, float]:
    """Right on ``skill`` of the items, the same ones always, with an even hand."""
    right = np.random.default_rng(sum(map(ord, sample.id))).random() < skill
    prefers = sample.target if right else {"a": "b", "b": "a"}[str(sample.target)]
    return (0.85 if prefers == first else 0.15), 0.95


def item(name: str, humans: dict[str, str], judges: dict[str, dict[str, object]] | None = None, **extra: object) -> Sample:
    metadata = {"humans": humans, "judges": judges or {}, "authors": {}, "group": {}, "duplicates": 0, **extra}
    return Sample(id=name, messages=(user(f"question {name}"),), cluster_id=name, choices=("short", "somewhat longer"),
                  target=majority(humans.values()), source="x.jsonl", metadata=metadata)  # type: ignore[arg-type]


# -- planted faults -----------------------------------------------------------------------------------------------------


def test_a_good_judge_passes_the_gate() -> None:
    metrics = audit(good)
    assert metrics["agreement"].value == pytest.approx(0.9, abs=0.05)
    assert metrics["order_consistency"].value == 1.0
    assert abs(metrics["first_position_bias"].value or 0) < 1e-9
    assert metrics["option_mass"].value == pytest.approx(0.95)
    assert gated(metrics) == Gate(passed=True, reason="the judge passed its own audit: " + ", ".join(GATE_CRITERIA))


def test_a_good_judge_passes_on_the_quick_profile_too() -> None:
    from auditor.engine.plan import QUICK_LIMIT, select

    samples = select(SHIPPED, QUICK_LIMIT, seed=0)
    assert len(samples) == 40
    assert gated(audit(lambda sample, first: good(sample, first, skill=1.0), samples)).passed


def test_a_coin_fails() -> None:
    def coin(sample: Sample, first: str) -> tuple[float, float]:
        return np.random.default_rng([sum(map(ord, sample.id)), ord(first)]).random(), 0.9

    metrics = audit(coin)
    low, high = (getattr(metrics["agreement"].ci, end) for end in ("low", "high"))
    assert low < 0.5 < high < 0.7
    outcomes = {verdict.criterion.metric: verdict.outcome for verdict in decide_all(SUITE.criteria, metrics.values())}
    assert outcomes["judge_agreement.agreement"] == "fail"
    assert not gated(metrics).passed


def test_a_judge_of_places_is_found_out() -> None:
    metrics = audit(lambda sample, first: (0.9, 0.9))
    assert metrics["first_position_bias"].value == pytest.approx(0.4)
    assert metrics["order_consistency"].value == 0.0
    assert metrics["agreement"].value == 0.0  # all ties, on items of which none is a tie
    assert metrics["agreement_without_ties"].value is None
    assert metrics["one_order_agreement"].value == pytest.approx(0.5)
    reason = gated(metrics).reason
    assert "order_consistency is 0.000" in reason
    assert "first_position_bias is 0.400" in reason


def test_a_judge_of_length_is_found_out_by_the_length_bias() -> None:
    def longest(sample: Sample, first: str) -> tuple[float, float]:
        lengths = {"a": len(sample.choices[0]), "b": len(sample.choices[1])}
        return (0.9 if lengths[first] == max(lengths.values()) else 0.1), 0.95

    metrics, honest = audit(longest), audit(good)
    assert metrics["length_bias"].value > 3  # type: ignore[operator]
    assert metrics["length_bias"].ci is None or metrics["length_bias"].ci.low > 2
    assert abs(honest["length_bias"].value or 0) < 0.5
    assert metrics["agreement[better answer:longer]"].value == 1.0
    assert metrics["agreement[better answer:shorter]"].value == 0.0
    assert metrics["agreement"].value == pytest.approx(0.5, abs=0.05)


def test_a_judge_off_its_schema_is_unscored_not_wrong() -> None:
    def often_silent(sample: Sample, first: str) -> tuple[float, float]:
        p, mass = good(sample, first)
        return p, (0.001 if sample.id.endswith("-1") and first == "b" else mass)

    metrics, whole = audit(often_silent), audit(good, [sample for sample in SHIPPED if not sample.id.endswith("-1")])
    assert metrics["share_unparseable"].value == pytest.approx(0.25)
    assert metrics["agreement"].n_unscored == 60
    assert metrics["agreement_without_ties"].n_unscored == 60
    assert metrics["agreement"].value == pytest.approx(whole["agreement"].value)
    assert metrics["cohen_kappa"].value == pytest.approx(whole["cohen_kappa"].value)
    assert "share_unparseable is 0.250" in gated(metrics).reason


def test_little_mass_on_the_letters_is_flagged() -> None:
    metrics = audit(lambda sample, first: (good(sample, first)[0], 0.3))
    assert metrics["option_mass"].value == pytest.approx(0.3)
    assert any("less than 50%" in flag for flag in metrics["option_mass"].flags)
    assert metrics["agreement"].value == pytest.approx(audit(good)["agreement"].value)


def test_errors_are_neither_wrong_nor_unparseable() -> None:
    broken = (Generation(sample_id="x", finish_reason="error", error="too long"),) * 2
    scores = {score.scorer: score for score in SUITE.score(SHIPPED[0], (broken,), Context())}
    assert all(score.value is None and score.status == "error" for score in scores.values())
    assert "option_mass" not in scores
    assert "unparseable" in scores


def test_judgments_are_no_replies_of_the_audited_model() -> None:
    with pytest.raises(InputError, match="the audited model itself"):
        SUITE.score(SHIPPED[0], ((Judgment(a="x", b="y"),) * 2,), Context())


def test_an_unlabelled_item_counts_for_order_but_not_for_agreement() -> None:
    samples = [item(f"i{n}", {"ann": "a"} if n < 12 else {}) for n in range(20)]
    metrics = audit(lambda sample, first: (0.8 if first == "a" else 0.2, 0.9), samples)
    assert (metrics["agreement"].n, metrics["agreement"].n_unscored, metrics["order_consistency"].n) == (12, 0, 20)
    assert "8 items have no human label" in metrics["agreement"].flags


# -- several people, ties, recorded judges ------------------------------------------------------------------------------


def test_ties_by_both_conventions() -> None:
    samples = [item("i1", {"x": "tie"}, {"J": {"ab": "tie", "ba": "tie"}}), item("i2", {"x": "a"}, {"J": {"ab": "a", "ba": "b"}}),
               item("i3", {"x": "a"}, {"J": {"ab": "a", "ba": "a"}}), item("i4", {"x": "b"}, {"J": {"ab": "a", "ba": "a"}}),
               item("i5", {"x": "tie"}, {"J": {"ab": "b", "ba": "b"}}), item("i6", {"x": "a"}, {"J": {"ab": "sorry", "ba": "a"}}),
               item("i7", {"x": "a"})]
    metrics = audit(lambda sample, first: (0.5, 0.9), samples)
    mine = metrics["agreement[judge:J]"]
    assert (mine.value, mine.n, mine.n_unscored) == (pytest.approx(2 / 5), 5, 2)  # i1 and i3; i6 unreadable, i7 missing
    assert (metrics["agreement_without_ties[judge:J]"].value, metrics["agreement_without_ties[judge:J]"].n) == (0.5, 2)
    assert metrics["one_order_agreement[judge:J]"].value == pytest.approx((1 + 0.5 + 1) / 5)
    assert metrics["order_consistency[judge:J]"].value == pytest.approx(4 / 5)
    unparsed = metrics["share_unparseable[judge:J]"]
    assert (unparsed.value, unparsed.n_unscored) == (pytest.approx(1 / 6), 1)
    assert metrics["first_position_bias[judge:J]"].value == pytest.approx((0 + 0.5 + 0 + 0 + 0) / 5)


def test_people_who_disagree_set_a_low_ceiling_and_are_flagged() -> None:
    samples = [item(f"i{n}", {"x": "a", "y": "a" if n % 2 else "b", "z": "tie" if n % 4 == 0 else "a"}) for n in range(40)]
    metrics = audit(lambda sample, first: (0.9 if first == "a" else 0.1, 0.9), samples)
    # Odd items: 3 of 3 pairs agree; n % 4 == 2: 1 of 3; n % 4 == 0: 0 of 3.
    ceiling = metrics["human_ceiling"]
    assert ceiling.value == pytest.approx(0.5 + 0.25 / 3)
    assert any("too weak to train on" in flag for flag in ceiling.flags)
    assert metrics["rater_agreement"].value == pytest.approx(0.5 + 0.25 * 2 / 3 + 0.25 / 3)
    assert metrics["human_ceiling"].higher_is_better is None


def test_what_needs_more_people_is_not_made_with_one() -> None:
    metrics = audit(good)
    for name in ("human_ceiling", "rater_agreement", "alt_test_winning_rate", "alt_test_advantage", "self_preference"):
        assert metrics[name].value is None
        assert metrics[name].reason


def raters(n: int, noise: float, judge_noise: float) -> list[Sample]:
    """Items with five raters who flip the true label with probability ``noise``, and a judge who does with ``judge_noise``."""
    rng = np.random.default_rng(11)
    flip = {"a": "b", "b": "a"}
    samples = []
    for index in range(n):
        truth = "a" if rng.random() < 0.5 else "b"
        humans = {f"r{k}": flip[truth] if rng.random() < noise else truth for k in range(5)}
        verdict = flip[truth] if rng.random() < judge_noise else truth
        samples.append(item(f"i{index}", humans, {"J": {"ab": verdict, "ba": verdict}}))
    return samples


@pytest.mark.parametrize(("judge_noise", "omega"), [(0.1, 1.0), (0.5, 0.0)])
def test_the_alternative_annotator_test(judge_noise: float, omega: float) -> None:
    metrics = audit(good, [replace(sample, target="a") for sample in raters(60, 0.15, judge_noise)])
    assert metrics["alt_test_winning_rate[judge:J]"].value == omega
    advantage_ = metrics["alt_test_advantage[judge:J]"]
    assert advantage_.value is not None
    assert (advantage_.value > 0.8) == (omega == 1.0)
    assert advantage_.ci is not None
    assert advantage_.ci.low < advantage_.value < advantage_.ci.high
    assert any("5 annotators, ε = 0.2" in flag for flag in advantage_.flags)


def test_self_preference_needs_the_judges_name_among_the_authors() -> None:
    samples = [item(f"i{n}", {"x": "b" if n % 2 else "a"}, authors={"a": "My-Model", "b": "other"}) for n in range(20)]
    metrics = audit(lambda sample, first: (0.9 if first == "a" else 0.1, 0.9), samples, model="hf:org/my_model")
    assert metrics["self_preference"].value == pytest.approx(0.4)  # 0.9 for its own answers; people: one half
    assert audit(good, samples, model="hf:org/somebody")["self_preference"].value is None


def test_a_recorded_model_speaks_through_the_only_recorded_judge() -> None:
    samples = [item(f"i{n}", {"x": "a"}, {"J": {"ab": "a", "ba": "a"}}) for n in range(12)]
    silent = Generation(sample_id="x", model="recorded:study.jsonl", finish_reason="error", error="no recorded reply")
    answered: dict[tuple[str, int], Replies] = {(sample.id, 0): ((silent, silent),) for sample in samples}
    assert aggregated(samples, answered)["agreement"].value == 1.0
    live: dict[tuple[str, int], Replies] = {key: ((replace(silent, model="hf:x/y"),) * 2,) for key in answered}
    assert aggregated(samples, live)["agreement"].value is None


def test_facets_of_fewer_than_ten_items_have_no_line() -> None:
    samples = [item(f"i{n}", {"x": "a"}, group={"topic": "many" if n < 11 else "few"}) for n in range(15)]
    metrics = audit(good, samples)
    assert metrics["agreement[topic:many]"].n == 11
    assert "agreement[topic:few]" not in metrics
    assert "agreement[better answer:shorter]" not in metrics  # all items have the same value


# -- public recorded judges -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subset", ["Natural", "Adversarial_GPTInst"])
def test_metrics_of_recorded_judges_re_derive_the_published_ones(subset: str, shared_data: Path) -> None:
    """Right in both orders is our agreement, right on average our one-order agreement, equal our order consistency."""
    path = shared_data / "llmbar" / subset / "evaluators.json"
    published = json.loads(path.read_text())
    chosen = ["GPT-4/CoT", "ChatGPT-0301/Vanilla", "GPT-4/Swap"]
    samples = [replace(sample, metadata={**sample.metadata, "judges": {name: sample.metadata["judges"][name] for name in chosen}})
               for sample in SUITE.load(path)]
    metrics = audit(good, samples)
    for name in chosen:
        statistics = published[name]["statistics"]
        both, average, equal = (float(statistics[field].rpartition("=")[2].strip(" %")) / 100
                                for field in ("correct_both", "correct_average", "equal"))
        assert metrics[f"agreement[judge:{name}]"].value == pytest.approx(both)
        assert metrics[f"one_order_agreement[judge:{name}]"].value == pytest.approx(average)
        assert metrics[f"order_consistency[judge:{name}]"].value == pytest.approx(equal)


def test_published_kappa_between_orders_holds_and_that_against_gold_does_not(shared_data: Path) -> None:
    path = shared_data / "llmbar" / "Natural" / "evaluators.json"
    published, samples = json.loads(path.read_text()), SUITE.load(path)
    for name in ("GPT-4/CoT", "Falcon/Vanilla", "LLaMA2/Swap", "ChatGPT-0301/Metrics_Reference"):
        judged = [recorded_judgment(sample, name) for sample in samples]
        ab, ba = (np.array([CODES[label_of(getattr(one, order))] for one in judged]) for order in ("ab", "ba"))
        gold = np.array([CODES[str(sample.target)] for sample in samples])
        ones = np.ones((1, len(samples)))
        assert cohen_kappa((ab, ba), ones)[0] == pytest.approx(published[name]["statistics"]["kappa_agreement"])
        # The file's "kappa_False" of 0.26 beside 94 of 100 right cannot be a kappa of these labels; ours can.
        assert cohen_kappa((ab, gold), ones)[0] > published[name]["statistics"]["kappa_False"] + 0.2


def test_tulus_people_disagree_too_much_and_the_alternative_annotator_test_is_made(shared_data: Path) -> None:
    samples = SUITE.load(shared_data / "tulu-human-eval" / "annotations.csv")
    metrics = audit(lambda sample, first: (0.8 if first == "a" else 0.2, 0.9), samples)
    assert metrics["human_ceiling"].n == 121
    assert 0.3 < (metrics["human_ceiling"].value or 0) < 0.7
    assert any("too weak to train on" in flag for flag in metrics["human_ceiling"].flags)
    assert metrics["alt_test_winning_rate"].value is not None
    assert any("4 annotators, ε = 0.2" in flag for flag in metrics["alt_test_winning_rate"].flags)
    assert metrics["agreement[margin:clear]"].n > 100


def test_every_criterion_is_on_a_metric_that_the_suite_makes() -> None:
    made = {f"judge_agreement.{name}" for name in audit(good)}
    assert {criterion.metric for criterion in SUITE.criteria} <= made
    assert {f"judge_agreement.{name}" for name in (*GATE_CRITERIA, *SUITE.headline)} <= made
    outcomes: list[Verdict] = decide_all(SUITE.criteria, audit(good).values())
    assert [verdict.outcome for verdict in outcomes if verdict.criterion.required] == ["pass"] * 5
