"""The endpoint gives the numbers of the built-in engine: the server's model is the very same checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auditor.models.endpoint import EndpointModel
from auditor.models.endpoint_options import EndpointOptions
from auditor.schema import ask, assistant, score_options, user

LETTERS = [" A", " B"]
OPTIONS = [
    ([user("Which answer is right, A or B?"), assistant("The answer is")], LETTERS),
    ([user("Which animal jumps?")], ["fox", "the quick brown fox jumps over the lazy dog", "ten"]),
    ([user("one two"), assistant("three four")], [" five six", " seven", "een"]),
    ([user("Say something."), assistant("well"), user("And now?"), assistant("It is ")], ["brown", "lazy dogs"]),
    ([user("A passage, as a whole.")], ["The quick brown fox jumps over the lazy dog. one two three"]),
    ([user("Ünïcödé — 日本"), assistant("→")], [" ✓", " no"]),
]
TEXTS = [ask([user(f"Tell me about {thing}.")], max_tokens=12) for thing in ("foxes", "dogs", "ten", "lazy")]
BEGUN = [ask([user("Count."), assistant("one two")], max_tokens=8), ask([user("Count."), assistant("one two three")], max_tokens=8, stop=["t"])]


def numbered(requests):
    return [replace(request, sample_id=f"{index:03d}", suite="s", seed=index) for index, request in enumerate(requests)]


def answers(model, requests):
    found = [reply for batch in model.plan(requests) for reply in model.run(batch)]
    return {reply.sample_id: reply for reply in found}


def opened(server, **options):
    return EndpointModel(f"openai:tiny@{server.url}", EndpointOptions(**{"backoff": 0.02, **options}))


@pytest.mark.parametrize("without", [[], ["by_id"]])
def test_options_and_texts_are_those_of_the_engine(serve, engine, without):
    model = opened(serve(without=without))
    assert model.asker.abilities.by_id is (not without)
    requests = numbered([*(score_options(messages, options) for messages, options in OPTIONS), *TEXTS, *BEGUN])
    ours, theirs = answers(model, requests), answers(engine.model, requests)
    for request in requests:
        one, other = ours[request.sample_id], theirs[request.sample_id]
        assert one.error is None
        assert one.text == other.text
        assert [option.n_tokens for option in one.logprobs] == [option.n_tokens for option in other.logprobs]
        for a, b in zip(one.logprobs, other.logprobs, strict=True):
            assert a.token_logprobs == pytest.approx(b.token_logprobs, abs=1e-4)
        if request.kind == "generate":
            assert (one.finish_reason, one.usage) == (other.finish_reason, other.usage)
    assert model.usage.prompt_tokens == sum(reply.usage.prompt_tokens for reply in ours.values())
    assert model.spec.weights_hash == ""
    assert model.spec.engine == "openai/vllm 0.test"
    assert len(model.spec.flags) == 1
    assert "cannot be verified" in model.spec.flags[0]


def test_replies_come_in_the_order_of_the_requests_and_batches_depend_on_nothing_else(serve):
    model, other = opened(serve()), opened(serve(), concurrency=2)
    requests = numbered(TEXTS * 3)
    model.rows = other.rows = 5
    assert [len(batch) for batch in model.plan(requests)] == [5, 5, 2]
    assert model.plan(requests) == other.plan(requests) == model.plan(requests)
    assert [reply.sample_id for batch in model.plan(requests) for reply in model.run(batch)] == [request.sample_id for request in requests]
    assert [reply.text for reply in other.run(requests[::-1])] == [reply.text for reply in model.run(requests)][::-1]


def test_what_the_cache_knows_is_not_asked_again(serve):
    from auditor.models.responses import CachedModel

    server = serve()
    first, second = CachedModel(opened(server)), CachedModel(opened(server))
    first.model.rows = second.model.rows = 2
    requests = numbered([*TEXTS, *TEXTS])
    known = answers(first, requests[:3])
    server.state.calls = 0
    found = answers(second, requests)
    assert server.state.calls == len(requests) - 3
    assert second.model.asked == len(requests) - 3  # the error budget's shares are of these
    assert all(found[name] == reply for name, reply in known.items())


def test_a_template_that_opens_the_reasoning(serve, engine, monkeypatch):
    template = engine.template.replace("<|assistant|>' }}{% endif %}", "<|assistant|><think>\n' }}{% endif %}")
    assert template != engine.template
    monkeypatch.setattr(engine, "template", template)
    model = EndpointModel(f"openai:tiny@{serve().url}", EndpointOptions(), reasoning_tokens=16)
    assert any("reasoning model" in flag for flag in model.spec.flags)
    reply = answers(model, numbered(TEXTS[:1]))["000"]
    assert (reply.text, reply.finish_reason) == ("", "length")  # still thinking: no answer, and not the thoughts in its place
    assert reply.reasoning
    assert (reply.usage.completion_tokens, reply.usage.reasoning_tokens) == (0, 28)
    stopping, = numbered([replace(TEXTS[0], sampling=replace(TEXTS[0].sampling, stop=(reply.reasoning[1],)))])
    assert answers(model, [stopping])["000"].usage == reply.usage  # a stop is the answer's: it does not end the reasoning


def test_an_answer_that_is_cut_at_its_stop_was_not_cut_by_the_limit(serve):
    """A reasoning model is sent no stop, so it writes on up to the limit."""
    model = EndpointModel(f"openai:tiny@{serve().url}", EndpointOptions(), reasoning_tokens=0)
    reply = answers(model, numbered(TEXTS[:1]))["000"]
    assert reply.finish_reason == "length"
    model.asker.abilities = replace(model.asker.abilities, reasons=True)
    stopping, = numbered([replace(TEXTS[0], sampling=replace(TEXTS[0].sampling, stop=(reply.text[3],)))])
    found = answers(model, [stopping])["000"]
    assert (found.text, found.finish_reason, found.usage) == (reply.text.partition(reply.text[3])[0], "stop", reply.usage)


def test_seeds_decide_draws(serve):
    model = opened(serve())
    requests = [replace(request, sampling=replace(request.sampling, temperature=1.0)) for request in numbered([TEXTS[0]] * 6)]
    first, second = answers(model, requests), answers(model, requests)
    assert [reply.text for reply in first.values()] == [reply.text for reply in second.values()]
    assert len({reply.text for reply in first.values()}) > 1


def test_a_template_without_the_begin_token_is_asked_by_ids(serve, engine, monkeypatch):
    monkeypatch.setattr(engine, "encode", lambda text, special: ([3] if special else []) + list(engine.tokenizer(text, add_special_tokens=False)["input_ids"]))
    model = opened(serve())
    assert model.asker.abilities.bos_by_ids
    requests = numbered([*TEXTS, *(score_options(messages, options) for messages, options in OPTIONS)])
    monkeypatch.setattr(engine.model.encoder, "bos", 3)
    ours, theirs = answers(model, requests), answers(engine.model, requests)
    for name, reply in theirs.items():
        assert ours[name].text == reply.text
        assert [option.logprob for option in ours[name].logprobs] == pytest.approx([option.logprob for option in reply.logprobs], abs=1e-4)


# -- the second way -----------------------------------------------------------------------------------------------------


def test_first_tokens_where_prompts_have_no_log_probabilities(serve, engine):
    server = serve(without=["tokenize"])
    model = opened(server)
    assert any("first token" in flag for flag in model.spec.flags)
    messages = [user("Which answer is right, A or B?"), assistant("The answer is")]
    likely = engine.logprobs(engine.model.encoder.ids(messages))[-1].topk(20).indices.tolist()
    words = [text for token in likely if (text := engine.tokenizer.decode([token])).isascii() and text.strip()]
    options = [words[0], next(word for word in words[1:] if not word.startswith(words[0]) and not words[0].startswith(word))]
    request, = numbered([score_options(messages, options)])
    reply = answers(model, [request])["000"]
    expected = [max(float(engine.logprobs(engine.model.encoder.ids(messages))[-1][token]) for token in likely if engine.tokenizer.decode([token]) == option)
                for option in options]
    assert [option.logprob for option in reply.logprobs] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("without", "messages", "options", "says"), [
    (["tokenize"], [user("x")], ["one long text"], "a whole text"),
    (["tokenize"], [user("x")], ["\u4e9c", "\u4e9d"], "likeliest tokens"),
    (["tokenize", "continue"], [user("x"), assistant("It is")], LETTERS, "does not continue"),
    (["tokenize", "logprobs"], [user("x")], LETTERS, "gives no log-probabilities"),
    (["echo", "logprobs"], [user("x")], LETTERS, "gives no log-probabilities"),
])
def test_what_a_server_cannot_give_has_no_score_and_says_why(serve, without, messages, options, says):
    model = opened(serve(without=without), budget=EndpointOptions().budget)
    reply = answers(model, numbered([score_options(messages, options)]))["000"]
    assert says in reply.error
    assert reply.logprobs == ()
    assert model.failed == 0  # the server's lack is no failure: the error budget is for those


def test_a_begun_reply_without_continuing(serve):
    model = opened(serve(without=["tokenize", "continue"]))
    reply = answers(model, numbered(BEGUN[:1]))["000"]
    assert "does not continue a begun reply" in reply.error


def test_options_that_share_their_first_token():
    from auditor.models.endpoint_errors import Unable
    from auditor.models.endpoint_replies import by_first_token

    named = [(" 1", -0.5), (" 10", -1.0), (" 2", -2.0), (" ", -3.0), (" 2", -4.0)]
    assert [option.logprob for option in by_first_token([" 10%", " 2 x"], named)] == [-1.0, -2.0]
    for options in ([" 10%", " 10"], [" 1", " 1 1"]):
        with pytest.raises(Unable, match="not told apart"):
            by_first_token(options, named)
    with pytest.raises(Unable, match=r"' 3' does not begin with any of the 5 likeliest tokens"):
        by_first_token([" 3", " 4"], named)


def test_a_token_that_ends_within_a_word_is_no_evidence():
    """As llama.cpp named them: the tokenizer makes "am" + "pe" + "res" of the word, and the longest that begins it is another one."""
    from auditor.models.endpoint_errors import Unable
    from auditor.models.endpoint_replies import by_first_token

    named = [("am", -1.13), ("lit", -3.33), ("amp", -3.73), (" ", -4.0), ("litres", -5.0)]
    for options in (['amperes"', 'litres"'], [" ten", 'litres"']):
        with pytest.raises(Unable, match=r"(amperes|ten).* does not begin with any of the 5 likeliest tokens.*by whole words"):
            by_first_token(options, named)
    assert [option.logprob for option in by_first_token(['am"', 'litres"'], named)] == [-1.13, -5.0]


@pytest.mark.parametrize(("without", "ability", "value", "flag"), [
    (["seed"], "seed", "refused", "takes no seeds"),
    (["seeds"], "seed", "ignored", "ignores seeds"),
    (["vllm"], "sampling", {}, "own defaults"),
    (["max_tokens"], "limit_field", "max_completion_tokens", ""),
    (["echo"], "echo", None, "first token"),
    (["by_id"], "by_id", False, ""),
    (["tokenize", "usage"], "continues", False, "does not continue"),
])
def test_abilities_are_found_by_asking(serve, engine, without, ability, value, flag):
    server = serve(without=without)
    model = opened(server)
    assert getattr(model.asker.abilities, ability) == value
    assert not flag or any(flag in text for text in model.spec.flags)
    assert opened(server).spec == model.spec
    requests = numbered(TEXTS[:2])
    assert {name: reply.text for name, reply in answers(model, requests).items()} == {name: r.text for name, r in answers(engine.model, requests).items()}


def test_fewer_top_logprobs_are_asked_for_where_twenty_are_refused(serve):
    assert opened(serve(without=["tokenize"], top=5)).asker.abilities.top_logprobs == 5


def test_a_name_other_than_the_one_asked_for_is_told(serve):
    model = opened(serve(reported="tiny-2026-01"))
    assert model.spec.revision == "tiny-2026-01"
    assert any("tiny-2026-01" in flag for flag in model.spec.flags)
    assert answers(model, numbered(TEXTS[:1]))["000"].error is None


# -- the context --------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_the_context_is_told_as_the_engine_does(serve, engine):
    model = opened(serve())
    room = engine.model.context - len(engine.model.encoder.ids([user("")]))
    long, fits = "a b " * 600, "a" * (room - 4)
    while len(engine.model.encoder.ids([user(fits)])) > engine.model.context - 4:
        fits = fits[:-1]
    requests = numbered([ask([user(long)], max_tokens=4), score_options([user(long)], LETTERS), ask([user(fits)], max_tokens=40), TEXTS[0]])
    ours, theirs = answers(model, requests), answers(engine.model, requests)
    assert "context" in ours["000"].error
    assert "context" in ours["001"].error
    assert ours["001"].error == theirs["001"].error
    assert ours["002"].text == theirs["002"].text
    assert ours["003"].text == theirs["003"].text
    assert model.failed == 0
