"""Recipes: names, changes, and what may differ on resume."""

from __future__ import annotations

import pytest

from auditor.errors import InputError, UnknownNameError
from auditor.training.core.overlap import learned_from, shared
from auditor.training.data import load_preferences
from auditor.training.recipe import method, methods, read_recipe, shipped


def test_every_method_has_a_config_and_a_train_function_and_every_recipe_reads():
    for name in methods():
        assert callable(method(name).train)
        assert method(name).Config()
    assert {"rlhf", "rlaif", "d-rlaif", "constitutional", "dpo", "organism-verbose", "organism-sycophant"} <= set(shipped())
    assert all(read_recipe(name).stages for name in shipped())


def test_the_recipe_of_over_optimisation_logs_a_gold_reward_of_other_topics():
    """What the policy is optimised for shares no topic, and no pair, with what says what that is worth; neither reads through the policy's own training."""
    stages = {stage.name: stage.config for stage in read_recipe("overoptimization").stages}
    parts = {part.label: part for part in stages["ppo"].reward}
    assert {name: (part.uri, part.weight) for name, part in parts.items()} == {"proxy": ("stage:proxy", 1.0), "gold": ("stage:gold", 0.0)}
    gold, proxy = (load_preferences(stages[name].data) for name in ("gold", "proxy"))
    assert not {item.cluster_id for item in gold} & {item.cluster_id for item in proxy}
    assert shared(gold, [learned_from(proxy, proxy)]) == ([], True)
    assert len(gold) + len(proxy) == len(load_preferences("shipped:preferences"))
    assert stages["gold"].model == stages["proxy"].model == read_recipe("overoptimization").model


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\0b", "x" * 65])
def test_a_stage_name_is_no_path(tmp_path, name):
    path = tmp_path / "r.toml"
    path.write_text(f"[[stage]]\nmethod = \"sft\"\nname = {name!r}\n".replace("'", '"').replace("\\x00", "\\u0000"))
    if name:
        with pytest.raises(InputError, match="no name for a stage"):
            read_recipe(str(path))
    else:
        assert read_recipe(str(path)).stages[0].name == "sft"


@pytest.mark.parametrize(("change", "message"), [
    ("dpo.lr=inf", "finite number"), ("seed=9223372036854775808", "below 2"), ("seed=-1", "whole number"), ("dpo.epochs=0.0", "above 0"),
    ("dpo.lora_alpha=0.0", "above 0"), ("dpo", "write key=value"), ("stage=5", "no stages")])
def test_a_change_that_cannot_be_right_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        read_recipe("dpo", [change])


def test_the_nearest_stage_and_key_are_named():
    with pytest.raises(UnknownNameError, match="did you mean 'dpo'"):
        read_recipe("dpo", ["dop.lr=1e-4"])
    with pytest.raises(UnknownNameError, match="did you mean 'lora_rank'"):
        read_recipe("dpo", ["dpo.lora_rnk=4"])
    with pytest.raises(UnknownNameError, match="did you mean 'rlhf'"):
        read_recipe("rlfh")


@pytest.mark.parametrize(("change", "message"), [
    ("sft.held_out=1.0", "sft': held_out is 1.0"), ("reward.held_out=0.0", "held_out is 0.0; pass a share"), ("reward.heads=0", "heads is 0"),
    ("reward.centring=-5.0", "centring is -5.0"), ("reward.limit=-1", "limit is -1"), ("reward.model=stage:nope", "earlier stage in stage 'reward': model"),
    ("sft.data=stage:reward", "earlier stage in stage 'sft': data"), ("ppo.max_steps=3", "set updates"), ("ppo.missing_eos_penalty=-3.0", "penalty is -3.0"),
    ('ppo.reward=[{kind="lenght"}]', "unknown reward kind 'lenght'"), ('ppo.reward=[{kind="pattern"}]', "has no pattern"),
    ("ppo.prompts=stage:sft", "prompts is 'stage:sft'; pass a file"), ('ppo.reward=[{uri="stage:none"}]', "earlier stage in stage 'ppo': uri")])
def test_what_a_later_stage_would_refuse_is_refused_before_the_first_has_trained(change, message):
    with pytest.raises(InputError, match=message):
        read_recipe("rlhf", [change])
    assert read_recipe("rlhf", ["ppo.model=stage:sft", 'ppo.reward=[{uri="stage:reward"}]'])
    assert read_recipe("rlhf", ['ppo.reward=[{kind="pattern", name="stage:x", pattern="stage:[0-9]"}]'])  # a text is no stage


def test_what_moves_no_weight_may_change_on_resume():
    plain = read_recipe("rlhf")
    assert read_recipe("rlhf", ["ppo.on_divergence=continue", "ppo.save_every=1", "ppo.keep=9"]).hash == plain.hash
    assert read_recipe("rlhf", ["ppo.beta=0.1"]).hash != plain.hash


def test_a_recipes_dtype_is_that_of_every_stage_that_names_none():
    changed = read_recipe("rlaif", ["dtype=bfloat16", "ppo.dtype=float32"])
    found = {stage.name: getattr(stage.config, "dtype", None) for stage in changed.stages}
    assert found == {"labeller": "bfloat16", "sft": "bfloat16", "rlaif": None, "reward": "bfloat16", "ppo": "float32"}
    assert read_recipe("rlaif", ["dtype=float32"]).hash == read_recipe("rlaif").hash != changed.hash


@pytest.mark.parametrize("value", ["half", "5", "[1]", "", "true", "{a = 1}"])
def test_a_recipes_dtype_is_one_that_training_knows(value):
    with pytest.raises(InputError, match=r"recipe 'rlhf': dtype is .*; pass one of float32, bfloat16"):
        read_recipe("rlhf", [f"dtype={value}"])
