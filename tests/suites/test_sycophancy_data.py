"""The shipped sycophancy items: enough, balanced, distinct, short, and in wordings that differ only where they should."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import pytest

from auditor.suites._sycophancy_opinions import feedback_prompts
from auditor.suites._sycophancy_statements import premise_prompts, stance_prompts
from auditor.suites._sycophancy_tasks import TASKS
from auditor.suites._sycophancy_wording import CHALLENGES, LADDERS, REPEATS, STANCES
from auditor.suites.sycophancy import load

ROWS = [sample.metadata for sample in load(None)]
FACTS = [row for row in ROWS if "right" in row]
NAMING_ONE = [row for row in FACTS if row["task"] != "false_premise"]


def words(text):
    return re.findall(r"[\w'’]+", text.lower())


def jaccard(one, two):
    return len(one & two) / len(one | two)


def text_of(row):
    """What an item is about, as one set of words."""
    return frozenset(words(" ".join(str(row.get(name, "")) for name in ("question", "stem", "plain", "right", "wrong", "text"))))


def test_size_and_clusters():
    assert len(ROWS) >= 200
    assert Counter(row["task"] for row in ROWS).keys() == TASKS.keys()
    assert sum(row["task"] == "stance" for row in ROWS) >= 100
    clusters = Counter(row["cluster"] for row in ROWS)
    assert len(clusters) >= 50
    assert max(clusters.values()) <= 5
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert all(len({row["task"] for row in ROWS if row["cluster"] == cluster}) == 1 for cluster in clusters)


def test_texts_of_both_qualities_and_enough_topics():
    qualities = Counter(row["quality"] for row in ROWS if row["task"] == "feedback")
    assert qualities["good"] == qualities["bad"] >= 40
    topics = {task: len({row["cluster"] for row in ROWS if row["task"] == task}) for task in TASKS}
    assert min(topics[task] for task in ("are_you_sure", "pressure", "false_premise")) >= 30
    assert topics["stance"] >= 72  # fewer leave a flawless model's interval beyond the bound of its criterion
    assert topics["feedback"] >= 58


@pytest.mark.parametrize("task", ["stance", "are_you_sure", "pressure", "false_premise"])
def test_the_right_answer_is_named_first_in_half_of_the_items(task):
    firsts = [row["first"] == "right" for row in FACTS if row["task"] == task]
    assert 0.45 <= sum(firsts) / len(firsts) <= 0.55


def test_the_right_answer_is_not_the_longer_one():
    longer = [len(row["right"]) > len(row["wrong"]) for row in FACTS if len(row["right"]) != len(row["wrong"])]
    assert 0.4 <= sum(longer) / len(longer) <= 0.6


def test_no_near_duplicates():
    for one, two in combinations(ROWS, 2):
        limit = 0.9 if one["cluster"] == two["cluster"] else 0.8
        assert jaccard(text_of(one), text_of(two)) < limit, f"{one['id']} ~ {two['id']}"


def test_no_question_is_asked_twice_in_other_words():
    """Two items with the same pair of answers would be one fact counted twice."""
    pairs = Counter(frozenset((row["right"], row["wrong"])) for row in FACTS if not re.search(r"\d", row["right"]))
    repeated = {pair for pair, count in pairs.items() if count > 1}
    for pair in repeated:
        questions = [frozenset(words(row["question"])) for row in FACTS if frozenset((row["right"], row["wrong"])) == pair]
        assert all(jaccard(one, two) < 0.7 for one, two in combinations(questions, 2)), pair


@pytest.mark.parametrize("row", NAMING_ONE, ids=lambda row: row["id"])
def test_a_question_names_both_answers_once_and_in_order(row):
    question = stance_prompts(row)[0]
    first, second = (row["right"], row["wrong"]) if row["first"] == "right" else (row["wrong"], row["right"])
    assert "{" not in question
    assert row["question"].index("{first}") < row["question"].index("{second}")
    assert question == row["question"].replace("{first}", first).replace("{second}", second)
    assert row["right"].lower() not in row["question"].lower().split()
    assert not re.search(r"\ban? an?\b|\bthe the\b|\ba (?=[aeio]\w)|\ban (?=[bcdfgjklmnpqrstvwyz]\w)", question), question


def test_texts_are_short():
    for row in NAMING_ONE:
        assert max(len(words(prompt)) for prompt in stance_prompts(row)) <= 32, row["id"]
    for row in ROWS:
        if row["task"] == "false_premise":
            assert max(len(words(prompt)) for prompt in premise_prompts(row)) <= 22, row["id"]
        if row["task"] == "feedback":
            assert max(len(words(prompt)) for prompt in feedback_prompts(row)) <= 46, row["id"]
        if row["task"] == "social":
            assert len(words(row["text"])) <= 45, row["id"]
            assert 12 <= len(words(row["frank"])) <= 45, row["id"]


@pytest.mark.parametrize(("believed", "mentioned"), STANCES)
def test_belief_and_mention_name_the_answer_once_at_the_end(believed, mentioned):
    for remark in (believed, mentioned):
        assert remark.count("{answer}") == 1
        assert remark.endswith("{answer}.")
    assert len(words(mentioned)) - len(words(believed)) <= 5


def test_doubt_and_pressure_name_no_answer_and_bring_no_argument():
    remarks = [challenge for challenge, _ in CHALLENGES] + [remark for ladder in LADDERS for remark in ladder] + list(REPEATS)
    assert not any("{" in remark or "because" in remark for remark in remarks)
    assert len(set(remarks)) == len(remarks)
    assert {len(ladder) for ladder in LADDERS} == {len(REPEATS)} == {3}


def test_the_wordings_are_spread_over_the_items():
    used = Counter(prompt.replace(row["right"], "").split("? ", 1)[1] for row in ROWS if row["task"] == "stance" for prompt in stance_prompts(row)[3:4])
    assert len(used) == len(STANCES)
    assert max(used.values()) <= 0.25 * sum(used.values())


def test_wordings_do_not_come_from_public_data(shared_data):
    """No remark of five words or more stands in a public file of its own kind."""
    remarks = [remark.split("{")[0] for pair in STANCES for remark in pair] + [text for pair in CHALLENGES for text in pair]
    remarks += [remark for ladder in LADDERS for remark in ladder]
    long = {" ".join(words(remark)) for remark in remarks if len(words(remark)) >= 8}
    assert long
    for folder in ("syco-bench", "sycon-bench", "opinion-bias-probes", "anthropic-evals", "elephant-sample", "truthfulqa"):
        for path in sorted((shared_data / folder).rglob("*.*")):
            if path.suffix in (".csv", ".json", ".jsonl"):
                public = " ".join(words(path.read_text(encoding="utf-8")))
                assert not [remark for remark in long if remark in public], path
