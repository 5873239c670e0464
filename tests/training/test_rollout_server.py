"""PPO whose completions a server writes: the same network there and here, the correction where it is not, and what a server can do wrong."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from auditor.errors import InputError, TrainingError
from auditor.models.endpoint_errors import Failure
from auditor.training import ppo
from auditor.training.core.journal import read_steps
from auditor.training.core.rewards import Part
from auditor.training.core.rollout_server import ServerSampler, has_temperature, read_completion
from auditor.training.core.stage import StageRun
from auditor.training.core.world import World

PLACE = Path(__file__).with_name("rollout_server.py")
spec = importlib.util.spec_from_file_location("training_rollout_server", PLACE)
served = importlib.util.module_from_spec(spec)
sys.modules["training_rollout_server"] = served
spec.loader.exec_module(served)

SETTINGS = {"lora_rank": 4, "updates": 2, "batch_size": 4, "minibatch_size": 4, "ppo_epochs": 2, "max_new_tokens": 8, "normalise_on": 4, "lr": 1e-2,
            "entropy_floor": -1.0, "missing_eos_penalty": 1e-6, "reward": (Part(kind="even", raw=True),), "max_length": 256, "save_every": 1}
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in ("AUDITOR_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def serve(tiny_checkpoint):
    started = []

    def start(folder=tiny_checkpoint, port=0, **state):
        started.append(served.RolloutServer(folder, port, **state).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def train(tmp_path, tiny_checkpoint):
    """Trains in ``tmp_path``; returns the outcome and the steps."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"id": f"p{n}", "cluster_id": f"c{n}", "prompt": f"fox {n} " * (1 + n % 3)}) + "\n" for n in range(6)))

    def even(episodes):
        return [sum(token % 2 == 0 for token in episode.row.completion) / len(episode.row.completion) for episode in episodes]

    def start(server, name="run", resume=False, after=None, **changes):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        config = ppo.Config(**(SETTINGS | {"prompts": str(prompts), "model": str(tiny_checkpoint), "rollout_server": server and server.url} | changes))
        outcome = ppo.train(config, StageRun(name="ppo", folder=folder, world=World(), resume=resume, after_step=after), {"even": even})
        return outcome, read_steps(folder / "steps.jsonl")

    start.folder = tmp_path / "run"
    return start


# -- a server that serves the policy -------------------------------------------------------------------------------------------


def test_the_server_writes_from_the_newest_weights(serve, train):
    server = serve()
    outcome, steps = train(server)
    for step in steps:
        assert 0 <= step["mismatch/mean"] <= step["mismatch/max"] < 1e-4
        assert step["importance/weight"] == pytest.approx(1, abs=1e-4)
        assert step["importance/truncated"] == 0
        assert step["first/ratio"] == pytest.approx(1, abs=1e-5)
    assert steps[1]["kl"] > 0.5  # without the second adapter the mismatch would have been of this size
    assert outcome.notes[1] == f"rollouts written by vLLM 0.test at {server.url}"
    assert len(server.state.loads) == len(set(server.state.loads)) == 2  # the starting policy's serves normalising and the first update
    assert server.adapters == {}
    assert not (train.folder / "rollout").exists()


def test_what_is_asked(serve, train):
    server = serve()
    train(server)
    for body in server.state.bodies:
        assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)
        assert (body["presence_penalty"], body["frequency_penalty"], body["temperature"]) == (0.0, 0.0, 1.0)
        assert body["return_token_ids"] is body["ignore_eos"] is True
        assert body["stop_token_ids"] == [0]
        assert all(type(token) is int for token in body["prompt"][0])
    assert len({body["seed"] for body in server.state.bodies}) == len(server.state.bodies) == 12


def test_draws_are_keyed_by_sample(serve, train):
    first, again = serve(), serve()
    train(first, "a", updates=1)
    train(again, "b", updates=1)
    assert sorted((body["seed"], body["prompt"]) for body in first.state.bodies) == sorted((body["seed"], body["prompt"]) for body in again.state.bodies)


def test_the_built_in_decoder_knows_nothing_of_it(train):
    outcome, steps = train(None, rollout_server="")
    assert not [name for step in steps for name in step if name.startswith(("mismatch", "importance"))]
    assert len(outcome.notes) == 1


def test_another_temperature_needs_its_log_probabilities(serve, train):
    with pytest.raises(InputError, match=r"temperature = 0\.7: .*--logprobs-mode processed_logprobs"):
        train(serve(), temperature=0.7)
    _, steps = train(serve(processed=True), temperature=0.7)
    assert steps[1]["mismatch/max"] < 1e-4


@pytest.mark.parametrize(("drawn", "has"), [
    ({"a": -1.0, "b": -2.0}, False), ({"a": -0.5, "b": -2.5}, True), ({"a": -0.5, "b": -2.4}, True), ({"a": -1.0, "c": -2.0}, False), ({"c": -1.0}, False)])
def test_the_temperature_shows_in_differences_or_not_at_all(drawn, has):
    assert has_temperature({"a": -1.0, "b": -2.0}, drawn, 0.5) is has


def test_truncation_doubles_the_loss_of_a_server_that_is_thrice_as_sure(serve, train):
    """Log-probabilities that are too low by log 3 make every ratio 3, cut at 2; the draws are the same."""
    given = {"mismatch_limit": 5.0, "updates": 1}
    (_, (weighed,)), (_, (plain,)) = (train(serve(shift=-math.log(3)), how, importance=how, **given) for how in ("truncate", "none"))
    assert weighed["mismatch/mean"] == pytest.approx(math.log(3), abs=1e-4)
    assert (weighed["importance/weight"], weighed["importance/truncated"]) == (2.0, 1.0)
    assert (plain["importance/weight"], plain["importance/truncated"]) == (1.0, 0.0)
    assert plain["first/policy_loss"] != 0
    assert weighed["first/policy_loss"] == pytest.approx(2 * plain["first/policy_loss"], rel=1e-5)
    assert weighed["first/value_loss"] == pytest.approx(plain["first/value_loss"], rel=1e-5)


# -- a server that does not ----------------------------------------------------------------------------------------------------


def test_old_weights_stop_the_run_before_they_are_trained_on(serve, train):
    with pytest.raises(TrainingError, match="does not serve this policy"):
        train(serve(without=frozenset({"reloading"})), lr=3e-2)
    assert [step["step"] for step in read_steps(train.folder / "steps.jsonl")] == [1]
    assert (train.folder / "checkpoints" / "step-000001").is_dir()


def test_another_base_model_stops_the_run(serve, train, own_checkpoint):
    from safetensors.torch import load_file, save_file

    place = own_checkpoint / "model.safetensors"
    save_file({name: tensor * 0.5 for name, tensor in load_file(place).items()}, place, metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"nats from the trainer's .* mismatch_limit = 0\.1"):
        train(serve(own_checkpoint))
    assert not (train.folder / "steps.jsonl").exists()


@pytest.mark.parametrize(("state", "words"), [
    ({"without": frozenset({"runtime"})}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True .* --enable-lora --max-lora-rank 4"),
    ({"without": frozenset({"lora"})}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True .* --enable-lora --max-lora-rank 4"),
    ({"rank": 2}, "start it with --max-lora-rank 4"), ({"context": 16}, "--max-model-len"), ({"key": KEY}, "set AUDITOR_API_KEY")])
def test_a_server_that_lacks_something_says_what_to_pass(serve, train, state, words):
    with pytest.raises(InputError, match=words):
        train(serve(**state))


def test_a_server_that_does_not_see_the_folder(serve, train, monkeypatch):
    server = serve()
    monkeypatch.setattr(server, "load", lambda name, path: served.RolloutServer.load(server, name, path / "elsewhere"))
    with pytest.raises(InputError, match="share the file system"):
        train(server)


def test_nobody_there_and_no_api(serve, train):
    with pytest.raises(InputError, match="no server answers at .*; is it started"):
        train(None, rollout_server="http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match="no OpenAI-compatible API"):
        train(None, rollout_server=serve().url.replace("/v1", ""))


def test_a_key_goes_to_the_server_and_nowhere_else(serve, train, monkeypatch):
    monkeypatch.setenv("AUDITOR_API_KEY", KEY)
    train(serve(key=KEY))
    assert not [path for path in train.folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    monkeypatch.setenv("AUDITOR_API_KEY", KEY + "x")
    with pytest.raises(InputError, match="does not accept the key") as caught:
        train(serve(key=KEY), "other")
    assert KEY not in str(caught.value)


def test_without_the_client(train, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"alignment-auditor\[openai\]"):
        train(None, rollout_server="http://127.0.0.1:8000/v1")


# -- faults --------------------------------------------------------------------------------------------------------------------


def test_faults_are_survived_and_change_nothing(serve, train):
    _, clean = train(serve(), "clean")
    server = serve(script=deque(["reset", "503", "429", "", "forget", "500"]))
    _, found = train(server, "faulty")
    assert not server.state.script
    assert len(server.state.loads) == 3  # it had forgotten the adapter once
    losses = [[step["loss"] for step in steps] for steps in (clean, found)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_server_that_dies_keeps_the_checkpoint_and_the_run_goes_on(serve, train, monkeypatch):
    monkeypatch.setattr("auditor.models.endpoint_pool.MAX_BACKOFF", 0.1)
    server = serve()
    with pytest.raises(TrainingError, match=r"no connection.*go on with --resume"):
        train(server, after=lambda step: server.stop(), updates=3)
    assert (train.folder / "checkpoints" / "step-000001").is_dir()
    outcome, steps = train(serve(port=server.port), resume=True, updates=3)
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert max(step["mismatch/max"] for step in steps) < 1e-4
    assert (outcome.path / "adapter_model.safetensors").is_file()


def test_a_server_without_token_ids(serve, train):
    with pytest.raises(TrainingError, match=r"version 0\.10\.2"):
        train(serve(without=frozenset({"token_ids"})))


def reply(tokens, values, reason, **more):
    return {"choices": [{"index": 0, "token_ids": tokens, "logprobs": {"token_logprobs": values}, "finish_reason": reason, **more}]}


@pytest.mark.parametrize("found", [
    {"choices": []}, reply([], [], "length"), reply([5, 6], [-1.0], "length"), reply([5, 6, 7], [-1.0] * 3, "length"), reply([5], [-1.0], "length"),
    reply([5, 6], [-1.0, 0.5], "length"), reply([5, 6], [-1.0, None], "length"), reply([5, 6], [-1.0, math.nan], "length"), reply([5], [-1.0], "stop"),
    reply([5, 0], [-1.0] * 2, "length"), reply([0, 5], [-1.0] * 2, "length"), reply([5, 6], [-1.0] * 2, "abort"), reply([5, "6"], [-1.0] * 2, "length"),
    reply([5, 6], [-1.0] * 2, "length", prompt_token_ids=[1, 1, 2, 3])])
def test_what_is_no_whole_completion_is_not_taken_for_one(found):
    with pytest.raises(Failure):
        read_completion(found, (1, 2, 3), 2, frozenset({0}))


def test_a_whole_completion():
    assert read_completion(reply([5, 6], [-1.0, 1e-7], "length"), (1, 2), 2, frozenset({0})) == ((5, 6), (-1.0, 0.0))
    assert read_completion(reply([5, 0], [-1.0, -2.0], "stop", prompt_token_ids=[1, 2]), (1, 2), 2, frozenset({0})) == ((5, 0), (-1.0, -2.0))


@pytest.mark.parametrize("problem", [InputError("no such folder"), TrainingError("not loaded"), Failure("down", "gone"), None])
def test_every_process_learns_what_one_met_while_drawing(problem):
    """Also that the server, started anew, did not load the adapter again: without it the others would wait for this one."""
    told = []

    class Sampler(ServerSampler):
        def __init__(self):
            self.url, self.run = "http://server", SimpleNamespace(world=SimpleNamespace(agree=told.append))

        def _publish(self):
            return "adapter"

        def _draw_all(self, name, prompts, how, done):
            return None

        def _await(self, work):
            if problem is not None:
                raise problem

    assert Sampler()([], None, 0) == []
    assert [type(error) for error in told] == [type(None) if problem is None else TrainingError]


@pytest.mark.parametrize("problem", [InputError("gives log-probabilities before the temperature"), None])
def test_every_process_learns_what_one_met_while_opening(problem):
    told = []

    class Sampler(ServerSampler):
        def __init__(self):
            self.run = SimpleNamespace(world=SimpleNamespace(agree=told.append))

        def _await(self, work):
            if problem is not None:
                raise problem
            return work

    assert Sampler()._agreed("vLLM") == (None if problem else "vLLM")
    assert told == [problem]
