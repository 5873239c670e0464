"""The report's account of how a checkpoint was made."""

from __future__ import annotations

from auditor.reports.environment import lineage_facts

LINEAGE = {
    "history": ["sft", "reward", "ppo"], "recipe": "rlhf", "seed": 0, "steps": 20, "notes": ["value network: separate"],
    "parents": [{"uri": "out/1-sft/model", "weights_hash": "0123456789abcdef"}], "data_hashes": {"shipped:prompts": "fedcba9876543210"},
    "rewards": [{"name": "model", "kind": "model", "weight": 1.0, "uri": "out/2-reward/model", "weights_hash": "a" * 64}, {"name": "length", "weight": -0.5}],
    "judges": ["hf:example/judge"],
}


def test_every_part_is_told():
    facts = dict(lineage_facts(LINEAGE))
    assert facts["Training"] == "sft → reward → ppo"
    assert facts["Trained from"] == "out/1-sft/model (weights hash 0123456789ab)"
    assert facts["Training data"] == "shipped:prompts (sha256 fedcba987654)"
    assert facts["Rewards that shaped it"] == "model (weight 1, out/2-reward/model, weights hash aaaaaaaaaaaa); length (weight -0.5)"
    assert facts["Judges that shaped it"] == "hf:example/judge"
    assert facts["Steps of its last stage"] == "20"
    assert facts["Training seed"] == "0"


def test_a_model_that_was_not_trained_here_says_nothing():
    assert lineage_facts({}) == ()
