"""Every fault of a server is survived or reported: nothing is lost, nothing passes for a reply."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from auditor.errors import EngineError, ModelError
from auditor.models.endpoint import EndpointModel
from auditor.models.endpoint_options import EndpointOptions, ErrorBudget
from auditor.schema import ask, assistant, score_options, user

ONE_EACH = ["reset", "truncated", "cut", "429:0.05", "429", "500", "503", "408", "empty_choices", "wrong_model", "html", "null", "error_200"]
KEY = "sk-very-secret-0123456789"


def requests(count=10):
    texts = [ask([user(f"Tell me about {index} foxes.")], max_tokens=4) for index in range(count - count // 2)]
    scored = [score_options([user(f"Is {index} ten?"), assistant("It is")], [" ten", " lazy"]) for index in range(count // 2)]
    return [replace(request, sample_id=f"{index:03d}", suite="s", seed=index) for index, request in enumerate([*texts, *scored])]


def opened(server, *more, **options):
    fields = {"backoff": 0.02, "timeout": 20.0, "servers": tuple(other.url for other in more), **options}
    return EndpointModel(f"openai:tiny@{server.url}", EndpointOptions(**fields))


def replies(model, asked):
    return [reply for batch in model.plan(asked) for reply in model.run(batch)]


@pytest.fixture(scope="module")
def expected(engine):
    found = {reply.sample_id: reply for batch in engine.model.plan(requests()) for reply in engine.model.run(batch)}
    return [found[request.sample_id] for request in requests()]


def assert_same(found, expected):
    assert [reply.sample_id for reply in found] == [reply.sample_id for reply in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.error is None, one.error
        assert one.text == other.text
        assert [option.logprob for option in one.logprobs] == pytest.approx([option.logprob for option in other.logprobs], abs=1e-4)


@pytest.mark.parametrize("fault", [*ONE_EACH, "hang:3"])
def test_one_fault_is_survived(serve, expected, fault):
    server = serve()
    model = opened(server, timeout=1.5 if fault == "hang:3" else 20.0)
    server.state.script.append(fault)
    assert_same(replies(model, requests()), expected)
    assert server.state.faults[fault] == 1
    assert model.failed == 0


def test_many_faults_are_survived(serve, expected):
    server = serve()
    model = opened(server, concurrency=4)
    server.state.script.extend(fault for name in ONE_EACH for fault in (name, ""))
    for _ in range(3):
        assert_same(replies(model, requests()), expected)
    assert sum(server.state.faults.values()) == len(ONE_EACH)


def test_a_storm_of_429_is_waited_for_as_long_as_the_server_asks(serve, expected):
    server = serve()
    model = opened(server, concurrency=5)
    server.state.script.extend(["429:0.6"] * 5)
    server.state.times.clear()
    assert_same(replies(model, requests()), expected)
    refused, after = server.state.times[:5], server.state.times[5:]
    assert min(after) - min(refused) >= 0.6
    assert len(after) == 10


def test_a_retry_after_beyond_what_is_waited_is_no_reply(serve):
    server = serve()
    model = opened(server, budget=ErrorBudget(count=1, share=None))
    server.state.script.append("429:7200")
    started = time.monotonic()
    found = replies(model, requests(4))
    assert time.monotonic() - started < 60
    assert sum("asks to wait 7200 s" in (reply.error or "") for reply in found) == 1


@pytest.mark.parametrize(("fault", "says"), [("500", "HTTP 500"), ("empty_choices", "0 choices"), ("truncated", "cannot be read"), ("html", "HTML page"),
                                             ("wrong_model", "by model 'another'"), ("reset", "broke off"), ("400", "HTTP 400")])
def test_what_stays_is_an_error_and_never_a_number(serve, fault, says):
    server = serve()
    model = opened(server, retries=1, budget=ErrorBudget(count=4, share=None))
    server.state.every, server.state.fault = 1, fault
    found = replies(model, requests(4))
    assert len(found) == 4
    for reply in found:
        assert says in reply.error
        assert (reply.text, reply.logprobs, reply.finish_reason, reply.option_probabilities()) == ("", (), "error", [])
    assert model.failed == 4


def test_the_budget_is_a_count_or_a_share_and_then_the_run_stops(serve):
    server = serve()
    for budget, failing, stops in ((ErrorBudget(count=2, share=None), 2, False), (ErrorBudget(count=2, share=None), 3, True),
                                   (ErrorBudget(share=0.2), 2, False), (ErrorBudget(share=0.2), 3, True), (ErrorBudget(share=0.0), 1, True)):
        model = opened(server, retries=0, budget=budget, concurrency=1)
        server.state.script.extend(["500"] * failing)
        if stops:
            with pytest.raises(EngineError, match=rf"{failing} of 10 requests .* \(allowed: .*--resume"):
                replies(model, requests())
        else:
            assert [reply.error is None for reply in replies(model, requests())] == [False] * failing + [True] * (10 - failing)


def test_a_key_that_is_refused_midway_stops_at_once_and_is_never_repeated(serve, monkeypatch):
    monkeypatch.setenv("AUDITOR_API_KEY", KEY)
    server = serve(key=KEY)
    model = opened(server, budget=ErrorBudget(count=10, share=None))
    server.state.key = "another"
    with pytest.raises(EngineError, match="the key is not accepted") as caught:
        replies(model, requests())
    assert KEY not in str(caught.value)
    assert server.state.calls < 60


def test_a_server_that_repeats_the_key_does_not_get_it_into_an_error(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve(key=KEY)
    model = opened(server, retries=0, budget=ErrorBudget(count=10, share=None))
    server.state.every, server.state.fault = 1, "500"
    found = replies(model, requests(4))
    assert all("you sent Bearer [key]" in reply.error and KEY not in reply.error for reply in found)
    monkeypatch.setenv("AUDITOR_API_KEY", "wrong")  # wins
    with pytest.raises(ModelError, match="does not accept the key") as caught:
        opened(server)
    assert "wrong" not in str(caught.value)


def test_no_more_requests_are_in_flight_than_allowed(serve):
    server = serve(delay=0.05, without=["tokenize"])
    model = opened(server, concurrency=3)
    server.state.most_active = 0
    asked = [request for request in requests(20) if request.kind == "generate"] * 3
    asked = [replace(request, sample_id=str(index)) for index, request in enumerate(asked)]
    model.rows = 5
    replies(model, asked)
    assert server.state.most_active == 3


def test_what_was_asked_ahead_and_not_fetched_is_given_up(serve):
    model = opened(serve(delay=0.2))
    model.rows = 2
    batches = model.plan(requests())
    list(model.run(batches[0]))
    assert model.ahead
    left = list(model.ahead.values())
    model.plan(requests())
    assert all(future.cancelled() or future.done() for future in left)


def test_only_what_is_expected_is_asked_ahead(serve):
    server = serve()
    model = opened(server)
    model.rows = 2
    batches = model.plan(requests())
    model.expect(batches[0])
    server.state.calls = 0
    list(model.run(batches[0]))
    time.sleep(0.3)
    assert server.state.calls == 2


# -- servers that die ---------------------------------------------------------------------------------------------------


def test_a_server_that_dies_and_returns(serve, expected):
    server = serve()
    port = server.server_address[1]
    model = opened(server, backoff=0.3)
    server.stop()
    back = threading.Timer(1.0, lambda: serve(port=port))
    back.start()
    assert_same(replies(model, requests()), expected)
    back.join()


def test_a_server_that_stays_dead_stops_the_run_within_its_retries(serve):
    server = serve()
    model = opened(server, retries=2)
    server.stop()
    with pytest.raises(EngineError, match="no connection"):
        replies(model, requests())


def test_several_servers_share_the_work(serve, expected):
    one, two = serve(delay=0.03), serve(delay=0.03)
    model = opened(one, two, concurrency=4)
    one.state.calls = two.state.calls = 0
    assert_same(replies(model, requests()), expected)
    assert min(one.state.calls, two.state.calls) >= 3


def test_a_server_that_answers_nonsense_quickly_does_not_draw_the_work_to_itself(serve, expected):
    one, two = serve(), serve(delay=0.05)
    model = opened(one, two, retries=3)
    one.state.every, one.state.fault = 1, "empty_choices"
    for _ in range(3):
        assert_same(replies(model, requests()), expected)
    assert model.pool.servers[0].drained


def test_the_work_of_a_server_that_dies_goes_to_the_others_and_back_to_it(serve, expected):
    one, two = serve(), serve()
    port = one.server_address[1]
    model = opened(one, two, backoff=0.2)
    one.stop()
    assert_same(replies(model, requests()), expected)
    assert model.pool.servers[0].drained
    again = serve(port=port)
    time.sleep(0.5)
    for _ in range(20):
        assert_same(replies(model, requests()), expected)
        if not model.pool.servers[0].drained:
            break
        time.sleep(0.5)
    assert again.state.calls > 0
    assert not model.pool.servers[0].drained


def test_a_server_that_was_not_there_at_first_is_looked_at_before_it_is_used(serve, expected, caplog):
    one, two = serve(), serve()
    port = two.server_address[1]
    two.stop()
    model = opened(one, two, backoff=0.05)
    assert "no server answers" in caplog.text
    assert_same(replies(model, requests()), expected)
    other = serve(port=port, without=["seed"])
    assert_same(replies(model, requests()), expected)
    model.pool.servers[1].until = 0.0
    assert_same(replies(model, requests()), expected)
    assert "differs" in model.pool.servers[1].out
    assert other.state.calls > 0  # it was looked at


def test_servers_that_differ_are_refused(serve):
    with pytest.raises(ModelError, match="differ"):
        opened(serve(), serve(without=["echo"]))
    with pytest.raises(ModelError, match="does not serve"):
        opened(serve(), serve(name="other"))


def test_all_servers_dead_at_the_start_is_bad_input(serve):
    one, two = serve(), serve()
    one.stop()
    two.stop()
    with pytest.raises(ModelError, match="no server answers"):
        opened(one, two)
