"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290): a preference loss on the policy itself, without a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from auditor.training.core.batch import Encoder
from auditor.training.core.config import Optimisation, check_above_0, check_from_0
from auditor.training.core.loop import Task, fit
from auditor.training.core.overlap import learned_from
from auditor.training.core.pairs import EncodedPair, encode_pairs, pair_length, pair_logprobs, reference_logprobs
from auditor.training.core.stage import Outcome, StageRun
from auditor.training.core.weights import policy_net, save_policy
from auditor.training.data import data_hash, load_preferences


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Optimisation):
    """``data``: preference pairs, see docs/training_data.md; at most ``limit`` of them (0: all). ``beta``: strength of the tie to the start."""

    data: str = "shipped:preferences"
    limit: int = 0
    beta: float = 0.1
    lr: float = 5e-6


def dpo_loss(policy_2B: tuple[torch.Tensor, torch.Tensor], reference_2B: tuple[torch.Tensor, torch.Tensor], labels_B: torch.Tensor,
             beta: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss (B,) of each pair.

    ``policy_2B`` and ``reference_2B`` hold the summed log-probabilities (B,) of the chosen and of the rejected completions; ``labels_B`` the
    probability that chosen is better. With h = (log π(w) − log π(l)) − (log π_ref(w) − log π_ref(l)) a hard label gives −log σ(βh)
    (equation 7); a soft one weighs both directions, which for 1 − ε is cDPO (Mitchell 2023).
    """
    h = (policy_2B[0] - policy_2B[1]) - (reference_2B[0] - reference_2B[1])
    losses = -labels_B * logsigmoid(beta * h) - (1 - labels_B) * logsigmoid(-beta * h)
    chosen, rejected = (beta * (policy - reference).detach() for policy, reference in zip(policy_2B, reference_2B, strict=True))
    lean = h * torch.sign(labels_B - 0.5)
    return losses, {"accuracy": (lean > 0).float().sum() + 0.5 * (lean == 0).float().sum(), "reward_chosen": chosen.sum(),
                    "reward_rejected": rejected.sum(), "margin": (chosen - rejected).sum()}


def check(config: Config, place: str) -> None:
    """Raise InputError where a setting cannot be right."""
    check_above_0(config, ("beta",), place)
    check_from_0(config, ("limit",), place)


def train(config: Config, run: StageRun) -> Outcome:
    """Train the policy on preference pairs; writes ``model`` in the stage's folder."""
    check(config, f"stage {run.name!r}")
    start = run.find(config.model, "policy")
    engine = run.open(start)
    preferences = load_preferences(run.find(config.data, "preferences"), limit=config.limit or None, seed=run.seed)
    pairs = encode_pairs(Encoder(engine, config.max_length), preferences)
    net = policy_net(engine, config, run.seed)
    run.reporter.say(f"{run.name}: log-probabilities of the reference on {len(pairs)} pairs")
    reference = reference_logprobs(net.to(run.world.device), pairs, config.micro_tokens, bfloat16=config.dtype == "bfloat16")

    def loss(module: Any, rows: Sequence[EncodedPair]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        chosen, rejected = pair_logprobs(module, rows)
        fixed = torch.tensor([reference[row.id] for row in rows], device=chosen.device)
        labels = torch.tensor([row.label for row in rows], device=chosen.device)
        losses, statistics = dpo_loss((chosen, rejected), (fixed[:, 0], fixed[:, 1]), labels, config.beta)
        return losses.sum(), statistics

    stepper = fit(Task(net=net, examples=pairs, loss=loss, length=pair_length), config, run)
    target = run.folder / "model"
    if run.world.is_main:
        save_policy(engine, net, start, target)
    run.world.wait()
    return Outcome(kind="policy", path=target, steps=stepper.done, data_hashes={config.data: data_hash(preferences)},
                   data_sketches=(learned_from(preferences, preferences),))
