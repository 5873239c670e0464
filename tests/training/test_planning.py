"""The plan of a dry run against what training then does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from auditor.errors import InputError
from auditor.models.resolve import EngineOptions, open_model
from auditor.schema import user
from auditor.training.core.batch import Encoder, collate
from auditor.training.core.nets import PolicyNet
from auditor.training.pipeline import train
from auditor.training.planning import Sizes, plan
from auditor.training.recipe import read_recipe


@pytest.fixture
def recipe_of(tmp_path: Path, tiny_checkpoint: Path):
    rows = [{"id": f"p{n}", "cluster_id": f"c{n // 2}", "prompt": f"Say {n}.", "chosen": f"{n} it is.", "rejected": "No."} for n in range(10)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")

    def write(*stage: str):
        (tmp_path / "own.toml").write_text("\n".join([f'model = "{tiny_checkpoint}"', "[[stage]]", *stage]))
        return read_recipe(str(tmp_path / "own.toml"))

    return write


def test_the_sizes_are_those_of_the_loaded_model(tiny_checkpoint):
    sizes = Sizes(str(tiny_checkpoint))
    engine = open_model(str(tiny_checkpoint), EngineOptions(pack=False))
    assert sizes.weights == sum(parameter.numel() for parameter in engine.model.parameters())
    assert sizes.context == engine.context
    rows = [Encoder(kind, 512).pair("x", [user("How many?")], "Three of them.") for kind in (sizes, engine)]
    assert rows[0] == rows[1]


def test_operations_of_a_forward_pass(tiny_checkpoint):
    """Counted by torch, attention's products included, which the plan leaves out."""
    sizes = Sizes(str(tiny_checkpoint))
    engine = open_model(str(tiny_checkpoint), EngineOptions(pack=False))
    rows = [Encoder(engine, 512).pair(str(n), [user("How many?")], "Three of them. " * 3) for n in range(4)]
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        PolicyNet(engine.model)(collate(rows))
    expected = sizes.forward(sum(row.length for row in rows), sum(len(row.completion) for row in rows))
    assert expected <= counter.get_total_flops() <= 1.35 * expected


def test_steps_and_tokens_are_those_of_the_training(recipe_of, tmp_path):
    recipe = recipe_of('method = "sft"', 'data = "' + str(tmp_path / "pairs.jsonl") + '"', "batch_size = 4", "epochs = 2.0")
    (planned,) = plan(recipe)
    (outcome,) = train(recipe, tmp_path / "out")
    engine = open_model(recipe.model, EngineOptions(pack=False))
    once = sum(Encoder(engine, 1024).pair("x", [user(f"Say {n}.")], f"{n} it is.").length for n in range(10))
    assert (planned.examples, planned.topics, planned.steps, planned.tokens) == (10, 5, outcome.steps, 2 * once)


def test_a_held_out_part_trains_nothing(recipe_of, tmp_path):
    data = 'data = "' + str(tmp_path / "pairs.jsonl") + '"'
    whole, held = (plan(recipe_of(f'method = "{method}"', data, "batch_size = 1"))[0] for method in ("dpo", "reward"))
    assert whole.steps == 10
    assert held.steps is not None
    assert 0 < held.steps < 10


def test_adapters_cost_less_and_long_prompts_are_refused(recipe_of, tmp_path):
    data = 'prompts = "' + str(tmp_path / "pairs.jsonl") + '"'
    full, adapted = (plan(recipe_of('method = "ppo"', data, f"lora_rank = {rank}"))[0] for rank in (0, 4))
    assert adapted.flops < full.flops
    assert adapted.bytes < full.bytes
    with pytest.raises(InputError, match="max_new_tokens = 600"):
        plan(recipe_of('method = "ppo"', data, "max_new_tokens = 600"))
