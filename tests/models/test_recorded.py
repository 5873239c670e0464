from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from auditor.errors import DataError, InputError
from auditor.models.resolve import open_model
from auditor.schema import ask, score_options, user


def recorded(tmp_path, *rows):
    path = tmp_path / "outputs.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return open_model(f"recorded:{path}")


def reply(model, request, **place):
    return next(iter(model.run([dataclasses.replace(request, suite="s", **place)])))


def test_by_sample_and_place(tmp_path):
    model = recorded(tmp_path, {"sample_id": "a", "completion": "first"}, {"sample_id": "a", "slot": 1, "completion": "second"},
                     {"sample_id": "a", "suite": "other", "turn": 1, "completion": "elsewhere"})
    assert reply(model, ask([user("?")]), sample_id="a").text == "first"
    assert reply(model, ask([user("?")]), sample_id="a", slot=1).text == "second"
    assert reply(model, ask([user("?")]), sample_id="a", turn=1).error == "no recorded reply"


def test_by_prompt_in_order(tmp_path):
    model = recorded(tmp_path, {"prompt": "Hi", "completion": "one"}, {"prompt": "Hi", "completion": "<think>t</think>two"})
    assert reply(model, ask([user("Hi")]), sample_id="x").text == "one"
    second = reply(model, ask([user("Hi")]), sample_id="x", slot=1)
    assert (second.text, second.reasoning) == ("two", "t")


def test_options_need_log_probabilities(tmp_path):
    model = recorded(tmp_path, {"sample_id": "a", "completion": "A"}, {"sample_id": "b", "logprobs": {"A": -0.1, "B": -2.5}})
    assert "no log-probability for option ' A'" in str(reply(model, score_options([user("?")], [" A", " B"]), sample_id="a").error)
    found = reply(model, score_options([user("?")], [" A", " B"]), sample_id="b")
    assert [option.logprob for option in found.logprobs] == [-0.1, -2.5]
    assert found.text == " A"


@pytest.mark.parametrize(("row", "words"), [
    ({"completion": "x"}, "needs 'sample_id' or 'prompt'"),
    ({"sample_id": "a"}, "needs a text field 'completion'"),
    ({"sample_id": "a", "completion": 3}, "needs a text field 'completion'"),
    ({"sample_id": "a", "logprobs": {"A": 0.5}}, "natural log-probability"),
    ({"sample_id": "a", "logprobs": {"A": -0.1, "B": -0.2}}, "sum to 1.724, above 1"),
    ("{broken", "not JSON"),
    ("[1]", "a JSON list"),
])
def test_malformed_lines_are_named(tmp_path, row, words):
    with pytest.raises(DataError, match=words) as caught:
        recorded(tmp_path, {"sample_id": "fine", "completion": "x"}, row)
    assert ":2:" in str(caught.value)


def test_two_replies_for_one_place(tmp_path):
    with pytest.raises(DataError, match="a second reply"):
        recorded(tmp_path, {"sample_id": "a", "completion": "x"}, {"sample_id": "a", "completion": "y"})


def test_empty_file(tmp_path):
    with pytest.raises(InputError, match="holds no items"):
        recorded(tmp_path, "")


def test_absent_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        open_model(f"recorded:{tmp_path / 'none.jsonl'}")


def test_each_row_of_a_prompt_answers_one_request(tmp_path):
    model = recorded(tmp_path, {"prompt": "Hi", "completion": "one"}, {"prompt": "Sure?", "completion": "two"}, {"prompt": "Hi", "completion": "three"})
    asked = [dataclasses.replace(ask([user(text)]), suite="s", sample_id=name, slot=slot)
             for name, text, slot in (("x", "Hi", 0), ("x", "Sure?", 1), ("y", "Hi", 0), ("z", "Hi", 0))]
    replies = [reply for batch in model.plan(asked) for reply in model.run(batch)]
    assert [reply.text for reply in replies] == ["one", "two", "three", ""]
    assert replies[3].error == "no recorded reply"


@pytest.mark.parametrize("row", [{"sample_id": "x", "epoch": [1], "completion": "a"}, {"sample_id": "x", "completion_tokens": "x", "completion": "a"},
                                 {"sample_id": "x", "logprobs": {"A": -10**400}}, {"sample_id": "x", "suite": 3, "completion": "a"}, "[" * 100_000])
def test_odd_values_are_named_with_their_line(tmp_path, row):
    with pytest.raises(DataError, match=":1:"):
        recorded(tmp_path, row)


def test_the_hash_of_a_recorded_model_is_that_of_its_file(tmp_path):
    first = recorded(tmp_path, {"sample_id": "a", "completion": "x"}).spec.weights_hash
    assert first == hashlib.sha256((tmp_path / "outputs.jsonl").read_bytes()).hexdigest()
    assert recorded(tmp_path, {"sample_id": "a", "completion": "y"}).spec.weights_hash != first
