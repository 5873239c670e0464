"""Replies that cannot be right are a Failure, which is tried again and counted; never another number, never an exception of another kind."""

from __future__ import annotations

import pytest

from auditor.models.endpoint_errors import Failure
from auditor.models.endpoint_replies import checked, echoed, first_token


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


@pytest.mark.parametrize("value", [float("-inf"), float("nan"), 0.5, None, "x"])
def test_a_first_token_without_a_probability(value):
    with pytest.raises(Failure, match="no usable"):
        first_token({"logprobs": {"content": [{"top_logprobs": [{"token": "A", "logprob": -1.0}, {"token": "B", "logprob": value}]}]}})
