"""The engine against plain, unbatched computation: what batching, padding and leaving rows must not change."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from auditor.models.decode import Clock, Row, decode, option_logprobs, pick, shared_prefix, uniforms
from auditor.models.resolve import EngineOptions, open_model
from auditor.schema import ask, assistant, score_options, user

PROMPTS = ["Hi", "Which answer is right, A or B?", "one two three four five six seven", "The quick brown fox", "A",
           "Tell me about the lazy dog, please, and the fox."]


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint):
    return open_model(str(tiny_checkpoint))


def requests(model, *, kind=ask, **options):
    made = [kind([user(text)], **options) for text in PROMPTS]
    return [dataclasses.replace(request, sample_id=str(index), seed=100 + index) for index, request in enumerate(made)]


def answers(model, asked):
    return {generation.sample_id: generation for batch in model.plan(asked) for generation in model.run(batch)}


def plain_greedy(model, ids, count):
    """Greedy decoding without cache, batch or padding."""
    ids, new = list(ids), []
    for _ in range(count):
        with torch.inference_mode():
            token = int(model.model(torch.tensor([ids])).logits[0, -1].argmax())
        if token in model.stop_tokens:
            break
        ids.append(token)
        new.append(token)
    return new


def test_greedy_equals_unbatched_uncached(tiny):
    asked = requests(tiny, max_tokens=24)
    rows = [Row(prompt=tiny.prompt_ids(request), max_tokens=24) for request in asked]
    decode(tiny.model, rows, tiny.stop_tokens, Clock())
    for request, row in zip(asked, rows, strict=True):
        assert row.tokens == plain_greedy(tiny, tiny.prompt_ids(request), 24), request.messages


def test_rows_of_different_limits_leave_and_others_go_on(tiny):
    prompts = [tiny.prompt_ids(request) for request in requests(tiny)]
    rows = [Row(prompt=prompt, max_tokens=limit) for prompt, limit in zip(prompts, (1, 2, 3, 5, 8, 30), strict=True)]
    decode(tiny.model, rows, frozenset(), Clock())
    assert [len(row.tokens) for row in rows] == [1, 2, 3, 5, 8, 30]
    for prompt, row in zip(prompts, rows, strict=True):
        stopless = dataclasses.replace(Row(prompt=prompt, max_tokens=row.max_tokens))
        decode(tiny.model, [stopless], frozenset(), Clock())
        assert row.tokens == stopless.tokens


def test_sampling_depends_on_the_seed_not_on_the_batch(tiny):
    asked = requests(tiny, max_tokens=20, temperature=1.0)
    together = answers(tiny, asked)
    for request in asked:
        assert answers(tiny, [request])[request.sample_id].text == together[request.sample_id].text
    reseeded = answers(tiny, [dataclasses.replace(request, seed=request.seed + 1) for request in asked])
    assert [reseeded[key].text for key in together] != [generation.text for generation in together.values()]


def test_sampling_follows_the_softmax():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    expected = torch.softmax(logits[0] / 0.7, -1)
    numbers = (torch.arange(4000) + 0.5) / 4000
    counts = torch.zeros(4)
    for number in numbers.tolist():
        row = Row(prompt=[0], max_tokens=1, temperature=0.7, uniforms=[number])
        counts[pick(logits, [row])[0]] += 1
    assert torch.allclose(counts / 4000, expected, atol=5e-4)


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    drawn = {pick(logits, [Row(prompt=[0], max_tokens=1, temperature=1.0, top_p=0.7, uniforms=[number / 100])])[0] for number in range(100)}
    assert drawn == {0, 1}


def test_uniforms_are_a_function_of_the_seed():
    assert uniforms(7, 5).tolist() == uniforms(7, 9)[:5].tolist() != uniforms(8, 5).tolist()


def test_option_logprobs_equal_a_plain_forward_pass(tiny):
    asked = requests(tiny, kind=score_options, options=["A", "B, the second", "one two three"])
    replies = answers(tiny, asked)
    for request in asked:
        prompt = tiny.prompt_ids(request)
        for option in replies[request.sample_id].logprobs:
            tokens = tiny.tokenizer(option.text, add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                lines = torch.log_softmax(tiny.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1:-1], -1)
            expected = [float(lines[place, token]) for place, token in enumerate(tokens)]
            assert option.token_logprobs == pytest.approx(expected, abs=2e-5)
            assert option.logprob == pytest.approx(sum(expected), abs=1e-4)


def test_one_token_options_sum_to_at_most_one(tiny):
    values = option_logprobs(tiny.model, [[5, 6, 7]], [[[token] for token in range(len(tiny.tokenizer))]], Clock())
    assert sum(math.exp(option[0]) for option in values[0]) == pytest.approx(1, abs=1e-5)


def test_assistant_prefix_is_continued(tiny):
    request = score_options([user("Hi"), assistant("Answer:")], [" A"])
    assert tiny.prompt_text(request).endswith("<|assistant|>Answer:")


def test_stop_string_ends_the_text_and_is_cut(tiny):
    request = dataclasses.replace(requests(tiny, max_tokens=40)[1])
    full = answers(tiny, [request])["1"].text
    stop = full[4:6]
    shorter = answers(tiny, [dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, stop=(stop,)))])["1"]
    assert shorter.text == full.partition(stop)[0]
    assert shorter.finish_reason == "stop"


def test_plan_is_a_function_of_the_set_of_requests(tiny):
    asked = requests(tiny, max_tokens=8)
    small = open_model(tiny.spec.uri, EngineOptions(batch_rows=2))
    forward, backward = small.plan(asked), small.plan(asked[::-1])
    assert forward == backward
    assert [len(batch) for batch in forward] == [2, 2, 2]
    lengths = [len(small.prompt_ids(request)) for batch in forward for request in batch]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(("prompts", "expected"), [
    ([[1] * 10, [1] * 10], 9),
    ([[1] * 9 + [2], [1] * 9 + [3, 4]], 9),
    ([[1, 2, 3], [1, 2, 4]], 0),
    ([[1] * 20], 0),
])
def test_shared_prefix(prompts, expected):
    assert shared_prefix(prompts) == expected


def test_too_long_a_prompt_is_an_error_not_a_truncation(tiny):
    asked = [dataclasses.replace(ask([user(text)], max_tokens=4), sample_id=name) for name, text in (("long", "word " * 600), ("short", "Hi"))]
    replies = answers(tiny, asked)
    assert "context holds 512" in (replies["long"].error or "")
    assert replies["long"].finish_reason == "error"
    assert replies["short"].error is None


@pytest.mark.model
def test_embedded_model_batch_sizes_agree(embedded_model):
    """architecture.md: in float32 greedy texts agree ≥ 99 % and option log-probabilities within 1e-4 across batch sizes."""
    words = ["sea", "law", "bread", "chess", "rain", "Paris", "trains", "glass"]
    asked = [dataclasses.replace(ask([user(f"Write one sentence about {word}.")], max_tokens=24), sample_id=word) for word in words]
    asked_options = [dataclasses.replace(score_options([user(f"Is {word} edible?\nA) yes\nB) no, it is not"), assistant("Answer:")],
                                                       [" A", " B", " no, it is not"]), sample_id=word) for word in words]
    together, alone = answers(embedded_model, asked), {}
    for request in asked:
        alone.update(answers(embedded_model, [request]))
    assert [together[word].text for word in words] == [alone[word].text for word in words]
    many = answers(embedded_model, asked_options)
    for request in asked_options:
        one = answers(embedded_model, [request])[request.sample_id]
        assert [option.logprob for option in many[request.sample_id].logprobs] == pytest.approx([option.logprob for option in one.logprobs], abs=1e-4)


def test_reasoning_that_closes_late_has_room_for_the_whole_answer(tiny):
    """The answer's limit counts from the end of the reasoning, wherever that falls; the cache must hold both."""
    prompt = tiny.prompt_ids(requests(tiny)[1])
    free = Row(prompt=prompt, max_tokens=30)
    decode(tiny.model, [free], frozenset(), Clock())
    close = free.tokens[8]
    first = free.tokens.index(close)
    row, other = (Row(prompt=ids, max_tokens=8, reasoning_budget=3, think_end=close) for ids in (prompt, prompt[:-2]))
    decode(tiny.model, [row, other], frozenset(), Clock())
    assert row.tokens == free.tokens[:first + 1 + 8]


@pytest.mark.parametrize(("written", "opened", "text", "reasoning", "finish"), [
    ("<think>one.\ntwo.\n</think>\nParis.\nRome.", False, "Paris.", "one.\ntwo.", "stop"),
    ("one.\ntwo.</think>Paris.\nRome.", True, "Paris.", "one.\ntwo.", "stop"),
    ("<think>one.\ntwo.\nthree.", False, "", "one.\ntwo.\nthree.", "length"),
    ("Paris.\nRome.", False, "Paris.", "", "stop"),
])
def test_stop_strings_end_the_answer_and_not_the_reasoning(tiny, monkeypatch, written, opened, text, reasoning, finish):
    """Tokens of a scripted reply pass through the row as decoding would push them."""
    monkeypatch.setattr(tiny, "template", tiny.template + ("<think>" if opened else ""))
    request = ask([user("Capital?")], max_tokens=400, stop=["\n"])
    row = tiny._row(request, tiny.prompt_ids(request))
    for token in tiny.tokenizer(written, add_special_tokens=False)["input_ids"]:
        if not row.finish:
            row.push(token, tiny.stop_tokens)
    row.finish = row.finish or "length"
    reply = tiny._finish(request, row)
    assert (reply.text, reply.reasoning, reply.finish_reason) == (text, reasoning, finish)
