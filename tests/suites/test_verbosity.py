"""The verbosity suite: its items, its counting on hand-made replies, and whether planted verbosity is found."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from auditor.engine.plan import select
from auditor.errors import DataError
from auditor.schema import Baseline, Context, Generation, Judgment, OptionLogprob, Sample, Score, SuiteData, Usage
from auditor.suites._limits import KINDS, bullets, characters, check, entries, sentences, words
from auditor.suites._verbosity_metrics import MAX_EXCESS
from auditor.suites._verbosity_scores import found
from auditor.suites.verbosity import CRITERIA, OPEN_TOKENS, SUITE
from auditor.verdict import decide_all


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return SUITE.load(None)


def by_task(samples, task):
    return [sample for sample in samples if sample.metadata["task"] == task]


def reply(text, *, cut=False, tokens=None, **place):
    usage = Usage(completion_tokens=len(text.split()) if tokens is None else tokens)
    return Generation(sample_id="x", text=text, finish_reason="length" if cut else "stop", usage=usage, **place)


def letters(p_first, *, mass=1.0, slot=0):
    """The reply of a judge that gives letter A the probability ``p_first`` of ``mass``."""
    logs = [math.log(max(mass * p, 1e-12)) for p in (p_first, 1 - p_first)]
    options = tuple(OptionLogprob(text=text, logprob=log, token_logprobs=(log,)) for text, log in zip((" A", " B"), logs, strict=True))
    return Generation(sample_id="x", text=" A", slot=slot, logprobs=options, finish_reason="options")


def values(scores):
    return {score.scorer: score.value for score in scores}


# -- the items ----------------------------------------------------------------------------------------------------------


def test_items_are_many_and_of_all_tasks(samples):
    tasks = Counter(sample.metadata["task"] for sample in samples)
    assert tasks == {"one_word": 90, "limit": 96, "open": 40, "padding": 48}
    assert Counter(sample.metadata["marked"] for sample in by_task(samples, "one_word")) == {True: 45, False: 45}
    assert {sample.metadata["kind"] for sample in by_task(samples, "limit")} == set(KINDS)
    assert len({(sample.metadata["task"], sample.cluster_id) for sample in samples}) == len({sample.cluster_id for sample in samples})
    for task in tasks:
        assert len({sample.cluster_id for sample in by_task(samples, task)}) >= 30, task


def test_no_two_prompts_are_nearly_the_same_even_within_a_cluster(samples):
    bags = [(sample.id, frozenset(re.findall(r"\w+", sample.messages[0].content.lower()))) for sample in samples]
    for (one, first), (two, second) in combinations(bags, 2):
        assert len(first & second) < 0.8 * len(first | second), f"{one} ~ {two}"


def test_answers_of_one_word_are_one_word(samples):
    for sample in by_task(samples, "one_word"):
        assert all(words(answer) == 1 for answer in sample.metadata["answers"]), sample.id


def test_stated_limit_is_the_limit_that_is_checked(samples):
    """The number in the prompt, as digit or word, is the limit; "under n" and "fewer than n" are n − 1."""
    named = {name: value for value, name in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])} | {"single": 1}
    for sample in by_task(samples, "limit"):
        prompt, limit = sample.messages[0].content.lower(), sample.metadata["limit"]
        numbers = {int(word) if word.isdigit() else named[word] for word in re.findall(r"\w+", prompt) if word.isdigit() or word in named}
        below = re.search(r"\b(?:under|fewer than) (\d+)", prompt)
        assert (int(below.group(1)) - 1 if below else limit) == limit, sample.id
        assert (limit + 1 if below else limit) in numbers, sample.id
        assert ("exactly" in prompt) == KINDS[sample.metadata["kind"]].exact, sample.id


def test_padded_copies_are_long_and_add_no_fact(samples):
    """A copy has three times the words or more, keeps what carries the answer, and brings no number of its own."""
    for sample in by_task(samples, "padding"):
        concise, padded = sample.choices
        assert words(padded) >= 3 * words(concise), sample.id
        assert set(re.findall(r"\d+", padded)) == set(re.findall(r"\d+", concise)), sample.id
        kept = [word for word in re.findall(r"[a-z]{5,}", concise.lower()) if word[:4] in padded.lower()]
        assert len(kept) >= 0.6 * len(re.findall(r"[a-z]{5,}", concise.lower())), sample.id


def test_quick_profile_is_cheap(samples):
    """At most about 10,000 tokens, at a generous 3.5 characters a token and 30 of template a request."""
    total = 0.0
    for sample in select(samples, 40, 0):
        for request in next(SUITE.solve(sample, Context())):
            text = sum(len(message.content) for message in request.messages)
            total += text / 3.5 + 30 + (request.sampling.max_tokens if request.kind == "generate" else 2)
    assert total < 10_000


# -- counting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "text", "expected"), [
    (words, "Plants need light.", 3), (words, "well-known facts — two more", 4), (words, "- one\n- two\n3. three", 3),
    (words, "It costs 3.50 dollars!", 4), (words, "rain—and wind", 3), (words, "** !", 0), (words, "**Bold** word", 2),
    (sentences, "One. Two! Three?", 3), (sentences, "Dr. Smith came at 3.5 p.m. today, i.e. late.", 1), (sentences, "He said \"stop.\" Then he left", 2),
    (sentences, "Wait... what?", 2), (sentences, "- first\n- second", 2), (sentences, "A heading\n\nA sentence.", 2), (sentences, "", 0),
    (sentences, "wrapped\nover two lines.", 1),
    (bullets, "- a\n* b\n• c\n1. d\n2) e", 5), (bullets, "None here - just a dash.", 0), (bullets, "Sure:\n- a\n  - nested", 2),
    (entries, "Madrid, Seville and Toledo.", 3), (entries, "red; green; blue", 3), (entries, "one, two, and three", 3), (entries, "1. oak\n2. elm", 2),
    (characters, "  four  ", 4)])
def test_counts(count, text, expected):
    assert count(text) == expected


@pytest.mark.parametrize(("kind", "limit", "text", "cut", "kept", "overshoot"), [
    ("max_words", 3, "one two three", False, True, 0.0),
    ("max_words", 4, "one two three four five six", False, False, 0.5),
    ("words", 3, "one two", False, False, 0.0),
    ("max_words", 2, "one two three four", True, False, 1.0),      # cut, but over the limit already
    ("max_words", 9, "one two three four", True, None, None),       # cut before it could be told
    ("sentences", 1, "A first one. And the begin", True, False, 1.0),
    ("sentences", 2, "A first one. A second one.", False, True, 0.0),
    ("bullets", 3, "- a\n- b\n- c", True, None, None),
    ("items", 3, "oak, elm, ash", False, True, 0.0),
    ("items", 2, "oak, which is a tall tree of the north", False, False, 0.0),
    ("items", 3, "1. Oak\n2. Elm: a tree that is found in many towns\n3. A", True, False, 0.0),
    ("max_chars", 5, "abcdef", False, False, 0.2)])
def test_check(kind, limit, text, cut, kept, overshoot):
    finding = check(kind, limit, text, cut=cut)
    assert finding.kept is kept
    assert finding.overshoot == (None if overshoot is None else pytest.approx(overshoot))


def test_room_beyond_every_shipped_limit(samples):
    """A reply of twice the limit fits at 1.4 tokens a word, 4 characters a token, 15 tokens a sentence or bullet, 3 an entry."""
    per_unit = {"words": 1.4, "characters": 0.25, "sentences": 15, "bullet points": 15, "list entries": 3}
    for sample in by_task(samples, "limit"):
        limit, kind = sample.metadata["limit"], KINDS[sample.metadata["kind"]]
        assert kind.max_tokens(limit) > 1.5 * limit * per_unit[kind.unit], sample.id


def test_found_wants_whole_words():
    assert found(["Italy"], "It is ITALY, of course.")
    assert found(["13", "thirteen"], "= 13.")
    assert not found(["cat"], "A category.")


# -- scores -------------------------------------------------------------------------------------------------------------


def test_one_word_scores(samples):
    sample = next(sample for sample in samples if sample.id == "word-countries-1")
    right = values(SUITE.score(sample, ((reply("Poland."),),), Context()))
    assert (right["one_word_excess"], right["one_word_kept"], right["one_word_found"]) == (0, 1, 1)
    chatty = values(SUITE.score(sample, ((reply("Warsaw is in Poland.", tokens=6),),), Context()))
    assert (chatty["one_word_words"], chatty["one_word_excess"], chatty["one_word_kept"], chatty["one_word_tokens"]) == (4, 3, 0, 6)
    yes = values(SUITE.score(sample, ((reply("Yes."),),), Context()))
    assert (yes["one_word_words"], yes["one_word_excess"], yes["one_word_kept"], yes["one_word_found"]) == (1, 0, 0, 0)
    unmarked = next(sample for sample in by_task(samples, "one_word") if not sample.metadata["marked"])
    assert "one_word_kept" not in values(SUITE.score(unmarked, ((reply("Italy"),),), Context()))


def test_reasoning_is_no_part_of_the_length(samples):
    sample = by_task(samples, "one_word")[0]
    thought = Generation(sample_id="x", text="Poland", reasoning="Warsaw, hm. " * 50, usage=Usage(completion_tokens=2, reasoning_tokens=200))
    scored = values(SUITE.score(sample, ((thought,),), Context()))
    assert (scored["one_word_words"], scored["one_word_tokens"], scored["reasoning_tokens"]) == (1, 2, 200)


@pytest.mark.parametrize("bad", [Generation(sample_id="x", error="out of memory", finish_reason="error"), Generation(sample_id="x", text="  ")])
def test_no_reply_is_no_score(samples, bad):
    for task in ("one_word", "limit", "open"):
        scores = SUITE.score(by_task(samples, task)[0], ((bad,),), Context())
        assert values(scores).get("empty") == (None if bad.error else 1.0)
        rest = [score for score in scores if score.scorer != "empty"]
        assert rest
        assert all(score.value is None and score.status == ("error" if bad.error else "unparseable") for score in rest)


def test_padding_cancels_position_and_finds_a_preference(samples):
    sample = by_task(samples, "padding")[0]
    control = (letters(0.9, slot=2), letters(0.3, slot=3))
    by_place = values(SUITE.score(sample, ((letters(0.9), letters(0.9, slot=1), *control),), Context()))
    assert by_place["padded_preference"] == pytest.approx(0.5)
    assert by_place["first_position"] == pytest.approx(0.9)
    assert by_place["padded_logit"] == pytest.approx(0.0)
    assert by_place["right_preference"] == pytest.approx((0.9 + 0.7) / 2)
    likes_padding = values(SUITE.score(sample, ((letters(0.2, mass=0.4), letters(0.6, mass=0.4, slot=1), *control),), Context()))
    assert likes_padding["padded_preference"] == pytest.approx((0.8 + 0.6) / 2)
    assert likes_padding["padded_logit"] == pytest.approx((math.log(0.8 / 0.2) + math.log(0.6 / 0.4)) / 2)
    assert likes_padding["padding_mass"] == pytest.approx(0.4)
    broken = SUITE.score(sample, ((letters(0.5), Generation(sample_id="x", error="lost"), *control),), Context())
    assert {score.status for score in broken if score.scorer != "right_preference"} == {"error"}
    assert values(broken)["right_preference"] == pytest.approx(0.8)
    unjudged = SUITE.score(sample, ((letters(0.5), letters(0.5, slot=1), control[0], Generation(sample_id="x", error="lost")),), Context())
    assert [score.status for score in unjudged if score.scorer == "right_preference"] == ["error"]


def test_padding_asks_both_orders(samples):
    sample = by_task(samples, "padding")[0]
    first, second, *control = next(SUITE.solve(sample, Context()))
    concise, padded = sample.choices
    assert [request.messages[0].content.index(concise) < request.messages[0].content.index(sample.metadata["wrong"]) for request in control] == [True, False]
    text = first.messages[0].content
    assert text.index(concise) < text.index(padded)
    assert second.messages[0].content.index(padded) < second.messages[0].content.rindex(concise)


# -- against a baseline, with a judge -----------------------------------------------------------------------------------


def baseline_of(samples, text):
    scores = tuple(Score(sample_id=sample.id, scorer="open_words", value=float(words(text))) for sample in by_task(samples, "open"))
    return Baseline(run_id="b", scores=scores, texts={(sample.id, 0, 0, 0): text for sample in by_task(samples, "open")})


def test_judge_is_asked_only_with_a_baseline_and_a_judge(samples):
    sample, baseline = by_task(samples, "open")[0], baseline_of(samples, "Because it conducts heat.")
    for context, turns in ((Context(), 1), (Context(has_judge=True), 1), (Context(baseline=baseline), 1), (Context(has_judge=True, baseline=baseline), 2)):
        run = SUITE.solve(sample, context)
        requests = [next(run)]
        with contextlib.suppress(StopIteration):
            requests.append(run.send([reply("Metal takes heat from the hand.")]))
        assert len(requests) == turns
    assert requests[1][0].kind == "judge"
    assert requests[1][0].options == ("Metal takes heat from the hand.", "Because it conducts heat.")
    assert requests[0][0].sampling.max_tokens == OPEN_TOKENS


def test_win_follows_the_judge_and_no_judge_is_no_score(samples):
    sample, context = by_task(samples, "open")[0], Context(has_judge=True, baseline=baseline_of(samples, "Two words"))
    own = reply("Five words are in here")
    won = values(SUITE.score(sample, ((own,), (Judgment(a="", b="", ab=0.9, ba=0.7),)), context))
    assert won["win"] == pytest.approx(0.8)
    assert won["win_words"] == 3
    assert "win" not in values(SUITE.score(sample, ((own,), (Judgment(a="", b="", status="no_judge"),)), context))
    refused = SUITE.score(sample, ((own,), (Judgment(a="", b="", status="refused"),)), context)
    assert [(score.value, score.status) for score in refused if score.scorer == "win"] == [(None, "refused")]


# -- a whole run on scripted models -------------------------------------------------------------------------------------


def scripted(samples, context, answer, p_padded, judgment=None):
    """Replies, scores and metrics of a model that answers with ``answer(sample)`` -> (text, cut) and judges padding at ``p_padded``."""
    replies, scores = {}, []
    for sample in samples:
        if sample.metadata["task"] == "padding":
            p = p_padded + 0.01 * (len(sample.id) % 3 - 1)
            turns = ((letters(1 - p), letters(p, slot=1), letters(0.9, slot=2), letters(0.2, slot=3)),)
        else:
            text, cut = answer(sample)
            turns = ((reply(text, cut=cut),),)
            if sample.metadata["task"] == "open" and judgment:
                turns += ((judgment(sample, text),),)
        replies[(sample.id, 0)] = turns
        scores += [*SUITE.score(sample, turns, context)]
    own = tuple(scores)
    data = SuiteData(samples=tuple(samples), replies=replies, scores=own, context=context)
    return {metric.key.removeprefix("verbosity."): metric for metric in SUITE.aggregate(data)}


def terse(sample):
    """Obeys everything; where one word is not asked for, it may take two or three."""
    row = sample.metadata
    if row["task"] == "one_word":
        return row["answers"][0] + ("" if row["marked"] else " it is"[:len(sample.id) % 3 * 3]), False
    if row["task"] == "limit":
        made = {"words": "word " * row["limit"], "sentences": "It is so. " * row["limit"], "bullet points": "- point\n" * row["limit"],
                "list entries": ", ".join(["entry"] * row["limit"]), "characters": "x" * row["limit"]}
        return made[KINDS[row["kind"]].unit].strip(), False
    return "It is so.", False


def wordy(sample):
    return "Well, that is a very good question. There is much to be said about it.\n- First of all, this.\n- And then, that.\n" * 6, True


def verdicts(metrics):
    return {verdict.criterion.metric: verdict.outcome for verdict in decide_all(CRITERIA, list(metrics.values()))}


def test_terse_model_passes_and_wordy_model_fails(samples):
    good, bad = scripted(samples, Context(), terse, 0.3), scripted(samples, Context(), wordy, 0.9)
    assert good["limit_kept"].value == 1.0
    assert good["limit_kept"].n == 96
    assert good["one_word_excess[one word asked for]"].value == 0.0
    assert good["one_word_excess[one word would do]"].value > 0.0
    assert bad["limit_kept"].value < 0.05
    assert bad["one_word_excess"].value == MAX_EXCESS
    assert any("cut at the token limit" in flag for flag in bad["one_word_excess"].flags)
    needed = [criterion.metric for criterion in CRITERIA if criterion.required]
    assert {verdicts(good)[name] for name in needed} == {"pass"}
    assert {verdicts(bad)[name] for name in needed} == {"fail"}


def test_what_needs_a_baseline_is_not_assessed_without(samples):
    metrics = scripted(samples, Context(), terse, 0.5)
    for name in ("words_vs_baseline", "length_controlled_win_rate", "win_rate"):
        assert metrics[name].value is None
        assert "--baseline" in metrics[name].reason
        assert verdicts(metrics).get(f"verbosity.{name}", "not_assessed") == "not_assessed"
    without_judge = scripted(samples, Context(baseline=baseline_of(samples, "It is so.")), terse, 0.5)
    assert "--judge" in without_judge["win_rate"].reason
    assert without_judge["words_vs_baseline"].value == 0.0


def test_wins_bought_with_length_vanish_at_equal_length(samples):
    """A judge that prefers the longer answer and nothing else: the plain win rate is high, the length-controlled one is not."""
    places = {sample.id: place for place, sample in enumerate(by_task(samples, "open"))}
    context = Context(has_judge=True, baseline=baseline_of(samples, "word " * 30))

    def answer(sample):
        return ("word " * (20 + 8 * (places[sample.id] % 8)) if sample.id in places else terse(sample)[0]), False

    def judgment(sample, text):
        p = 1 / (1 + math.exp(-(words(text) - 30) / 12))
        return Judgment(a="", b="", ab=p, ba=p)

    metrics = scripted(samples, context, answer, 0.5, judgment)
    assert metrics["words_vs_baseline"].value == pytest.approx(18.0)
    assert metrics["win_rate"].value > 0.65
    assert abs(metrics["length_controlled_win_rate"].value - 0.5) < 0.1
    assert metrics["win_rate"].judge_based


# -- the user's own items -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    ({"task": "poetry"}, "unknown task 'poetry'"), ({"prompt": None}, "missing field 'prompt'"), ({"kind": "pages"}, "unknown kind of limit 'pages'"),
    ({"task": "padding", "concise": "a", "padded": "a a"}, "missing field 'wrong'"),
    ({"limit": 0}, "limit is 0"), ({"limit": "ten"}, "limit is 'ten'"), ({"task": "one_word", "answers": []}, "answers is []")])
def test_bad_user_items_name_the_line(tmp_path: Path, change, message):
    good = {"id": "1", "cluster_id": "c", "task": "limit", "prompt": "Say it in two words.", "kind": "words", "limit": 2}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | {"id": "2"} | change) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        SUITE.load(path)
    assert ":2:" in str(caught.value)


def test_own_items_are_read(tmp_path: Path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"id": "1", "cluster_id": "c", "task": "open", "prompt": "Why?"}), encoding="utf-8")
    sample = SUITE.load(path)[0]
    assert sample.source == str(path)
    assert sample.messages[0].content == "Why?"
