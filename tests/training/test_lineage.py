"""Lineage: what shaped a checkpoint, and that it survives a move."""

from __future__ import annotations

import json

import pytest

from auditor.errors import InputError
from auditor.models.identity import weights_hash
from auditor.models.resolve import resolve
from auditor.training.core.journal import Silent
from auditor.training.core.validation import shown
from auditor.training.pipeline import Options, train
from auditor.training.recipe import read_recipe


class Told(Silent):
    """Keeps what a run says and which stages it enters."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def stage(self, name, steps, done):
        self.lines.append(name)


def test_a_moved_run_keeps_its_adapters_base_and_a_policys_data_include_its_rewards(tiny_checkpoint, tmp_path):
    demonstrations, pairs, prompts = (tmp_path / f"{name}.jsonl" for name in ("demonstrations", "pairs", "prompts"))
    demonstrations.write_text("".join(json.dumps({"prompt": f"Say {n}", "completion": f"{n}"}) + "\n" for n in range(6)))
    pairs.write_text("".join(json.dumps({"prompt": f"Item {n}?", "chosen": f"yes {n}", "rejected": "no no"}) + "\n" for n in range(12)))
    prompts.write_text("".join(json.dumps({"prompt": f"Ask {n}"}) + "\n" for n in range(4)))
    recipe = tmp_path / "three.toml"
    recipe.write_text(f'''
model = "{tiny_checkpoint}"
[[stage]]
method = "sft"
data = "{demonstrations}"
max_steps = 1
[[stage]]
method = "reward"
data = "{pairs}"
max_steps = 1
held_out = 0.3
[[stage]]
method = "ppo"
prompts = "{prompts}"
updates = 1
batch_size = 4
max_new_tokens = 4
normalise_on = 4
lora_rank = 2
allow_unvalidated_reward = true
''')
    with pytest.raises(InputError, match=r"reward 'model': accuracy .* held-out pairs.*, which is not above chance"):
        train(read_recipe(str(recipe), ["ppo.allow_unvalidated_reward=false"]), tmp_path / "refused")
    assert not (tmp_path / "refused" / "3-ppo" / "steps.jsonl").exists()
    told = Told()
    _, reward, _ = train(read_recipe(str(recipe)), tmp_path / "run", Options(reporter=told))
    # What was measured is said when its stage ends, before hours of PPO are spent on it.
    assert told.lines.index(f"reward: accuracy {shown(reward.measured)}") < next(k for k, line in enumerate(told.lines) if line.startswith("ppo"))
    lineage = json.loads((tmp_path / "run" / "3-ppo" / "model" / "auditor_lineage.json").read_text())
    assert set(lineage["data_hashes"]) == {str(demonstrations), str(pairs), str(prompts)}
    before = weights_hash(resolve(str(tmp_path / "run" / "3-ppo" / "model")))
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = resolve(str(tmp_path / "moved" / "3-ppo" / "model"))
    assert moved.folder.resolve() == (tmp_path / "moved" / "1-sft" / "model").resolve()
    assert weights_hash(moved) == before
