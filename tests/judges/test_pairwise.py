"""The pairwise judge: two orders in, one soft label out, and nothing made up where there is no verdict."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Iterator, Sequence

import pytest

from auditor.errors import EngineError, InputError
from auditor.judges.gate import GATE_CRITERIA, gate
from auditor.judges.labels import majority, read_label, read_verdict
from auditor.judges.pairwise import BATCH, MIN_MASS, OPTIONS, TIE_BAND, PairwiseJudge, combine, option_mass, pairwise_requests
from auditor.schema import (
    Criterion,
    Generation,
    Metric,
    Model,
    ModelSpec,
    OptionLogprob,
    Outcome,
    Request,
    Verdict,
    ask,
    assistant,
    compare,
    user,
)


def reply(p_first: float, p_second: float, **place: object) -> Generation:
    """A reply that gives these probabilities to the letters of the answers shown first and second."""
    options = tuple(OptionLogprob(text=text, logprob=math.log(p) if p else -math.inf, token_logprobs=(0.0,))
                    for text, p in zip(OPTIONS, (p_first, p_second), strict=True))
    return Generation(**{"sample_id": "s", **place}, finish_reason="options", logprobs=options)  # type: ignore[arg-type]


class ScriptedModel:
    """Prefers the longer answer, with a lean to the first place; answers in a shuffled batch order to catch matching by position."""

    spec = ModelSpec(uri="scripted")

    def __init__(self, drop: int | None = None) -> None:
        self.asked: list[Request] = []
        self.drop = drop

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        shuffled = list(requests)
        random.Random(3).shuffle(shuffled)
        return [shuffled[start:start + 7] for start in range(0, len(shuffled), 7)]

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]:
        for request in requests:
            self.asked.append(request)
            if request.slot == self.drop:
                continue
            text = request.messages[0].content
            first, second = (text.split(f"Answer {letter}: ")[1].split("\n")[0] for letter in "AB")
            p = 0.9 if len(first) > len(second) else 0.3
            yield reply(p * 0.8, (1 - p) * 0.8, sample_id=request.sample_id, epoch=request.epoch, turn=request.turn, slot=request.slot)


def judge_requests(n: int, suite: str = "demo") -> list[Request]:
    pairs = [("x" * (1 + i % 9), "y" * 5) for i in range(n)]
    return [dataclasses.replace(compare([user(f"question {i}")], a, b), suite=suite, sample_id=f"s{i}") for i, (a, b) in enumerate(pairs)]


def test_requests_show_the_answers_in_both_orders() -> None:
    first, second = pairwise_requests([user("Why is ice slippery?")], "FILM", "MAGIC")
    for request, shown in ((first, ("FILM", "MAGIC")), (second, ("MAGIC", "FILM"))):
        text = request.messages[0].content
        assert "Why is ice slippery?" in text
        assert text.index(f"Answer A: {shown[0]}") < text.index(f"Answer B: {shown[1]}")
        assert request.kind == "logprobs"
        assert request.options == OPTIONS
        assert request.messages[-1].role == "assistant"
        assert not request.messages[-1].content.endswith(" ")


def test_a_longer_conversation_is_shown_with_its_roles() -> None:
    request, _ = pairwise_requests([user("Hi"), assistant("Hello"), user("And now?")], "one", "two")
    assert request.messages[0].content.startswith("User: Hi\nAssistant: Hello\nUser: And now?\nAnswer A: one")


def test_no_conversation_is_refused() -> None:
    with pytest.raises(InputError, match="at least one message"):
        pairwise_requests([], "one", "two")


def test_combine_by_hand() -> None:
    result = combine("a", "b", reply(0.6, 0.2), reply(0.1, 0.3))
    assert result.status == "judged"
    assert result.ab == pytest.approx(0.75)
    assert result.ba == pytest.approx(0.75)
    assert result.prefers_a == pytest.approx(0.75)
    assert "0.800" in result.explanation
    assert "0.400" in result.explanation


@pytest.mark.parametrize(("p", "q"), [(0.7, 0.2), (0.05, 0.9), (0.5, 0.1)])
def test_swapping_the_answers_mirrors_the_judgment(p: float, q: float) -> None:
    there = combine("a", "b", reply(p, 0.9 - p), reply(q, 0.95 - q))
    back = combine("b", "a", reply(q, 0.95 - q), reply(p, 0.9 - p))
    assert there.prefers_a is not None
    assert back.prefers_a is not None
    assert back.prefers_a == pytest.approx(1 - there.prefers_a)
    assert back.ab == pytest.approx(1 - there.ba)  # type: ignore[operator]


def test_a_judge_of_places_only_is_a_tie() -> None:
    result = combine("a", "b", reply(0.9, 0.1), reply(0.9, 0.1))
    assert result.status == "tie"
    assert result.prefers_a == pytest.approx(0.5)


def test_the_tie_band_is_as_documented() -> None:
    inside, outside = (combine("a", "b", reply(0.5 + shift, 0.5 - shift), reply(0.5, 0.5)) for shift in (1.9 * TIE_BAND, 2.1 * TIE_BAND))
    assert inside.status == "tie"
    assert outside.status == "judged"


@pytest.mark.parametrize("low", [0, 1])
def test_little_mass_on_the_letters_in_either_order_is_no_verdict(low: int) -> None:
    replies = [reply(0.5, 0.4), reply(0.5, 0.4)]
    replies[low] = reply(0.6 * MIN_MASS, 0.3 * MIN_MASS)
    result = combine("a", "b", *replies)
    assert result.status == "unparseable"
    assert result.prefers_a is None
    assert (result.ab is None, result.ba is None) == (low == 0, low == 1)


def test_impossible_letters_are_no_verdict_and_no_warning() -> None:
    assert combine("a", "b", reply(0.0, 0.0), reply(0.5, 0.5)).status == "unparseable"


def test_an_error_is_an_error() -> None:
    broken = Generation(sample_id="s", finish_reason="error", error="the prompt is too long")
    result = combine("a", "b", reply(0.5, 0.4), broken)
    assert result.status == "error"
    assert result.prefers_a is None
    assert "too long" in result.explanation
    assert option_mass(broken) is None
    assert option_mass(reply(0.5, 0.4)) == pytest.approx(0.9)


@pytest.mark.parametrize(("first", "second", "status", "prefers_a"), [
    ("A", "B", "judged", 1.0),
    ("Answer B", "[[A]]", "judged", 0.0),
    ("A", "A", "tie", 0.5),
    ("Tie", "tie (both bad)", "tie", 0.5),
    ("A", "Both are fine, but A explains more.", "unparseable", None),
    ("I can't compare these.", "B", "unparseable", None),
    ("", "B", "unparseable", None),
    ("refused", "", "unparseable", None),
    ("refused", "B", "refused", None),
])
def test_verdicts_in_text_are_places_and_only_whole_texts_count(first: str, second: str, status: str, prefers_a: float | None) -> None:
    result = combine("a", "b", *(Generation(sample_id="s", text=text) for text in (first, second)))
    assert (result.status, result.prefers_a) == (status, prefers_a)


def test_replies_to_other_options_are_refused() -> None:
    three = dataclasses.replace(reply(0.5, 0.3), logprobs=(*reply(0.5, 0.3).logprobs, OptionLogprob(text=" C", logprob=-2.0)))
    with pytest.raises(InputError, match="3 options"):
        combine("a", "b", three, reply(0.5, 0.3))


def test_the_judge_asks_both_orders_of_each_request_and_answers_in_order() -> None:
    model, requests = ScriptedModel(), judge_requests(40)
    judge = PairwiseJudge(model)
    judgments = [item for batch in judge.plan(requests) for item in zip(batch, judge.judge(batch), strict=True)]
    assert judge.spec.uri == "scripted"
    assert len(model.asked) == 80
    assert len({request.key for request in model.asked}) == 80
    for request, result in judgments:
        assert (result.a, result.b) == request.options
        a, b = map(len, request.options)
        # The script: 0.9 for the longer answer shown first, 0.3 for a first answer that is not longer.
        assert result.ab == pytest.approx(0.9 if a > b else 0.3)
        assert result.ba == pytest.approx(1 - (0.9 if b > a else 0.3))


def test_the_plan_is_a_pure_function_of_the_requests() -> None:
    requests = judge_requests(70) + judge_requests(5, suite="other")
    judge = PairwiseJudge(ScriptedModel())
    plan = judge.plan(requests)
    shuffled = list(requests)
    random.Random(1).shuffle(shuffled)
    assert judge.plan(shuffled) == plan
    assert sorted(request.key for batch in plan for request in batch) == sorted(request.key for request in requests)
    assert max(map(len, plan)) == BATCH
    assert all(len({request.suite for request in batch}) == 1 for batch in plan)
    assert judge.plan([]) == []


def test_an_unanswered_question_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match="no reply"):
        list(PairwiseJudge(ScriptedModel(drop=1)).judge(judge_requests(2)))


def test_a_judge_takes_only_comparisons() -> None:
    with pytest.raises(InputError, match="'generate'"):
        list(PairwiseJudge(ScriptedModel()).judge([ask([user("Hi")])]))


def test_the_embedded_model_judges_by_its_two_letters(embedded_model: Model) -> None:
    pairs = [("Oslo.", "Oslo."), ("Oslo.", "Paris, I guess."), ("Paris, I guess.", "Oslo.")]
    requests = [dataclasses.replace(compare([user("What is the capital of Norway?")], a, b), sample_id=f"s{i}") for i, (a, b) in enumerate(pairs)]
    same, there, back = PairwiseJudge(embedded_model).judge(requests)
    assert same.status == "tie"
    assert there.prefers_a is not None
    assert back.prefers_a == pytest.approx(1 - there.prefers_a, abs=1e-3)
    masses = [float(number) for result in (same, there, back) for number in re.findall(r"\d\.\d+", result.explanation)]
    assert len(masses) == 6
    assert min(masses) > 0.5


@pytest.mark.parametrize(("value", "label"), [
    ("a", "a"), ("A", "a"), (1, "a"), ("Output_1", "a"), ("a-is-slightly-better", "a"),
    ("model_b", "b"), ("2", "b"), ("[[B]]", "b"), ("Answer B is better", "b"), ("second", "b"),
    ("Tie", "tie"), ("TIE", "tie"), ("tie (bothbad)", "tie"), ("both good", "tie"), ("draw", "tie"), ("C", "tie"), ("equal", "tie"),
    (None, "missing"), ("", "missing"), ("N/A", "missing"), (math.nan, "missing"), ("Refused", "refused"),
    ("A and B", None), ("As an AI, I prefer", None), ("3", None), ("alpaca", None), ("better", None),
])
def test_labels_written_in_many_ways(value: object, label: str | None) -> None:
    assert read_label(value) == label


@pytest.mark.parametrize(("value", "verdict"), [
    ("a", (1.0, "judged")), ("tie", (0.5, "judged")), ("2", (0.0, "judged")), (2, (0.0, "judged")), (0, (0.0, "judged")),
    (0.25, (0.25, "judged")), (1.7, (None, "unparseable")), (None, (None, "unparseable")), ("It depends", (None, "unparseable")),
    ("refused", (None, "refused")),
])
def test_recorded_verdicts(value: object, verdict: tuple[float | None, str]) -> None:
    assert read_verdict(value) == verdict


def test_majority_of_raters() -> None:
    assert majority(["a", "a", "b"]) == "a"
    assert majority(["tie", "b", "tie"]) == "tie"
    assert majority(["a", "b"]) == "tie"
    assert majority(["a", "tie"]) == "tie"
    assert majority([]) is None


def verdict(name: str, outcome: Outcome, suite: str = "judge_gate", group: str = "all") -> Verdict:
    criterion = Criterion(metric=f"{suite}.{name}", bound=0.7, direction="above", source="house default", rationale="", group=group)
    metric = Metric(suite=suite, name=name, value=0.5, group=group)
    return Verdict(criterion=criterion, outcome=outcome, metric=metric, reason="")


def test_the_gate_opens_only_when_every_criterion_passes() -> None:
    passing = [verdict(name, "pass") for name in GATE_CRITERIA]
    assert gate(passing).passed
    assert gate([*passing, verdict("length_bias", "fail"), verdict("agreement", "fail", group="language:de")]).passed
    for outcome in ("fail", "inconclusive", "not_assessed"):
        shut = gate([verdict("agreement", outcome), *passing[1:]])  # type: ignore[arg-type]
        assert not shut.passed
        assert "agreement is 0.500" in shut.reason
        assert outcome.replace("_", " ") in shut.reason
    # A bias has two bounds: both must pass.
    assert not gate([*passing, verdict("first_position_bias", "fail")]).passed
    missing = gate(passing[1:])
    assert not missing.passed
    assert "agreement was not measured" in missing.reason
