"""The response cache: the same reply for the same question to the same weights, and for nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading

import pytest

from auditor.errors import EngineError
from auditor.models.resolve import open_model
from auditor.models.responses import CachedModel, key_of
from auditor.schema import Generation, ModelSpec, SamplingParams, ask, score_options, user


def requests_of(count, **changes):
    asked = [ask([user(f"Say {n}")], max_tokens=6, temperature=1.0) for n in range(count)]
    asked += [score_options([user(f"Choose {n}")], ["A", "Be"]) for n in range(count)]
    return [dataclasses.replace(request, **{"suite": "s", "sample_id": f"i{n}", "seed": n} | changes) for n, request in enumerate(asked)]


def answered(model, requests):
    return {request.key: reply for batch in model.plan(requests) for request, reply in zip(batch, model.run(batch), strict=True)}


class Counting:
    """A real model that counts what reaches it."""

    def __init__(self, model):
        self.model, self.spec, self.asked = model, model.spec, 0

    def plan(self, requests):
        return self.model.plan(requests)

    def run(self, requests):
        self.asked += len(requests)
        return self.model.run(requests)


@pytest.fixture
def model(tiny_checkpoint):
    return Counting(open_model(str(tiny_checkpoint)))


def test_a_second_run_asks_nothing_and_gets_the_same(model, tmp_path):
    first = answered(CachedModel(model, tmp_path / "r.sqlite"), requests_of(5))
    assert model.asked == 10
    cached = CachedModel(model, tmp_path / "r.sqlite")
    assert answered(cached, requests_of(5)) == first
    assert (model.asked, cached.found, cached.asked) == (10, 10, 0)
    # Other places in another run, the same questions.
    moved = answered(cached, requests_of(5, suite="t", turn=3))
    assert {(key[0], key[3]) for key in moved} == {("t", 3)}
    assert all(reply.turn == 3 for reply in moved.values())
    assert model.asked == 10
    # Five more are asked in one batch with known ones.
    assert len(answered(cached, requests_of(8))) == 16
    assert model.asked > 10


@pytest.mark.parametrize("change", [
    {"seed": 99}, {"epoch": 1}, {"sampling": SamplingParams(temperature=1.0, max_tokens=7)}, {"messages": (user("Say 0 "),)}, {"options": ("A", "B")}])
def test_whatever_decides_the_reply_is_in_its_key(change):
    spec, request = ModelSpec(uri="u", weights_hash="w"), requests_of(1)[0]
    assert key_of(spec, request) != key_of(spec, dataclasses.replace(request, **change))


@pytest.mark.parametrize("change", [{"weights_hash": "v"}, {"template_hash": "t"}, {"dtype": "bfloat16"}, {"engine": "vllm"},
                                    {"flags": ("reasoning model: up to 16 tokens",)}, {"flags": ("option log-probabilities are those of the first token",)}])
def test_other_weights_have_other_replies(change):
    spec, request = ModelSpec(uri="u", weights_hash="w"), requests_of(1)[0]
    assert key_of(spec, request) != key_of(dataclasses.replace(spec, **change), request)
    assert key_of(spec, request) == key_of(dataclasses.replace(spec, uri="elsewhere"), request)
    assert key_of(ModelSpec(uri="openai:m@a"), request) != key_of(ModelSpec(uri="openai:m@b"), request)


def test_an_error_is_asked_again(tmp_path):
    class Failing:
        spec = ModelSpec(uri="u", weights_hash="w")

        def plan(self, requests):
            return [list(requests)]

        def run(self, requests):
            for request in requests:
                yield Generation(sample_id=request.sample_id, finish_reason="error", error="no reply")

    cached = CachedModel(Failing(), tmp_path / "r.sqlite")
    for _ in range(2):
        answered(cached, requests_of(1))
    assert (cached.found, cached.asked) == (0, 4)


def test_two_at_once(model, tmp_path):
    caches = [CachedModel(Counting(model.model), tmp_path / "r.sqlite") for _ in range(2)]
    found = [None, None]

    def work(place):
        found[place] = answered(caches[place], requests_of(4))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]


def test_a_cache_that_cannot_be_used(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="--no-cache"):
        CachedModel(model, tmp_path / "file" / "r.sqlite")
    (tmp_path / "broken.sqlite").write_text("this is no database, and long enough to be seen as none" * 40)
    with pytest.raises(EngineError, match="AUDITOR_CACHE"):
        CachedModel(model, tmp_path / "broken.sqlite")


def test_the_second_run_of_the_command_line(tiny_checkpoint, tmp_path):
    environment = os.environ | {"AUDITOR_CACHE": str(tmp_path / "cache")}
    found = []
    for number in range(2):
        command = [sys.executable, "-m", "auditor", "run", str(tiny_checkpoint), "-s", "confidence", "--limit", "4", "--cache", "--format", "json",
                   "--db", str(tmp_path / f"{number}.duckdb")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode in (0, 1, 4), done.stderr
        found.append((json.loads(done.stdout)["metrics"], done.stderr))
    assert found[0][0] == found[1][0]
    assert "came from the response cache" in found[1][1]
    assert "came from the response cache" not in found[0][1]


def test_a_cache_damaged_in_the_middle_of_a_run(model, tmp_path):
    cached = CachedModel(model, tmp_path / "r.sqlite")
    answered(cached, requests_of(1))
    for path in tmp_path.glob("r.sqlite*"):
        path.write_bytes(b"no database any more, and long enough to be seen as none" * 100)
    with pytest.raises(EngineError, match="cannot be read"):
        answered(cached, requests_of(1))
