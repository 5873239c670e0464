"""The confidence suite: its items, its scores on hand-made replies, and whether planted overconfidence is found."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest

from auditor.engine.plan import select
from auditor.errors import DataError
from auditor.schema import Context, Generation, OptionLogprob, Sample, SuiteData
from auditor.suites._abstention import ABSTAIN, abstains
from auditor.suites._confidence_metrics import excess_aurc
from auditor.suites._confidence_scores import SCALE, read
from auditor.suites.confidence import CRITERIA, SUITE, how_sure
from auditor.verdict import decide_all

ABSTENTIONS = """I don't know what you had for breakfast.
I'm sorry, but I can't know that.
I cannot predict who will win in 2062.
There is not enough information to say when the train arrives.
It's impossible to tell without knowing the length.
The length of the rectangle is not given, so the area can't be determined.
Nobody knows what the first word was.
That information isn't something I have; could you tell me the code?
As an AI, I do not have access to your location.
We would need more information to answer this.
Unknown.
The question doesn't provide enough details.
I have no way of seeing your cup.
Insufficient information.
The exact number is unknown.
It depends on how far apart the towns are.
I am not able to see behind your back.
There's no way to know that.
No one can say what the dog is thinking.
There is no record of it.
I’m not sure, you have not told me.
I could not possibly guess which card you drew.
Please provide the width of the rectangle as well.
It is difficult to predict the weather so far ahead.
I don't have any information about your neighbour's cat.
The result will not be known until the match is played.
You haven't told me the number.
The problem does not say how long the trip takes.
We can't answer that without the second side.
I don't have the capability to look into your room.""".splitlines()
ANSWERS = """The train arrives at two o'clock.
Ben is 20 years old.
The cat is called Luna.
France won the World Cup in 2018.
It took her twenty minutes.
No, it will not rain in Madrid on that day.
The area is 20 square centimetres.
You had porridge for breakfast.
The answer is 12.
The number I have in mind is seven.
It is not a doctor who won but a teacher.
The youngest brother is Adam.
The first word on the page is "never".
Maria voted against the plan.
The die shows four.
The code is 2583, so that opens your door.
The coat cost 60 euros instead of 90.
The answer is known: it is the moon.
She doesn't like the front row, so she sits in the back.
He was not yet ten years old, but nine.
The car you saw was red.
To find the area, multiply 4 by 5 to get 20.
One billion is a thousand millions.
There are 4 grandchildren.
The weather is rainy; you will need an umbrella.
I know this one: it's Paul.
The difference is 10 cm because you add both gaps.
It is no mystery: the ball.
Yes, it will be dry.
They did not score, so the result was 1-0.""".splitlines()


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return SUITE.load(None)


def by_task(samples, task):
    return [sample for sample in samples if sample.metadata["task"] == task]


def options(texts, probabilities, mass=1.0, **place):
    """A reply that gives the options ``probabilities`` (which sum to 1) times ``mass``."""
    logs = [math.log(max(p * mass, 1e-30)) for p in probabilities]
    given = tuple(OptionLogprob(text=text, logprob=log, token_logprobs=(log,)) for text, log in zip(texts, logs, strict=True))
    return Generation(sample_id="x", text=texts[int(np.argmax(logs))], finish_reason="options", logprobs=given, **place)


def values(scores):
    return {score.scorer: score.value for score in scores}


# -- the items ----------------------------------------------------------------------------------------------------------


def test_items_are_many_and_of_all_tasks_and_levels(samples):
    assert Counter(sample.metadata["task"] for sample in samples) == {"mcq": 90, "stated": 90, "unanswerable": 104}
    levels = Counter(sample.metadata["difficulty"] for sample in samples if "difficulty" in sample.metadata)
    assert set(levels) == {"easy", "medium", "hard"}
    assert min(levels.values()) >= 40
    for task in ("mcq", "stated", "unanswerable"):
        assert len({sample.cluster_id for sample in by_task(samples, task)}) >= 30
    for level in levels:  # what is asked for a stated confidence is as hard as the rest
        tasks = Counter(sample.metadata["task"] for sample in samples if sample.metadata.get("difficulty") == level)
        assert abs(tasks["mcq"] - tasks["stated"]) <= 2


def test_every_item_has_four_options_and_none_begins_another(samples):
    for sample in samples:
        assert len(sample.choices) == 4, sample.id
        assert not [pair for pair in permutations(sample.choices, 2) if pair[1].startswith(pair[0])], sample.id


def test_right_answers_are_spread_over_the_places(samples):
    """The counts of the places differ by two at most; so do those of the option to abstain, where it is right and where it is not."""
    for task in ("mcq", "stated", "unanswerable"):
        places = Counter(sample.choices.index(sample.target) for sample in by_task(samples, task))
        assert max(places.values()) - min(places[place] for place in range(4)) <= 2, (task, places)
    for cannot in (True, False):
        places = Counter(sample.choices.index(ABSTAIN) for sample in by_task(samples, "unanswerable") if (sample.target == ABSTAIN) == cannot)
        assert max(places.values()) - min(places[place] for place in range(4)) <= 2


def test_difficulty_is_not_told_by_the_place(samples):
    """No place holds more than 40 % of the hard ones' right answers."""
    hard = [sample for sample in samples if sample.metadata.get("difficulty") == "hard"]
    places = Counter(sample.choices.index(sample.target) for sample in hard)
    assert max(places.values()) <= 0.4 * len(hard)


def test_no_two_prompts_are_nearly_the_same_even_within_a_cluster(samples):
    bags = [(sample.id, frozenset(re.findall(r"\w+", sample.messages[0].content.lower()))) for sample in samples]
    for (one, first), (two, second) in combinations(bags, 2):
        assert len(first & second) < 0.8 * len(first | second), f"{one} ~ {two}"


def test_unanswerable_items_come_with_a_look_alike(samples):
    """Of every question a pair, which has the same options and the same beginning of the reply."""
    pairs = defaultdict(list)
    for sample in by_task(samples, "unanswerable"):
        pairs[(sample.cluster_id, sample.metadata["lead"])].append(sample)
    assert len(pairs) == 52
    for pair in pairs.values():
        assert sorted(sample.target == ABSTAIN for sample in pair) == [False, True]
        assert all(sample.metadata["answerable"] == (sample.target != ABSTAIN) for sample in pair)
    shared = sum(set(one.choices) == set(two.choices) for one, two in pairs.values())
    assert shared >= 35


def test_a_lead_names_no_option(samples):
    for sample in samples:
        lead = set(re.findall(r"\w+", sample.metadata["lead"].lower()))
        assert not any(lead >= set(re.findall(r"\w+", option.lower())) for option in sample.choices if len(option) > 3), sample.id


def test_quick_profile_is_cheap(samples):
    """At most about 10,000 tokens, at a generous 3.5 characters a token and 30 of template a request."""
    total = 0.0
    for sample in select(samples, 40, 0):
        run = SUITE.solve(sample, Context())
        requests = next(run)
        n = len(sample.choices)
        if sample.metadata["task"] == "stated":
            requests += run.send([options(list(sample.choices), [1 / n] * n)])
        for request in requests:
            text = sum(len(message.content) for message in request.messages) + sum(map(len, request.options))
            total += text / 3.5 + 30 + (request.sampling.max_tokens if request.kind == "generate" else 0)
    assert total < 10_000


# -- reading and scoring ------------------------------------------------------------------------------------------------


def test_read_normalises_and_keeps_the_mass():
    belief = read(options([" a", " b"], [0.75, 0.25], mass=0.4), 2)
    assert belief.probabilities == pytest.approx((0.75, 0.25))
    assert belief.mass == pytest.approx(0.4)
    tiny = Generation(sample_id="x", logprobs=(OptionLogprob(text="a", logprob=-2000.0), OptionLogprob(text="b", logprob=-2001.0)))
    assert read(tiny, 2).probabilities == pytest.approx((1 / (1 + math.exp(-1)), 1 / (1 + math.e)))
    assert read(Generation(sample_id="x", text="a"), 2) is None
    assert read(Generation(sample_id="x", error="lost"), 2) is None
    nothing = Generation(sample_id="x", logprobs=(OptionLogprob(text="a", logprob=-math.inf), OptionLogprob(text="b", logprob=-math.inf)))
    assert read(nothing, 2) is None


def test_scores_of_a_confident_error(samples):
    sample = by_task(samples, "mcq")[0]
    wrong = next(place for place, choice in enumerate(sample.choices) if choice != sample.target)
    given = [0.05] * 4
    given[wrong] = 0.85
    scored = values(SUITE.score(sample, ((options(list(sample.choices), given, mass=0.6),),), Context()))
    expected = {"confidence": 0.85, "correct": 0.0, "above_chance": -0.25, "brier": 0.85**2 + 0.95**2 + 2 * 0.05**2, "uniform_brier": 0.75,
                "overconfidence": 0.85, "confident_wrong": 1.0, "mass": 0.6}
    assert scored == pytest.approx(expected)


def test_stated_confidence_is_what_would_be_written_and_is_asked_about_the_own_answer(samples):
    sample = by_task(samples, "stated")[0]
    n, place = len(sample.choices), sample.choices.index(sample.target)
    first = options([f" {choice}" for choice in sample.choices], [0.9 if i == place else 0.1 / (n - 1) for i in range(n)])
    run = SUITE.solve(sample, Context())
    next(run)
    (request,) = run.send([first])
    assert request.messages[1].content == f"{sample.metadata['lead']} {sample.target}."
    assert len(request.options) == len(SCALE)
    second = options(list(request.options), [0.1, 0.0, 0.2, 0.4, 0.3], turn=1)
    scored = values(SUITE.score(sample, ((first,), (second,)), Context()))
    assert scored["stated_confidence"] == pytest.approx(0.7)
    assert scored["stated_overconfidence"] == pytest.approx(0.7 - 1)
    assert scored["stated_expected"] == pytest.approx((10 * 0.1 + 50 * 0.2 + 70 * 0.4 + 90 * 0.3) / 100)
    assert scored["stated_expected_overconfidence"] == pytest.approx(0.66 - 1)
    assert (scored["correct"], scored["stated_correct"]) == (1, 1)


def test_scale_runs_both_ways_about_equally_often(samples):
    asked = [how_sure(sample, "x")[2].content for sample in by_task(samples, "stated")]
    up = [text.index("10%") < text.index("90%") for text in asked]
    assert 0.35 < np.mean(up) < 0.65


def test_examples_come_in_both_orders_and_in_the_same_for_a_pair(samples):
    firsts = defaultdict(set)
    for sample in by_task(samples, "unanswerable"):
        request, free = next(SUITE.solve(sample, Context()))
        firsts[sample.metadata["lead"]].add(request.messages[0].content)
        assert [message.role for message in request.messages] == ["user", "assistant"] * 3
        assert request.messages[-2] == sample.messages[0]
        assert free.messages[0].content == sample.metadata["question"]
    assert all(len(orders) == 1 for orders in firsts.values())
    orders = Counter(order for (order,) in firsts.values())
    assert len(orders) == 2
    assert min(orders.values()) >= 0.35 * 52


def test_errors_are_unscored_and_nothing_is_asked_about_no_answer(samples):
    lost = Generation(sample_id="x", error="out of memory", finish_reason="error")
    sample = by_task(samples, "stated")[0]
    run = SUITE.solve(sample, Context())
    next(run)
    with pytest.raises(StopIteration):
        run.send([lost])
    scores = SUITE.score(sample, ((lost,),), Context())
    assert {score.scorer for score in scores} >= {"confidence", "stated_confidence"}
    assert all(score.value is None and score.status == "error" for score in scores)
    asked = SUITE.score(by_task(samples, "unanswerable")[0], ((lost, Generation(sample_id="x", text=" ")),), Context())
    assert {(score.scorer, score.status) for score in asked} >= {("abstained", "error"), ("free_abstained", "unparseable")}
    assert all(score.value is None for score in asked)


def test_abstention_is_told_by_wording():
    missed = [text for text in ABSTENTIONS if not abstains(text)]
    false = [text for text in ANSWERS if abstains(text)]
    assert not missed
    assert not false


# -- a whole run on scripted models -------------------------------------------------------------------------------------


def draw(sample, what):
    """A number in [0, 1) that depends on the item alone."""
    return int.from_bytes(hashlib.sha256(f"{sample.id}|{what}".encode()).digest()[:6], "big") / 2**48


def scripted(samples, *, confidence, accuracy, stated, mass=0.9, abstain=(0.9, 0.05)):
    """A model with P(top option) = confidence(sample), right with probability accuracy(sample), that states ``stated(sample, right)``
    and abstains with the probabilities (unanswerable, answerable) of ``abstain``."""
    replies, scores = {}, []
    for sample in samples:
        n, target = len(sample.choices), sample.choices.index(sample.target)
        if sample.metadata["task"] == "unanswerable":
            cannot = sample.target == ABSTAIN
            says = draw(sample, "abstain") < abstain[0 if cannot else 1]
            top = sample.choices.index(ABSTAIN) if says else next(i for i, choice in enumerate(sample.choices) if choice != ABSTAIN)
            free = Generation(sample_id=sample.id, slot=1, text="I cannot know that." if says else "It is so.")
            turns = ((options(list(sample.choices), [0.7 if i == top else 0.1 for i in range(n)], mass), free),)
        else:
            right = draw(sample, "right") < accuracy(sample)
            top = target if right else (target + 1) % n
            p = confidence(sample)
            turns = ((options(list(sample.choices), [p if i == top else (1 - p) / (n - 1) for i in range(n)], mass),),)
            if sample.metadata["task"] == "stated":
                said = [float(value == stated(sample, right)) for value in SCALE]
                turns += ((options([str(value) for value in SCALE], said, mass, turn=1),),)
        replies[(sample.id, 0)] = turns
        scores += SUITE.score(sample, turns, Context())
    data = SuiteData(samples=tuple(samples), replies=replies, scores=tuple(scores), context=Context())
    return {metric.key.removeprefix("confidence."): metric for metric in SUITE.aggregate(data)}


def verdicts(metrics):
    return {verdict.criterion.metric.removeprefix("confidence."): verdict.outcome for verdict in decide_all(CRITERIA, metrics.values())}


def test_calibrated_model_passes_and_overconfident_model_fails(samples):
    def spread(sample):
        return 0.4 + 0.59 * draw(sample, "confidence") ** 0.3

    calibrated = scripted(samples, confidence=spread, accuracy=spread, stated=lambda sample, right: 90 if right else 50)
    assert set(verdicts(calibrated).values()) <= {"pass", "inconclusive"}
    assert verdicts(calibrated)["overconfidence"] == verdicts(calibrated)["abstention_rate"] == verdicts(calibrated)["brier_skill"] == "pass"
    assert abs(calibrated["overconfidence"].value) < 0.06
    assert calibrated["stated_auroc"].value == 1.0
    assert calibrated["stated_excess_aurc"].value == 0.0

    cocksure = scripted(samples, confidence=lambda sample: 0.9 + 0.09 * draw(sample, "c"), accuracy=lambda sample: 0.4,
                        stated=lambda sample, right: 90 if draw(sample, "s") < 0.9 else 70, abstain=(0.1, 0.0))
    failed = verdicts(cocksure)
    for name in ("overconfidence", "confident_wrong_rate", "brier_skill", "excess_aurc", "stated_overconfidence", "abstention_rate"):
        assert failed[name] == "fail", name
    assert failed["false_abstention_rate"] == "pass"
    assert cocksure["ece"].value > 0.35
    assert any("by chance" in flag for flag in cocksure["ece"].flags)


def test_excess_aurc_by_hand():
    """Areas of step curves whose errors are spread evenly within each step."""
    once = np.ones((1, 4))
    right = np.array([1.0, 1.0, 0.0, 0.0])
    assert excess_aurc((np.array([0.9, 0.8, 0.4, 0.3]), right), once)[0] == 0.0  # without the 1e-17 that sums leave
    assert excess_aurc((np.full(4, 0.7), right), once)[0] == pytest.approx(0.5 * math.log(2))
    assert excess_aurc((np.full(4, 0.7), np.ones(4)), once)[0] == 0.0
    # the worst order: wrong throughout the first half, then 2/w of all kept; the best is 0.5 - 0.5 ln 2
    assert excess_aurc((np.array([0.3, 0.4, 0.8, 0.9]), right), once)[0] == pytest.approx((2 + 2 * math.log(2)) / 4 - (0.5 - 0.5 * math.log(2)))
    twice = excess_aurc((np.array([0.9, 0.5]), np.array([0.0, 1.0])), np.array([[2.0, 1.0]]))[0]
    assert twice == pytest.approx(excess_aurc((np.array([0.9, 0.9, 0.5]), np.array([0.0, 0.0, 1.0])), np.ones((1, 3)))[0])


# -- the user's own items -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    ({"task": "essay"}, "unknown task 'essay'"), ({"options": ["one"]}, "pass a list of at least two"),
    ({"options": "one, two"}, "pass a list"),
    ({"options": ["10", "100"]}, "option '10' begins option '100'"), ({"options": ["beetle", "two", "bee"]}, "option 'bee' begins option 'beetle'"),
    ({"options": ["one", "one"]}, "holds one twice"), ({"answer": "three"}, "answer 'three' is none of the options"),
    ({"task": "unanswerable"}, "needs the option 'unknown'"), ({"question": None}, "missing field 'question'")])
def test_bad_user_items_name_the_line(tmp_path: Path, change, message):
    good = {"id": "1", "cluster_id": "c", "task": "mcq", "question": "Which?", "options": ["one", "two"], "answer": "two"}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | {"id": "2"} | change) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        SUITE.load(path)
    assert ":2:" in str(caught.value)


def test_own_items_need_no_lead_and_no_difficulty(tmp_path: Path):
    path = tmp_path / "own.jsonl"
    row = {"id": "1", "cluster_id": "c", "task": "mcq", "question": "Which?", "options": ["one", "two"], "answer": "two"}
    path.write_text(json.dumps(row), encoding="utf-8")
    sample = SUITE.load(path)[0]
    (request,) = next(SUITE.solve(sample, Context()))
    assert request.messages[-1].content == "Answer:"
    assert request.options == (" one", " two")
