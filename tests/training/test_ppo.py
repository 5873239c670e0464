"""PPO on a tiny random model with a reward that can be checked: it learns, holds to its leash, and resumes."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from auditor.errors import InputError, TrainingError
from auditor.models.processor import bfloat16
from auditor.training import ppo
from auditor.training.core import nets, rewards, rollout
from auditor.training.core.batch import Encoded
from auditor.training.core.config import Optimisation
from auditor.training.core.guard import Guard
from auditor.training.core.journal import Silent, read_steps
from auditor.training.core.rewards import Episode, Part, Scale, combine
from auditor.training.core.stage import StageRun
from auditor.training.core.weights import save_reward, scalar_net
from auditor.training.core.world import World
from auditor.training.recipe import read_recipe

BASE = {"limit": 32, "max_new_tokens": 8, "normalise_on": 64, "batch_size": 32, "minibatch_size": 32, "missing_eos_penalty": 1e-6,
        "reward": (Part(kind="even", raw=True),), "lr": 1e-2, "adam_eps": 1e-5, "entropy_floor": -1.0, "max_length": 256}

needs_bfloat16 = pytest.mark.skipif(bfloat16() == "none", reason="this processor has no bfloat16 arithmetic")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{i}", "cluster_id": f"c{i}", "prompt": f"fox {i} " * (1 + i % 4)}) + "\n" for i in range(32)))
    return str(path)


def even(episodes):
    """Share of the completion's tokens with an even id: checkable, about one half by chance, one at best."""
    return [sum(token % 2 == 0 for token in episode.row.completion) / len(episode.row.completion) for episode in episodes]


class Heard(Silent):
    """A reporter that keeps what is said."""

    def __init__(self):
        self.texts = []

    def say(self, text):
        self.texts.append(text)


def train(folder, model, prompts, seed=0, rewards=None, resume=False, after=None, reporter=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    config = ppo.Config(**(BASE | {"prompts": prompts, "model": str(model)} | changes))
    run = StageRun(name="ppo", folder=folder, world=World(), seed=seed, resume=resume, after_step=after, reporter=reporter or Silent())
    outcome = ppo.train(config, run, rewards or {"even": even})
    return outcome, read_steps(folder / "steps.jsonl")


@pytest.mark.parametrize("seed", range(5))
def test_reaches_near_the_optimum(tiny_checkpoint, tmp_path, prompts, seed):
    _, steps = train(tmp_path, tiny_checkpoint, prompts, seed=seed, updates=35, beta=0.0)
    first, last = steps[0]["reward/even"], sum(step["reward/even"] for step in steps[-3:]) / 3
    assert 0.3 < first < 0.7
    assert last > 0.95


def test_a_stronger_leash_stays_nearer(tiny_checkpoint, tmp_path, prompts):
    loose = train(tmp_path / "loose", tiny_checkpoint, prompts, updates=12, beta=0.0, lr=3e-3)[1]
    tight = train(tmp_path / "tight", tiny_checkpoint, prompts, updates=12, beta=1.0, lr=3e-3)[1]
    assert tight[-1]["kl"] < 0.8 * loose[-1]["kl"]
    assert sum(step["reward/even"] for step in loose[-4:]) > sum(step["reward/even"] for step in tight[-4:])


@pytest.mark.parametrize("changes", [{}, {"value": "shared"}, {"lora_rank": 4}, {"whiten_rewards": True, "kl": "adaptive"},
                                     {"minibatch_size": 8, "micro_tokens": 100}])
def test_before_the_first_step_nothing_has_moved(tiny_checkpoint, tmp_path, prompts, changes):
    """The oracle of methods.md: in the first epoch the ratio is 1, nothing is clipped, the value loss is that of the sampling time."""
    _, steps = train(tmp_path, tiny_checkpoint, prompts, updates=2, **changes)
    for step in steps:
        assert step["first/ratio"] == pytest.approx(1, abs=1e-5)
        assert step["first/approx_kl"] == pytest.approx(0, abs=1e-8)
        assert step["first/clip_fraction"] == 0
        assert step["first/value_clip_fraction"] == 0
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert steps[1]["kl_k3"] > 0
    assert steps[0]["approx_kl"] > steps[0]["first/approx_kl"]


@pytest.mark.parametrize("changes", [{}, {"value": "shared"}, {"lora_rank": 4}, {"lora_rank": 4, "gradient_checkpointing": True},
                                     pytest.param({"dtype": "bfloat16"}, marks=needs_bfloat16)])
def test_the_first_step_on_all_rows_takes_the_pass_that_looked_at_them(tiny_checkpoint, tmp_path, prompts, monkeypatch, changes):
    """At a low rate: where weights move far, a difference of rounding becomes another token in the next update's completions once in many tries."""
    changes = {"lr": 1e-4} | changes
    passes = []
    forward = nets._token_logprobs
    monkeypatch.setattr(nets, "_token_logprobs", lambda *given: passes.append(given) or forward(*given))
    once = train(tmp_path / "once", tiny_checkpoint, prompts, updates=3, ppo_epochs=2, **changes)[1]
    fewer = len(passes)
    looker = ppo._looker
    monkeypatch.setattr(ppo, "_looker", lambda *given: lambda batch, whole: looker(*given)(batch, False))
    twice = train(tmp_path / "twice", tiny_checkpoint, prompts, updates=3, ppo_epochs=2, **changes)[1]
    assert len(passes) - fewer == fewer + 3  # one more for each update
    for mine, theirs in zip(once, twice, strict=True):
        for name in ("loss", "policy_loss", "value_loss", "approx_kl", "kl", "gradient_norm", "reward/even"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("changes", [{"minibatch_size": 16}, {"micro_tokens": 600}, {"rewards": {"even": lambda episodes: [None, *even(episodes)[1:]]}}])
def test_the_pass_is_not_kept_where_the_first_step_needs_another(tiny_checkpoint, tmp_path, prompts, monkeypatch, changes):
    """Several minibatches, several micro-batches of training, or rows that the reward cannot score."""
    looks, kept = [], []
    looker, update = ppo._looker, ppo._update
    monkeypatch.setattr(ppo, "_looker", lambda *given: lambda *batch: looks.append(looker(*given)(*batch)) or looks[-1])
    monkeypatch.setattr(ppo, "_update", lambda config, run, actors, given: kept.append(given[0].first) or update(config, run, actors, given))
    train(tmp_path, tiny_checkpoint, prompts, updates=2, **changes)
    assert kept == [None, None]
    assert any(parts[0].requires_grad for parts in looks) == ("rewards" in changes)


@needs_bfloat16
def test_in_bfloat16_completions_are_written_in_it_and_rewards_are_not(tiny_checkpoint, tmp_path, prompts, monkeypatch):
    written, judged = [], []
    decode = rollout.decode
    monkeypatch.setattr(rollout, "decode", lambda *given: written.append(torch.is_autocast_enabled("cpu")) or decode(*given))

    def reward(episodes):
        judged.append(torch.is_autocast_enabled("cpu"))
        return even(episodes)

    _, steps = train(tmp_path, tiny_checkpoint, prompts, updates=12, beta=0.0, dtype="bfloat16", rewards={"even": reward})
    assert len(written) == len(judged) == 13  # once for the scale
    assert all(written)
    assert not any(judged)
    assert steps[-1]["reward/even"] > steps[0]["reward/even"] + 0.1
    assert all(step["first/ratio"] == pytest.approx(1, abs=1e-5) for step in steps)


def test_resumes_to_the_same_losses(tiny_checkpoint, tmp_path, prompts):
    settings = {"updates": 6, "save_every": 2, "kl": "adaptive", "beta": 0.1}
    whole = train(tmp_path / "whole", tiny_checkpoint, prompts, **settings)[1]

    def stop(step):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", tiny_checkpoint, prompts, after=stop, **settings)
    again = train(tmp_path / "cut", tiny_checkpoint, prompts, resume=True, **settings)[1]
    timeless = [{key: value for key, value in step.items() if "second" not in key} for step in again]
    assert timeless == [{key: value for key, value in step.items() if "second" not in key} for step in whole]


def test_every_component_is_logged_and_what_cannot_be_scored_is_left_out(tiny_checkpoint, tmp_path, prompts):
    def unsure(episodes):
        return [None if index % 4 == 0 else float(len(episode.text)) for index, episode in enumerate(episodes)]

    parts = (Part(kind="even", weight=2.0), Part(kind="unsure", weight=0.5), Part(kind="length", raw=True, weight=0.01))
    outcome, steps = train(tmp_path, tiny_checkpoint, prompts, updates=2, reward=parts, rewards={"even": even, "unsure": unsure})
    assert {"reward/even", "reward/unsure", "reward/length", "reward", "score"} <= set(steps[0])
    assert steps[0]["unscored"] == 8
    assert [reward["name"] for reward in outcome.rewards] == ["even", "unsure", "length"]


def test_a_component_of_weight_0_is_logged_and_decides_nothing(tiny_checkpoint, tmp_path, prompts):
    """Neither its value nor its silence changes the reward that is optimised."""
    def gold(episodes):
        return [None if index % 4 == 0 else 1.0 for index in range(len(episodes))]

    alone = train(tmp_path / "alone", tiny_checkpoint, prompts, updates=2)[1]
    beside = train(tmp_path / "beside", tiny_checkpoint, prompts, updates=2, rewards={"even": even, "gold": gold},
                   reward=(Part(kind="even", raw=True), Part(kind="gold", weight=0.0)))[1]
    assert [step["reward/gold"] for step in beside] == [1.0, 1.0]
    assert [(step["unscored"], step["loss"]) for step in beside] == [(0, step["loss"]) for step in alone]


@pytest.mark.parametrize(("reward", "message"), [
    (lambda episodes: [float("nan")] * len(episodes), "returned nan"), (lambda episodes: [1.0], "returned 1 scores for"),
    (lambda episodes: [None] * len(episodes), "could not score any")])
def test_a_reward_that_cannot_be_used_stops_the_run(tiny_checkpoint, tmp_path, prompts, reward, message):
    with pytest.raises(TrainingError, match=message):
        train(tmp_path, tiny_checkpoint, prompts, updates=1, rewards={"even": reward})


@pytest.mark.parametrize(("changes", "message"), [
    ({"reward": (Part(kind="nonsense"),)}, "unknown reward kind 'nonsense'"), ({"reward": ()}, "has no reward"),
    ({"reward": (Part(kind="pattern", pattern="("),)}, "no regular expression"), ({"reward": (Part(kind="pattern"),)}, "has no pattern"),
    ({"max_steps": 3}, "max_steps has no effect here; set updates"), ({"epochs": 2.0}, "epochs has no effect"), ({"kl_limit": -1.0}, "kl_limit is -1"),
    ({"temperature": 0.0}, "temperature is 0.0"),
    ({"max_new_tokens": 400}, "exceeds 256"), ({"reward": (Part(),)}, "needs a reward")])
def test_bad_settings_say_what_to_do(tiny_checkpoint, tmp_path, prompts, changes, message):
    with pytest.raises(InputError, match=message):
        train(tmp_path, tiny_checkpoint, prompts, updates=1, **changes)


@pytest.mark.parametrize(("how", "unfinished"), [("subtract", 1 - 2.0), ("replace", -2.0)])
def test_missing_end_costs_the_penalty_or_replaces_the_score(tiny_checkpoint, tmp_path, prompts, how, unfinished):
    """Every completion is worth 1; one without an end is worth 1 − penalty, or −penalty."""
    _, (step,) = train(tmp_path, tiny_checkpoint, prompts, updates=1, missing_eos=how, missing_eos_penalty=2.0,
                       reward=(Part(kind="one", raw=True),), rewards={"one": lambda episodes: [1.0] * len(episodes)})
    assert step["no_eos"] > 0
    assert step["score"] == pytest.approx(1 - step["no_eos"] + unfinished * step["no_eos"], rel=1e-5)


def test_completions_without_an_end_are_spoken_of_and_may_stop_the_run(tiny_checkpoint, tmp_path, prompts):
    said = Heard()
    _, steps = train(tmp_path / "goes", tiny_checkpoint, prompts, updates=2, reporter=said)
    assert steps[0]["no_eos"] > 0.3
    told = [text for text in said.texts if "do not end within 8 tokens" in text]
    assert len(told) == 2  # once of the start, once of the updates
    assert "of the starting policy's completions" in told[0]
    assert "of the completions of update 1" in told[1]
    with pytest.raises(TrainingError, match=r"no_eos is .*, outside 0 to 0.2"):
        train(tmp_path / "stops", tiny_checkpoint, prompts, updates=2, no_eos_limit=0.2)


def test_the_value_network_never_starts_from_a_reward_that_is_only_logged(tiny_checkpoint, tmp_path, prompts):
    """A gold reward model listed first, at weight 0, leaves the losses those of the proxy alone."""
    models = {}
    for name, seed in (("gold", 5), ("proxy", 6)):
        run = StageRun(name="reward", folder=tmp_path / name, world=World())
        run.folder.mkdir()
        engine = run.open(str(tiny_checkpoint))
        net = scalar_net(engine, Optimisation(), seed)
        with torch.no_grad():
            next(net.parameters()).add_(0.1 * seed)
        save_reward(engine, net, {"measured": {}}, tmp_path / name / "model")
        models[name] = str(tmp_path / name / "model")
    proxy, gold = Part(uri=models["proxy"], name="proxy"), Part(uri=models["gold"], name="gold", weight=0.0)
    common = {"updates": 1, "allow_unvalidated_reward": True, "value_coefficient": 1.0}
    alone = train(tmp_path / "alone", tiny_checkpoint, prompts, reward=(proxy,), **common)[1]
    beside = train(tmp_path / "beside", tiny_checkpoint, prompts, reward=(gold, proxy), **common)[1]
    swapped = train(tmp_path / "swapped", tiny_checkpoint, prompts, reward=(dataclasses.replace(gold, weight=1.0), dataclasses.replace(proxy, weight=0.0)),
                    **common)[1]
    assert [step["value_loss"] for step in beside] == [step["value_loss"] for step in alone]
    assert swapped[0]["value_loss"] != alone[0]["value_loss"]


def test_a_run_that_was_stopped_stops_again_when_it_is_resumed(tiny_checkpoint, tmp_path, prompts, monkeypatch):
    """The guard's memory of past losses is in the checkpoint: going on in the same way does not slip past what stopped the run."""
    plain = Guard._problem
    seen = []

    def counting(self, values):
        seen.append(len(self.losses))
        return plain(self, values)

    monkeypatch.setattr(Guard, "_problem", counting)

    def stop(step):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, tiny_checkpoint, prompts, after=stop, updates=6, save_every=2)
    train(tmp_path, tiny_checkpoint, prompts, resume=True, updates=6, save_every=2)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_a_verifier_that_fails_caps_the_total():
    parts = (Part(name="style"), Part(kind="pattern", name="right", pattern="4", weight=0.5, cap=-1.0, raw=True))
    scored = {"style": [3.0, 3.0, -5.0, 3.0], "right": [1.0, 0.0, 0.0, None]}
    how = {"style": Scale(), "right": Scale()}
    # 3 + ½; 3 + 0, capped at −1; −5, which is below the cap already; unknown.
    assert combine(parts, scored, how) == [3.5, -1.0, -5.0, None]
    silent = (parts[0], dataclasses.replace(parts[1], weight=0.0))
    assert combine(silent, scored, how) == [3.0, -1.0, -5.0, None]


def test_a_pattern_is_found_or_not_or_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(rewards, "LONGEST_SEARCH", 0.2)
    run = StageRun(name="ppo", folder=tmp_path, world=World(), seed=0)
    reward = rewards.open_rewards((Part(kind="pattern", pattern=r"^(a|aa)+$"),), run, {})["pattern"]
    texts = ("aaaa", "b", "a" * 200 + "b")  # the last one would take such an expression longer than the world is old
    assert reward([Episode(messages=(), row=Encoded(id=text, prompt=(), completion=()), text=text) for text in texts]) == [1.0, 0.0, None]


def test_a_recipe_may_cap(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('[[stage]]\nmethod = "ppo"\n[[stage.reward]]\nkind = "model"\n[[stage.reward]]\nkind = "pattern"\npattern = "4"\ncap = -1\n')
    assert read_recipe(str(path)).stages[0].config.reward[1].cap == -1.0
