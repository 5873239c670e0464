"""What a user may get wrong about an endpoint, and the words for it."""

from __future__ import annotations

import builtins

import pytest

from auditor.engine.agreement import compare_engines
from auditor.errors import InputError, ModelError
from auditor.models.endpoint import EndpointModel
from auditor.models.endpoint_errors import clean, retry_after
from auditor.models.endpoint_options import EndpointOptions, ErrorBudget, api_key, check_url, is_exposed, parse_budget, parse_price, parse_uri
from auditor.models.resolve import EngineOptions, absolute, open_model
from auditor.schema import ModelSpec, RunSpec, to_dict

OPTIONS = EngineOptions(cache=False, endpoint=EndpointOptions(backoff=0.01, timeout=20))


@pytest.mark.parametrize(("uri", "model", "url"), [
    ("openai:gpt-x@https://api.example.com/v1", "gpt-x", "https://api.example.com/v1"),
    ("openai:org/name@v2@http://127.0.0.1:8000/v1/", "org/name@v2", "http://127.0.0.1:8000/v1"),
    ("openai:m@HTTP://[::1]:80/v1", "m", "HTTP://[::1]:80/v1"),
])
def test_uris(uri, model, url):
    assert (parse_uri(uri).model, parse_uri(uri).url) == (model, url)
    assert absolute(uri) == uri


@pytest.mark.parametrize(("uri", "says"), [
    ("openai:gpt", "is written"), ("openai:@http://h/v1", "is written"), ("openai:m@ftp://h/v1", "is written"), ("openai:m@http://", "no URL"),
    ("openai:m@http://h:99999/v1", "cannot be read"), ("openai:m@http://h:0/v1", "no URL"), ("openai:m@http://a b/v1", "no URL"),
    ("openai:m@http://me:hunter2@h/v1", "user name or password"), ("openai:m@http://hunter2@h/v1", "user name or password"),
    ("openai:m@http://h/v1?api_key=hunter2", "query"), ("openai:m@http://h/v1#hunter2", "query"), ("openai:m@http://h/v1?", "query"),
])
def test_uris_that_are_none(uri, says):
    with pytest.raises(ModelError, match=says) as caught:
        open_model(uri, OPTIONS)
    assert "hunter2" not in str(caught.value)


def test_further_servers_are_checked_alike(serve):
    with pytest.raises(ModelError, match="password") as caught:
        open_model(f"openai:tiny@{serve().url}", EngineOptions(cache=False, endpoint=EndpointOptions(servers=("http://a:hunter2@h/v1",))))
    assert "hunter2" not in str(caught.value)


def test_further_servers_are_for_endpoints_alone(tiny_checkpoint):
    with pytest.raises(ModelError, match="--endpoint is for"):
        open_model(str(tiny_checkpoint), EngineOptions(endpoint=EndpointOptions(servers=("http://h/v1",))))


def test_nobody_there():
    with pytest.raises(ModelError, match="no server answers at http://127.0.0.1:9/v1"):
        open_model("openai:m@http://127.0.0.1:9/v1", OPTIONS)


def test_another_model(serve):
    with pytest.raises(ModelError, match=r"does not serve a model 'tinny': did you mean 'tiny'\? it serves another, tiny"):
        open_model(f"openai:tinny@{serve().url}", OPTIONS)


def test_a_wrong_path(serve):
    url = serve().url.removesuffix("/v1")
    with pytest.raises(ModelError, match="most often ending in /v1"):
        open_model(f"openai:tiny@{url}", OPTIONS)


def test_a_proxy_that_answers_html(serve):
    with pytest.raises(ModelError, match="HTML page"):
        open_model(f"openai:tiny@{serve(without=['get_html']).url}", OPTIONS)


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_wrong_key(serve, monkeypatch, key):
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ModelError, match="does not accept the key.*AUDITOR_API_KEY"):
        open_model(f"openai:tiny@{serve(key='right').url}", OPTIONS)


def test_a_server_without_chat(serve):
    with pytest.raises(ModelError, match="gives no greedy chat reply"):
        open_model(f"openai:tiny@{serve(without=['chat']).url}", OPTIONS)


def test_without_the_client(monkeypatch):
    real = builtins.__import__

    def refusing(name, *rest, **more):
        if name == "openai":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(ModelError, match=r"auditor\[openai\]"):
        open_model("openai:m@http://127.0.0.1:9/v1", OPTIONS)


def test_keys(monkeypatch):
    assert api_key() == "none"
    monkeypatch.setenv("OPENAI_API_KEY", " one ")
    assert api_key() == "one"
    monkeypatch.setenv("AUDITOR_API_KEY", "two")
    assert api_key() == "two"
    for bad in ("sk two", "sk-é", "sk\x07"):
        monkeypatch.setenv("AUDITOR_API_KEY", bad)
        with pytest.raises(ModelError, match="AUDITOR_API_KEY") as caught:
            api_key()
        assert bad not in str(caught.value)


@pytest.mark.parametrize(("url", "exposed"), [("http://127.0.0.1:1/v1", False), ("http://localhost/v1", False), ("http://[::1]/v1", False),
                                              ("https://example.com/v1", False), ("http://example.com/v1", True), ("http://10.0.0.2:8000/v1", True)])
def test_a_key_in_the_clear_is_flagged(url, exposed):
    from auditor.models.endpoint_abilities import Abilities

    assert is_exposed(check_url(url)) is exposed
    address = parse_uri(f"openai:m@{url}")
    flags = Abilities(reported="m").flags(address, "key", 512)
    assert any("unencrypted" in flag for flag in flags) is exposed
    assert not any("unencrypted" in flag for flag in Abilities(reported="m").flags(address, "none", 512))


def test_a_further_server_that_gets_the_key_in_the_clear_is_named(serve, monkeypatch, caplog):
    monkeypatch.setenv("AUDITOR_API_KEY", "k-1")
    EndpointModel(f"openai:tiny@{serve(key='k-1').url}", EndpointOptions(servers=("http://nowhere.invalid/v1",), timeout=5))
    assert "unencrypted to http://nowhere.invalid/v1" in caplog.text
    assert "k-1" not in caplog.text


def test_a_servers_words_reach_a_log_without_what_a_terminal_obeys():
    assert clean("\x1b]0;owned\x07 a\u202eb\nc k-1", "k-1") == "\\u001b]0;owned\\u0007 a\\u202eb c [key]"


def test_engines_are_compared_by_what_they_say_now(serve):
    server = serve()
    uri, asked = f"openai:tiny@{server.url}", []
    for _ in range(2):
        before = server.state.calls
        (line,) = compare_engines([uri, uri], ("confidence",), 2, EngineOptions(endpoint=OPTIONS.endpoint))
        assert line.errors == 0
        asked.append(server.state.calls - before)
    assert asked[0] == asked[1], "nothing may come from the response cache"


def test_budgets_and_prices():
    assert parse_budget("10") == ErrorBudget(count=10, share=None)
    assert parse_budget("0.25") == parse_budget("25%") == ErrorBudget(share=0.25)
    assert parse_budget("1").count == 1
    assert parse_budget("1.0").share == 1.0
    for bad in ("", "-1", "1.5", "150%", "nan", "many"):
        with pytest.raises(InputError, match="--fail-on-error"):
            parse_budget(bad)
    assert parse_price("0.15,0.6") == (0.15, 0.6)
    for bad in ("", "1", "1,2,3", "-1,2", "nan,1", "inf,1", "a,b"):
        with pytest.raises(InputError, match="--price"):
            parse_price(bad)


def test_options_survive_the_record():
    options = EndpointOptions(concurrency=3, budget=ErrorBudget(count=2, share=None), servers=("http://h/v1",), price=(1.0, 2.0))
    assert EndpointOptions.from_record(to_dict(options), {}) == options
    assert EndpointOptions.from_record(to_dict(options), {"concurrency": 8}).concurrency == 8
    assert EndpointOptions.from_record(None, {}) == EndpointOptions()


def test_retry_after():
    assert retry_after({"retry-after": "2"}) == 2.0
    assert retry_after({"retry-after": "2", "retry-after-ms": "500"}) == 0.5
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    for nothing in ({}, {"retry-after": "soon"}, {"retry-after": "-1"}, {"retry-after": "nan"}):
        assert retry_after(nothing) is None


def test_models_without_a_hash_are_not_the_same_model():
    def run(model, judge):
        return RunSpec(suites=(), suite_versions=(), model=ModelSpec(uri=model), judge=ModelSpec(uri=judge))

    assert run("openai:a@http://h/v1", "openai:b@http://h/v1").judge_is_independent
    assert not run("openai:a@http://h/v1", "openai:a@http://h/v1").judge_is_independent
    shaped = ModelSpec(uri="m", weights_hash="w", lineage={"judges": [{"role": "labeller", "uri": "openai:b@http://h/v1", "weights_hash": ""}]})
    for name, independent in (("openai:b@http://h/v1", False), ("openai:c@http://h/v1", True)):
        assert RunSpec(suites=(), suite_versions=(), model=shaped, judge=ModelSpec(uri=name)).judge_is_independent is independent
