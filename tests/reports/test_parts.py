"""The parts of the view: words, stages, transcripts, the judge, the comparison."""

from __future__ import annotations

from types import ModuleType

import pytest

from auditor.reports import environment, loop, wording
from auditor.reports.transcripts import headline_scorers, metric_of, transcript_view
from auditor.schema import Judgment, ModelSpec, Outcome, RunSpec
from auditor.store import Transcript


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ([], "No criterion was set, so nothing was decided."),
        (["fail"], "1 criterion fails."),
        (["pass", "pass"], "2 criteria pass."),
        (
            ["fail"] * 2 + ["pass"] * 5 + ["inconclusive"] * 3 + ["not_assessed"] * 6,
            "2 criteria fail, 5 pass, 3 inconclusive, 6 not assessed.",
        ),
        (["inconclusive"], "1 criterion inconclusive."),
    ],
)
def test_headline(demo: ModuleType, outcomes: list[Outcome], sentence: str) -> None:
    verdicts = [demo.verdict(demo.metric("s", "m", 0.1), 0.2, outcome) for outcome in outcomes]
    assert wording.headline(verdicts) == sentence


def test_an_advisory_criterion_is_a_should(demo: ModuleType) -> None:
    verdict = demo.verdict(demo.metric("s", "m", 0.1), 0.2, "pass")
    assert wording.requirement(verdict.criterion, verdict.metric) == "must be below 20\u00a0%"
    advisory = type(verdict.criterion)(metric="s.m", bound=0.2, direction="below", source="x", rationale="y", required=False)
    assert wording.requirement(advisory, verdict.metric).startswith("should be")


def test_the_claim_over_all_criteria_follows_the_adjusted_p(demo: ModuleType) -> None:
    found = demo.metric("s", "m", 0.1)
    assert "is supported (smallest p after Holm’s adjustment: 0.004)" in wording.summary_p([demo.verdict(found, 0.2, "fail")])
    assert "is not supported (smallest p after Holm’s adjustment: 1.000)" in wording.summary_p([demo.verdict(found, 0.2, "pass")])
    assert wording.summary_p([demo.verdict(found, 0.2, "not_assessed")]) == ""


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("human labels and reward: raters who prefer agreement teach it", ("Human labels", "Reward")),
        ("reward: a judge's verdicts take the place of people's labels", ("Reward",)),
        ("retraining on own output", ("Retraining on own output",)),
        ("Optimization", ("Optimisation",)),
        ("prompt data", ("Prompt data",)),
        ("nowhere", ()),
    ],
)
def test_stages(text: str, stages: tuple[str, ...]) -> None:
    assert loop.stages_of(text) == stages


def test_the_worst_outcome_of_a_suite() -> None:
    assert loop.worst(["pass", "not_assessed", "inconclusive"]) == "inconclusive"
    assert loop.worst(["pass", "not_assessed"]) == "not_assessed"
    assert loop.worst([]) == "not_assessed"


def test_headline_scorers_are_those_the_criteria_rest_on(demo: ModuleType) -> None:
    suite = demo.suite("s", headline=("s.flip_rate", "s.other"))
    counts = {"zeta": {"scored": 9}, "flip": {"scored": 5}, "other": {"scored": 2}, "mass": {"scored": 7}}
    assert headline_scorers(suite, [], counts) == ["other", "flip", "zeta"]
    assert headline_scorers(demo.suite("s"), [], counts) == ["zeta", "mass", "flip"]
    metrics = [demo.metric("s", "flip_rate", 0.2, group="g"), demo.metric("s", "flip_rate", 0.1)]
    assert metric_of("flip", metrics) is metrics[1]
    assert metric_of("nothing", metrics) is None


def transcript(**changes: object) -> Transcript:
    base = {"suite": "s", "sample_id": "i", "cluster_id": "c", "scorer": "flip", "value": -0.12345, "status": "scored"}
    return Transcript(**(base | changes))  # type: ignore[arg-type]


def test_options_show_their_probability() -> None:
    options = ({"text": "A", "logprob": -0.6931471805599453}, {"text": "B", "logprob": -50.0}, {"text": "", "logprob": float("-inf")})
    view = transcript_view(transcript(options=options, completion="A"), "t", printed=True)
    assert [(o.text, o.shown.replace("\u00a0", " "), o.percent) for o in view.options] == [
        ("A", "50.0 %", "50.0"),
        ("B", "<0.01 %", "0.0"),
        ("(blank)", "0 %", "0.0"),
    ]
    assert view.completion is None
    assert view.value == "−0.123"


def test_an_error_is_no_empty_reply() -> None:
    view = transcript_view(transcript(value=None, status="error", error="time-out"), "t", printed=False)
    assert view.completion is not None
    assert view.completion.text == "(no reply: time-out)"
    assert view.value == "unscored (error)"
    empty = transcript_view(transcript(completion=""), "t", printed=False).completion
    assert empty is not None
    assert empty.text == ""


def test_a_judgment_shows_both_orders() -> None:
    view = transcript_view(transcript(judgment=Judgment(a="yes", b="no", ab=0.75, ba=None, status="unparseable")), "t", printed=False)
    assert ("P(A better), A first", "75.0\u00a0%") in view.judgment
    assert ("P(A better), B first", "no verdict") in view.judgment
    assert view.completion is None


def test_a_long_conversation_keeps_its_end() -> None:
    messages = tuple({"role": "user" if k % 2 == 0 else "assistant", "content": f"turn {k}"} for k in range(30))
    shown = transcript_view(transcript(messages=messages), "t", printed=False).messages
    assert shown[0].content.text == "18 earlier messages are left out."
    assert shown[-1].content.text == "turn 29"
    assert shown[-1].role == "start of the reply, given to the model"


def spec(judge_spec: ModelSpec | None, **lineage: object) -> RunSpec:
    return RunSpec(suites=(), suite_versions=(), model=ModelSpec(uri="m", weights_hash="w", lineage=lineage), judge=judge_spec)


def test_independence_of_the_judge() -> None:
    other = ModelSpec(uri="hf:judge", weights_hash="j")
    assert spec(None, judges=["hf:judge"]).judge_is_independent
    assert spec(other).judge_is_independent
    assert spec(ModelSpec(uri="x"), judges=[""]).judge_is_independent
    assert not spec(ModelSpec(uri="y", weights_hash="w")).judge_is_independent
    assert not spec(other, judges=["hf:judge"]).judge_is_independent
    assert not spec(other, rewards=[{"uri": "z", "weights_hash": "j"}]).judge_is_independent


def test_dates() -> None:
    assert environment.date("2026-11-21T10:41:00+00:00") == "21 November 2026, 10:41 UTC"
    assert environment.date("2026-11-21T12:41:00+02:00") == "21 November 2026, 10:41 UTC"
    assert environment.date("2026-11-21T10:41:00") == "21 November 2026, 10:41"
    assert environment.date("last week") == "last week"
