from __future__ import annotations

import pytest

from auditor.models.chat import split_reasoning


def test_reasoning_that_the_prompt_opened_and_nobody_closed():
    assert split_reasoning("let me think about", opened=True) == ("", "let me think about")
    assert split_reasoning("hm</think>Paris", opened=True) == ("Paris", "hm")


@pytest.mark.parametrize(("text", "answer", "reasoning"), [
    ("Paris.", "Paris.", ""),
    ("<think>hm</think>Paris.", "Paris.", "hm"),
    ("hm, the template opened it</think> Paris.", "Paris.", "hm, the template opened it"),
    ("<think>never closed", "", "never closed"),
    ("a <think>x</think> b <think>y</think> c", "a  b  c", "x\ny"),
    ("<think></think>yes", "yes", ""),
    ("opened</think>A<think>again</think>B", "AB", "opened\nagain"),
])
def test_split_reasoning(text, answer, reasoning):
    assert split_reasoning(text) == (answer, reasoning)
