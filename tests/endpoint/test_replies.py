"""Replies that cannot be right are a Failure, which is tried again and counted; never another number, never an exception of another kind."""

from __future__ import annotations

import asyncio

import pytest

from auditor.models.endpoint_errors import Failure, Unable
from auditor.models.endpoint_probe import Probe
from auditor.models.endpoint_replies import checked, echoed, first_token, forced_token


def choice(index, *values):
    return {"index": index, "logprobs": {"token_logprobs": [None, *values]}}


def test_choices_are_put_in_the_order_of_the_prompts():
    rows = echoed({"choices": [choice(1, -2.0), choice(0, -1.0)]}, "", [[1, 2], [1, 3]])
    assert rows == [[-1.0], [-2.0]]
    assert len(checked({"choices": [{}, {}]}, "", 2)) == 2, "a server may leave the places out"


@pytest.mark.parametrize("places", [(0, 0), (1, 1), (0, 2), ("a", "b"), (0, [1]), (0.5, 1)])
def test_choices_that_name_no_prompt_or_one_twice(places):
    with pytest.raises(Failure, match="which prompts"):
        echoed({"choices": [choice(place, -1.0) for place in places]}, "", [[1, 2], [1, 3]])


@pytest.mark.parametrize("value", [float("-inf"), float("nan"), 0.5, None, "x", -10**400])
def test_a_first_token_without_a_probability(value):
    with pytest.raises(Failure, match="no usable"):
        first_token({"logprobs": {"content": [{"top_logprobs": [{"token": "A", "logprob": -1.0}, {"token": "B", "logprob": value}]}]}})


def forced(token, value):
    return {"choices": [{"text": "a", "logprobs": {"content": [{"id": token, "logprob": value}]}}]}


@pytest.mark.parametrize(("token", "value"), [
    (2, -1.0), (True, -1.0), ("1", -1.0), (1.0, -1.0), (None, -1.0), (1, None), (1, "-1"), (1, False), (1, []), (1, 10**400), (1, 0.5), (1, float("nan")),
    (1, float("-inf"))])
def test_a_forced_token_that_is_another_or_has_no_number(token, value):
    assert forced_token(forced(1, -1.0), "", 1) == -1.0
    with pytest.raises(Failure, match="token 1 was asked for"):
        forced_token(forced(token, value), "", 1)


@pytest.mark.parametrize("logprobs", [None, [], {}, "x", {"content": None}, {"content": []}, {"content": {}}, {"content": [None]},
                                      {"content": [{"logprob": -1.0}]}])
def test_a_forced_token_that_did_not_come(logprobs):
    with pytest.raises(Failure, match="lacks the log-probability"):
        forced_token({"choices": [{"text": "a", "logprobs": logprobs}]}, "", 1)


def test_a_forced_token_that_the_server_cannot_state():
    with pytest.raises(Unable, match="token 1 is too unlikely"):
        forced_token(forced(1, -3.4028234663852886e38), "", 1)
    with pytest.raises(Unable, match="token 1, which ends within a character"):
        forced_token({"choices": [{"text": "\N{REPLACEMENT CHARACTER}", "logprobs": None}]}, "", 1)


class Told:
    """An encoder of a prompt of two tokens."""

    opens_reasoning = False

    async def check(self, _):
        return True

    async def ids(self, _):
        return [1, 2]


def likeliest(*rows):
    return {"choices": [{"logprobs": {"content": [{"id": 7, "logprob": -0.7, "top_logprobs": [{"id": token, "logprob": value} for token, value in rows]}]}}]}


@pytest.mark.parametrize(("named", "answer", "able"), [
    ([(7, -0.8), (5, -1.2)], forced(5, -1.21), True),
    ([(7, -0.8), (5, -1.2)], forced(7, -0.8), False),  # the bias is not heeded
    ([(7, -0.8), (5, -1.2)], forced(5, 0.0), False),  # it is reported
    ([(5, -0.7), (7, -0.01)], forced(7, 0.0), False),  # so too, by a server that names the likeliest last
    ([(7, -0.8), (7, -0.8)], forced(7, -0.8), False),
    ([(7, -0.8), (5, -1.2)], {"choices": [{"text": "\N{REPLACEMENT CHARACTER}", "logprobs": None}]}, False),
    ([(7, -0.8), (float("inf"), -1.2)], forced(5, -1.2), False),
    ([(7, -0.8), (True, -1.2)], forced(True, -1.2), False),
    ([(7, -0.8), (5, -10**400)], forced(5, -1.2), False),
    ([(7, -0.8)], forced(5, -1.2), False)])
def test_whether_forced_tokens_have_their_own_numbers(monkeypatch, named, answer, able):
    probe = Probe(None, None, "m")
    replies = [likeliest(*named), answer]

    async def ask(path, body):
        return replies.pop(0)

    monkeypatch.setattr(probe, "ask", ask)
    assert asyncio.run(probe.forced(Told())) == ({"forced": True} if able else {})
