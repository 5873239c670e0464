"""vLLM in process beside the built-in engine, on the embedded model. Run in an environment that has vLLM: make test-vllm."""

from __future__ import annotations

import dataclasses

import pytest

from auditor.engine.agreement import answers, questions
from auditor.models.resolve import EngineOptions, open_model
from auditor.schema import ask, score_options, user

pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")


@pytest.fixture(scope="module")
def model():
    return open_model("vllm:smollm2", EngineOptions(dtype="float32", engine_args=(("max_model_len", "2048"),)))


def placed(requests):
    return [dataclasses.replace(request, suite="s", sample_id=f"i{place}", seed=place) for place, request in enumerate(requests)]


def answered(model, requests):
    return {request.key: reply for batch in model.plan(requests) for request, reply in zip(batch, model.run(batch), strict=True)}


def test_options_agree_with_the_built_in_engine(model):
    requests = questions(("confidence", "sycophancy"), 4)
    _, expected = answers("smollm2", EngineOptions(), requests)
    found = answered(model, requests)
    options = [(a.logprob, b.logprob) for request in requests if request.kind == "logprobs"
               for a, b in zip(found[request.key].logprobs, expected[request.key].logprobs, strict=True)]
    assert options
    assert max(abs(a - b) for a, b in options) < 1e-3
    texts = [(found[request.key].text, expected[request.key].text) for request in requests if request.kind == "generate"]
    assert sum(a == b for a, b in texts) >= 0.9 * len(texts)


def test_options_of_several_tokens(model):
    request = placed([score_options([user("What is the capital of France?")], ["Paris, of course", "Lyon"])])
    reply = answered(model, request)[request[0].key]
    assert [option.n_tokens for option in reply.logprobs] == [len(model.encoder.continuation(request[0].messages, option)) for option in request[0].options]
    assert reply.logprobs[0].logprob == pytest.approx(sum(reply.logprobs[0].token_logprobs))


def test_a_seed_decides_a_draw(model):
    requests = placed([ask([user("Tell me a story.")], max_tokens=16, temperature=1.0)] * 2)
    first, again = answered(model, requests), answered(model, requests)
    assert [first[request.key].text for request in requests] == [again[request.key].text for request in requests]
    assert first[requests[0].key].text != first[requests[1].key].text


def test_a_prompt_beyond_the_context_is_an_error_of_its_own(model):
    requests = placed([ask([user("word " * 4000)]), ask([user("Hi")], max_tokens=4)])
    found = answered(model, requests)
    assert "context holds 2048" in found[requests[0].key].error
    assert found[requests[1].key].error is None
