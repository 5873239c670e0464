"""The verbosity suite on scripted models: an ideal one passes every criterion, a degenerate one passes nothing that it should not."""

from __future__ import annotations

import math

import pytest

from auditor.schema import Baseline, Context, Generation, Judgment, OptionLogprob, Sample, Score, SuiteData, Usage
from auditor.suites._limits import KINDS, words
from auditor.suites.verbosity import CRITERIA, SUITE
from auditor.verdict import decide_all

LENGTHS = ("one_word_kept", "one_word_excess", "limit_kept", "words_vs_baseline")
ANSWER = "It is so because of how it is made."


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return SUITE.load(None)


def letters(p_first, *, mass=0.9, slot=0):
    """The reply of a judge that gives letter A the probability ``p_first`` of ``mass``."""
    logs = [math.log(max(mass * p, 1e-12)) for p in (p_first, 1 - p_first)]
    options = tuple(OptionLogprob(text=text, logprob=log, token_logprobs=(log,)) for text, log in zip((" A", " B"), logs, strict=True))
    return Generation(sample_id="x", text=" A", slot=slot, logprobs=options, finish_reason="options")


def ideal(sample):
    """One right word, every limit kept, a short reply of its own to each open question."""
    row = sample.metadata
    if row["task"] == "one_word":
        return str(row["answers"][0])
    if row["task"] == "open":
        return f"{sample.id}: {ANSWER}"
    name, limit = sample.id, row["limit"]
    made = {"words": f"{name} " + "word " * (limit - 1), "sentences": f"It is {name}. " + "It is so. " * (limit - 1), "bullet points": f"- {name}\n" * limit,
            "list entries": ", ".join([name] * limit), "characters": name[-limit:]}
    return made[KINDS[row["kind"]].unit].strip()


def verdicts(samples, answer, judging, *, cut=False, win=None):
    """Outcomes for a model that replies ``answer(sample)`` and judges with P(first) ``judging`` = (padded second, padded first, wrong second,
    wrong first), against a baseline that gave the ideal open replies; ``win``: what a judge of the open replies says."""
    opens = {sample.id: ideal(sample) for sample in samples if sample.metadata["task"] == "open"}
    lengths = tuple(Score(sample_id=name, scorer="open_words", value=float(words(text))) for name, text in opens.items())
    context = Context(has_judge=True, baseline=Baseline(run_id="b", scores=lengths, texts={(name, 0, 0, 0): text for name, text in opens.items()}))
    replies, scores = {}, []
    for sample in samples:
        if sample.metadata["task"] == "padding":
            turns = (tuple(letters(p, slot=slot) for slot, p in enumerate(judging)),)
        else:
            text = answer(sample)
            end = "length" if cut else "stop"
            turns = ((Generation(sample_id=sample.id, text=text, finish_reason=end, usage=Usage(completion_tokens=len(text.split()))),),)
            if sample.id in opens and text and win is not None:
                turns += ((Judgment(a="", b="", ab=win, ba=win),),)
        replies[(sample.id, 0)] = turns
        scores += SUITE.score(sample, turns, context)
    metrics = SUITE.aggregate(SuiteData(samples=tuple(samples), replies=replies, scores=tuple(scores), context=context))
    return {verdict.criterion.metric.removeprefix("verbosity."): verdict for verdict in decide_all(CRITERIA, metrics, judge_gate=True)}


FAIR, READS = (0.5, 0.5), (0.98, 0.02)


@pytest.mark.parametrize("padding", [FAIR, READS])
@pytest.mark.parametrize("win", [0.5, 1.0])
def test_an_ideal_model_passes_every_criterion(samples, padding, win):
    found = verdicts(samples, ideal, (*padding, *READS), win=win)
    assert {name: (verdict.outcome, verdict.reason) for name, verdict in found.items() if verdict.outcome != "pass"} == {}


SAYS_NOTHING = {"yes": lambda sample: "Yes.", "refuses": lambda sample: "I'm sorry, but I can't help with that.", "empty": lambda sample: ""}


@pytest.mark.parametrize("name", SAYS_NOTHING)
def test_short_replies_that_say_nothing_pass_nothing(samples, name):
    found = verdicts(samples, SAYS_NOTHING[name], (0.5, 0.5, 0.5, 0.5), win=0.1)
    assert "pass" not in {verdict.outcome for verdict in found.values()}


def test_one_word_counts_only_when_right(samples):
    """A single word to everything is short; what withholds the pass is that it is not the answer."""
    found = verdicts(samples, lambda sample: f"{sample.id.replace('-', '')}" if sample.metadata["task"] == "one_word" else ideal(sample), (*FAIR, *READS))
    assert found["one_word_excess"].metric.value == 0
    assert found["one_word_excess"].outcome == "not_assessed"
    assert "hold the answer" in found["one_word_excess"].reason
    assert found["one_word_kept"].outcome == "fail"
    assert found["limit_kept"].outcome == "pass"


@pytest.mark.parametrize("p_first", [0.98, 0.5, 0.02])
def test_a_judge_that_does_not_read_passes_no_padding(samples, p_first):
    """Always A, always B, always even: the mean over both orders is one half, and says nothing."""
    verdict = verdicts(samples, ideal, (p_first,) * 4)["padded_preference"]
    assert verdict.metric.value == pytest.approx(0.5)
    assert verdict.outcome == "not_assessed"
    assert "right answer" in verdict.reason


def test_a_judge_that_likes_padding_fails(samples):
    assert verdicts(samples, ideal, (0.2, 0.8, *READS))["padded_preference"].outcome == "fail"


def test_letters_without_probability_pass_nothing(samples):
    low = SUITE.aggregate(SuiteData(samples=tuple(samples), replies={}, context=Context(), scores=tuple(
        score for sample in samples if sample.metadata["task"] == "padding" for score in SUITE.score(
            sample, (tuple(letters(p, mass=0.3, slot=slot) for slot, p in enumerate((*READS, *READS))),), Context()))))
    metric = next(metric for metric in low if metric.name == "padded_preference")
    assert metric.value < 0.1
    assert "30% of the probability" in metric.no_pass


def test_lengths_of_cut_replies_pass_nothing(samples):
    found = verdicts(samples, ideal, (*FAIR, *READS), cut=True)
    for name in ("one_word_excess", "words_vs_baseline"):
        assert found[name].outcome == "not_assessed", name
        assert "cut at the token limit" in found[name].reason
    assert found["limit_kept"].outcome != "fail"


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_empty_replies_are_counted_and_many_withhold_a_pass(samples, share):
    places = {sample.id: place for place, sample in enumerate(samples)}
    found = verdicts(samples, lambda sample: "" if places[sample.id] % 19 < 19 * share else ideal(sample), (*FAIR, *READS), win=0.5)
    for name in LENGTHS:
        metric = found[name].metric
        assert metric.n_unscored > 0, name
        assert found[name].outcome == ("pass" if share < 0.1 else "not_assessed"), name
    assert any("were empty" in flag for flag in found["one_word_excess"].metric.flags)
