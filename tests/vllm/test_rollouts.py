"""PPO whose completions vLLM's own server writes: it draws from the adapter as it is, and says so exactly."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")

from auditor.errors import InputError, TrainingError
from auditor.schema import Request, user
from auditor.training import ppo
from auditor.training.core import rollout_server
from auditor.training.core.journal import read_steps
from auditor.training.core.rewards import Part
from auditor.training.core.rollout import Sampling, open_sampler
from auditor.training.core.stage import StageRun
from auditor.training.core.weights import policy_net
from auditor.training.core.world import World

# One update at this rate moves the policy by nats a completion: an adapter that stayed behind would show.
SETTINGS = {"model": "smollm2", "lora_rank": 4, "lr": 3e-3, "updates": 2, "batch_size": 4, "minibatch_size": 4, "ppo_epochs": 2, "max_new_tokens": 12,
            "normalise_on": 4, "entropy_floor": -1.0, "missing_eos_penalty": 1e-6, "reward": (Part(kind="even", raw=True),), "value": "shared"}


def even(episodes):
    return [sum(token % 2 == 0 for token in episode.row.completion) / len(episode.row.completion) for episode in episodes]


@pytest.fixture
def train(vllm_server, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("".join(
        json.dumps({"id": f"p{n}", "cluster_id": f"c{n}", "prompt": f"Name a colour that begins with {letter}."}) + "\n" for n, letter in enumerate("BGRY")))

    def start(**changes):
        config = ppo.Config(**(SETTINGS | {"prompts": str(tmp_path / "prompts.jsonl"), "rollout_server": vllm_server} | changes))
        outcome = ppo.train(config, StageRun(name="ppo", folder=tmp_path, world=World()), {"even": even})
        return outcome, read_steps(tmp_path / "steps.jsonl")

    return start


def test_every_update_draws_from_the_newest_weights(train, tmp_path):
    outcome, steps = train()
    for step in steps:
        assert 0 < step["mismatch/mean"] <= step["mismatch/max"] < 1e-3
        assert step["importance/weight"] == pytest.approx(1, abs=1e-3)
        assert step["importance/truncated"] == 0
    assert steps[1]["kl"] > 0.5
    assert outcome.notes[1].startswith("rollouts written by vLLM 0.")
    assert not (tmp_path / "rollout").exists()


def test_weights_that_stayed_behind_stop_the_run(train, monkeypatch, tmp_path):
    save, first = rollout_server.save_adapter, []

    def once(net, folder, kept=""):
        first.append(first[0] if first else save(net, folder, kept))
        return first[0]

    monkeypatch.setattr(rollout_server, "save_adapter", once)
    with pytest.raises(TrainingError, match="does not serve this policy"):
        train(max_new_tokens=6)
    assert [step["step"] for step in read_steps(tmp_path / "steps.jsonl")] == [1]


def test_a_temperature_that_is_not_in_the_log_probabilities(train):
    with pytest.raises(InputError, match="--logprobs-mode processed_logprobs"):
        train(temperature=0.7)


def test_what_ends_by_itself_ends_with_a_stop_token(vllm_server, tmp_path):
    config = ppo.Config(**(SETTINGS | {"rollout_server": vllm_server}))
    run = StageRun(name="ppo", folder=tmp_path, world=World())
    engine = run.open("smollm2")
    sampler = open_sampler(config, run, engine, policy_net(engine, config, 0), 100)
    ids = tuple(engine.prompt_ids(Request(kind="generate", messages=(user("Say only the word yes."),))))
    drawn = sampler([(f"row {n}", ids) for n in range(6)], Sampling(max_new_tokens=24), 0)
    ended = [row for row in drawn if row.completion[-1] in engine.stop_tokens]
    assert ended
    assert not [row for row in drawn if engine.stop_tokens & set(row.completion[:-1])]
    assert all(len(row.completion) == 24 for row in drawn if row not in ended)
    assert len({row.completion for row in drawn}) > 3
    again = sampler([(f"row {n}", ids) for n in (3, 1)], Sampling(max_new_tokens=24), 0)
    assert any(row.completion == drawn[n].completion for n, row in zip((3, 1), again, strict=True))  # one of them may flip by rounding
    sampler.close()
