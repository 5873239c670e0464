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
from auditor.training import labeller, planning
from auditor.training.core import nets
from auditor.training.core.batch import Encoded, Encoder, collate
from auditor.training.core.nets import PolicyNet
from auditor.training.core.rollout import EngineSampler
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


@pytest.mark.parametrize("lines", [('method = "sft"', "batch_size = 4", "epochs = 2.0"), ('method = "dpo"', "batch_size = 4", "micro_tokens = 64"),
                                   ('method = "reward"', "batch_size = 3", "max_steps = 2", "held_out = 0.4"),
                                   ('method = "reward"', "batch_size = 3", "noncontextual = 2", "held_out = 0.4")])
def test_steps_and_tokens_are_those_of_the_training(recipe_of, tmp_path, monkeypatch, lines):
    """Every token that a network reads in training is counted, where it reads it: what rows begin with alike once, padding too."""
    recipe = recipe_of(*lines, 'data = "' + str(tmp_path / "pairs.jsonl") + '"')
    (planned,) = plan(recipe)
    counted = []
    monkeypatch.setattr(nets, "read", lambda lm, batch, read=nets.read: (counted.append(batch.tokens), read(lm, batch))[1])
    (outcome,) = train(recipe, tmp_path / "out")
    assert (planned.examples, planned.topics, planned.steps, planned.tokens) == (10, 5, outcome.steps, sum(counted))


def test_a_labellers_steps_and_tokens_are_those_of_its_questions(recipe_of, tmp_path, monkeypatch):
    """Each pair is asked about twice where a principle speaks to its kind; what is asked of held-out pairs is counted roughly."""
    rows = [{"id": f"p{n}", "cluster_id": f"c{n // 2}", "kind": "length", "prompt": f"Say {n}.", "chosen": f"{n} it is.", "rejected": "No."} for n in range(10)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    recipe = recipe_of('method = "labeller"', 'ask = "rating"', "batch_size = 4", "measure_before = false", "noncontextual = 1",
                       'constitution = "shipped:constitution"', 'data = "' + str(tmp_path / "pairs.jsonl") + '"')
    (planned,) = plan(recipe)
    counted = []
    monkeypatch.setattr(labeller.OptionNet, "forward", lambda net, batch, tokens, run=labeller.OptionNet.forward: (counted.append(batch.tokens),
                                                                                                                 run(net, batch, tokens))[1])
    (outcome,) = train(recipe, tmp_path / "out")
    assert planned.steps == outcome.steps == -(-4 * outcome.measured["trained_on"] // 4)
    assert sum(counted) < planned.tokens < 2 * sum(counted)


def test_memory_counts_every_place_that_a_common_beginning_has_in_attention(monkeypatch, tiny_checkpoint):
    sizes = planning.Sizes(str(tiny_checkpoint))
    rows = [[(Encoded(id=str(end), prompt=tuple(range(5, 45)), completion=(end,)),) for end in range(8)]]
    work = planning._work(rows, 10_000, sizes)
    assert work.tokens == 48
    monkeypatch.setattr(sizes, "attended", 0)
    assert planning._work(rows, 10_000, sizes).largest[0] == 48
    # Four query heads and two key heads of 12 numbers: a query and its result, a key and its value, four bytes each, at 8 · 41 − 48 further places.
    assert (work.largest[0] - 48) * planning.ACTIVATION * 48 == pytest.approx(4 * (2 * 4 + 2 * 2) * 12 * (8 * 41 - 48), rel=0.02)


def test_a_model_that_does_not_share_beginnings_reads_more(recipe_of, tmp_path, monkeypatch):
    recipe = recipe_of('method = "dpo"', 'data = "' + str(tmp_path / "pairs.jsonl") + '"')
    shared = plan(recipe)[0]
    monkeypatch.setattr(planning, "can_share", lambda config: False)
    alone = plan(recipe)[0]
    assert shared.tokens < 0.8 * alone.tokens
    assert shared.flops < alone.flops


@pytest.mark.parametrize("cut", [("minibatch_size = 5", "micro_tokens = 128"), ("minibatch_size = 12", "micro_tokens = 1024")])
def test_the_looks_and_passes_of_ppo_are_those_of_the_training(recipe_of, tmp_path, monkeypatch, cut):
    """Without an end of sequence all completions have their full length, as the plan takes them."""
    recipe = recipe_of('method = "ppo"', 'prompts = "' + str(tmp_path / "pairs.jsonl") + '"', "updates = 2", "batch_size = 12", *cut,
                       "ppo_epochs = 2", "max_new_tokens = 6", "normalise_on = 4", "entropy_floor = 0.0",
                       "[[stage.reward]]", 'kind = "length"')
    (planned,) = plan(recipe)
    counted, written = [], []
    monkeypatch.setattr(nets, "read", lambda lm, batch, read=nets.read: (counted.append(batch.tokens), read(lm, batch))[1])
    monkeypatch.setattr(EngineSampler, "__call__", lambda self, *given, write=EngineSampler.__call__: (written.extend(rows := write(self, *given)), rows)[1])
    train(recipe, tmp_path / "out")
    assert {len(row.completion) for row in written} == {6}
    assert planned.tokens == pytest.approx(sum(counted) + sum(row.length for row in written), rel=0.02)  # prompts are taken at their mean length in sampling


def test_a_held_out_part_trains_nothing(recipe_of, tmp_path):
    data = 'data = "' + str(tmp_path / "pairs.jsonl") + '"'
    whole, held = (plan(recipe_of(f'method = "{method}"', data, "batch_size = 1"))[0] for method in ("dpo", "reward"))
    assert whole.steps == 10
    assert held.steps is not None
    assert 0 < held.steps < 10
    some, left = (plan(recipe_of('method = "sft"', data, "batch_size = 1", f"held_out = {share}"))[0] for share in (0.0, 0.4))
    assert 0 < left.steps < some.steps == 10
    assert left.tokens == pytest.approx(some.tokens * left.steps / 10, rel=0.1)  # what is held out is not looked at either


def test_adapters_cost_less_and_long_prompts_are_refused(recipe_of, tmp_path):
    data = 'prompts = "' + str(tmp_path / "pairs.jsonl") + '"'
    full, adapted = (plan(recipe_of('method = "ppo"', data, f"lora_rank = {rank}"))[0] for rank in (0, 4))
    assert adapted.flops < full.flops
    assert adapted.bytes < full.bytes
    with pytest.raises(InputError, match="max_new_tokens = 600"):
        plan(recipe_of('method = "ppo"', data, "max_new_tokens = 600"))
