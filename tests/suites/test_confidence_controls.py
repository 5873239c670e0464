"""The confidence suite on scripted models: an ideal one passes every criterion, one that knows or says nothing passes none."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from auditor.schema import Context, Generation, OptionLogprob, Sample, SuiteData
from auditor.suites._abstention import ABSTAIN
from auditor.suites._confidence_scores import SCALE
from auditor.suites.confidence import CRITERIA, SUITE
from auditor.verdict import decide_all

CALIBRATION = ("overconfidence", "confident_wrong_rate", "brier_skill", "excess_aurc", "stated_overconfidence")
ABSTENTION = ("abstention_rate", "false_abstention_rate")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return SUITE.load(None)


def options(texts, probabilities, mass=1.0, **place):
    """A reply that gives the options ``probabilities`` (which sum to 1) times ``mass``."""
    logs = [math.log(max(p * mass, 1e-30)) for p in probabilities]
    given = tuple(OptionLogprob(text=text, logprob=log, token_logprobs=(log,)) for text, log in zip(texts, logs, strict=True))
    return Generation(sample_id="x", text=texts[int(np.argmax(logs))], finish_reason="options", logprobs=given, **place)


def draw(sample, what):
    """A number in [0, 1) that depends on the item alone."""
    return int.from_bytes(hashlib.sha256(f"{sample.id}|{what}".encode()).digest()[:6], "big") / 2**48


def verdicts(metrics):
    return {verdict.criterion.metric.removeprefix("confidence."): verdict.outcome for verdict in decide_all(CRITERIA, metrics.values())}


def played(samples, belief, stated, mass=0.9):
    """The metrics of a model with option probabilities ``belief(sample)`` that states ``stated(sample, right)``; None: empty replies."""
    replies, scores = {}, []
    for sample in samples:
        given = belief(sample)
        first = options(list(sample.choices), given, mass) if given else Generation(sample_id=sample.id)
        turns = ((first,),)
        if sample.metadata["task"] == "unanswerable":
            turns = ((first, Generation(sample_id=sample.id, slot=1, text="It is so." if given else "")),)
        elif sample.metadata["task"] == "stated" and given:
            says = stated(sample, sample.choices[int(np.argmax(given))] == sample.target)
            turns += ((options([str(value) for value in SCALE], [float(value == says) for value in SCALE], mass, turn=1),),)
        replies[(sample.id, 0)] = turns
        scores += SUITE.score(sample, turns, Context())
    data = SuiteData(samples=tuple(samples), replies=replies, scores=tuple(scores), context=Context())
    return {metric.key.removeprefix("confidence."): metric for metric in SUITE.aggregate(data)}


def peak(sample, place, p):
    return [p if i == place else (1 - p) / (len(sample.choices) - 1) for i in range(len(sample.choices))]


def knows_all(sample, p=0.97):
    return peak(sample, sample.choices.index(sample.target), p)


def knows_its_limits(sample):
    """Right and sure where it is not hard, else a guess that it hardly prefers."""
    return peak(sample, int(4 * draw(sample, "guess")), 0.28) if sample.metadata.get("difficulty") == "hard" else knows_all(sample)


@pytest.mark.parametrize(("belief", "stated"), [
    (knows_all, lambda sample, right: 90), (lambda sample: knows_all(sample, 1.0), lambda sample, right: 90),
    (knows_its_limits, lambda sample, right: 30 if sample.metadata["difficulty"] == "hard" else 90)])
def test_an_ideal_model_passes_every_criterion(samples, belief, stated):
    assert set(verdicts(played(samples, belief, stated)).values()) == {"pass"}


def ten(sample, right):
    return 10


KNOWS_NOTHING = {
    "uniform": (lambda sample: [1 / len(sample.choices)] * len(sample.choices), ten),
    "nearly uniform": (lambda sample: peak(sample, int(4 * draw(sample, "g")), 0.25 + 0.05 * draw(sample, "p")), lambda sample, right: 30),
    "always the first": (lambda sample: peak(sample, 0, 0.94), ten),
    "always the last": (lambda sample: peak(sample, len(sample.choices) - 1, 0.4), lambda sample, right: 90),
    "constant confidence": (lambda sample: peak(sample, int(4 * draw(sample, "g")), 0.3), lambda sample, right: 30),
    "empty replies": (lambda sample: None, ten),
}


@pytest.mark.parametrize("name", KNOWS_NOTHING)
def test_a_model_that_knows_nothing_passes_nothing(samples, name):
    assert "pass" not in verdicts(played(samples, *KNOWS_NOTHING[name])).values()


def test_one_confidence_for_everything_passes_no_calibration(samples):
    def belief(sample):
        return peak(sample, (sample.choices.index(sample.target) + (draw(sample, "right") > 0.7)) % 4, 0.7)

    metrics = played(samples, belief, lambda sample, right: 70)
    assert abs(metrics["overconfidence"].value) < 0.1
    assert "pass" not in {verdicts(metrics)[name] for name in CALIBRATION}
    assert "on every item" in metrics["overconfidence"].no_pass
    assert metrics["abstention_gap"].value > 0.3


@pytest.mark.parametrize("always", [True, False])
def test_abstaining_always_or_never_passes_no_abstention(samples, always):
    def belief(sample):
        place = sample.choices.index(ABSTAIN) if ABSTAIN in sample.choices else sample.choices.index(sample.target)
        return peak(sample, place if always or ABSTAIN not in sample.choices else (place + 1) % 4, 0.97)

    found = verdicts(played(samples, belief, lambda sample, right: 90))
    assert "pass" not in {found[name] for name in ABSTENTION}
    assert {found[name] for name in CALIBRATION} == {"pass"}


def test_nothing_passes_where_the_options_hold_little_of_the_probability(samples):
    low = played(samples, knows_all, lambda sample, right: 90, mass=0.3)
    assert set(verdicts(low).values()) == {"not_assessed"}
    for name in ("overconfidence", "ece", "stated_brier", "abstention_rate"):
        assert "30% of the probability" in low[name].no_pass, name
    assert not low["free_abstention_rate"].flags
