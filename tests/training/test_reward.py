"""The reward stage: what is measured on held-out pairs, and when that counts for nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from auditor.models.identity import LINEAGE
from auditor.schema import user
from auditor.training.core.batch import Encoded, Encoder, collate
from auditor.training.core.held_out import above_chance, measure_scores
from auditor.training.core.pairs import EncodedPair
from auditor.training.core.scoring import aggregate, score_rows
from auditor.training.core.stage import StageRun
from auditor.training.core.weights import scalar_net
from auditor.training.core.world import World
from auditor.training.data import data_hash, load_preferences
from auditor.training.reward import Config, train


@pytest.fixture
def pairs(tmp_path):
    rows = [{"id": f"p{n}", "cluster_id": f"c{n}", "prompt": f"Ask {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(12)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("history", "seen"), [(["sft"], False), (["sft", "reward", "ppo"], False), (["sft", "dpo"], True), (["dpo", "sft"], True)])
def test_a_body_that_learned_from_the_pairs_is_not_measured_on_them(own_checkpoint, pairs, tmp_path, history, seen):
    lineage = {"method": history[-1], "history": history, "data_hashes": {pairs: data_hash(load_preferences(pairs))}}
    (own_checkpoint / LINEAGE).write_text(json.dumps(lineage), encoding="utf-8")
    run = StageRun(name="reward", folder=tmp_path, world=World(), inputs={"policy": str(own_checkpoint)})
    measured = train(Config(data=pairs, max_steps=1, batch_size=2, held_out=0.4), run).measured
    assert measured.get("seen_in_training", False) is seen
    if seen:
        assert not above_chance(measured | {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 90}})


def test_accuracy_by_the_people_s_margin():
    """Nine pairs of margins 1 to 9, of which the three with the smallest are judged wrongly; without margins there is nothing to bin by."""
    def pair(n, margin):
        return EncodedPair(id=str(n), cluster=str(n), chosen=Encoded(id="a", prompt=(1,), completion=(2, 3)),
                           rejected=Encoded(id="b", prompt=(1,), completion=(4,)), margin=margin)

    scores = np.array([[0.0, 2.0 + n] if n < 3 else [1.0, 0.0] for n in range(9)])
    measured = measure_scores([pair(n, 1.0 + n) for n in range(9)], scores)
    assert [third["value"] for third in measured["accuracy_by_gold_margin"]] == [0.0, 1.0, 1.0]
    assert measured["accuracy_by_margin"][-1]["value"] == 0.0  # the widest predicted gaps are the wrong ones
    assert "accuracy_by_gold_margin" not in measure_scores([pair(n, 0.0) for n in range(9)], scores)


@pytest.mark.parametrize("how", [{"aggregate": "min"}, {"aggregate": "mean"}, {"aggregate": "uncertainty", "penalty": 3.0}])
def test_rows_are_scored_by_the_aggregate_of_all_heads_whatever_their_batch(tiny_checkpoint, tmp_path, how):
    engine = StageRun(name="reward", folder=tmp_path, world=World()).open(str(tiny_checkpoint))
    net = scalar_net(engine, Config(), 0, 3)
    with torch.no_grad():
        net.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    rows = [Encoder(engine, 512).pair(str(n), [user(f"Ask {n}?")], "word " * (n + 1)) for n in range(5)]
    with torch.no_grad():
        expected = [float(aggregate(net(collate([row])), how["aggregate"], how.get("penalty", 1.0))) for row in rows]
    assert score_rows(net, rows, how, 64) == pytest.approx(expected, abs=1e-4)
    assert np.ptp(expected) > 0.01
