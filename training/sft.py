"""Supervised fine-tuning: next-token cross-entropy on the completion alone (Ouyang et al. 2022, arXiv 2203.02155, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from auditor.errors import InputError
from auditor.training.core.batch import Encoded, Encoder, can_share, collate
from auditor.training.core.config import Optimisation, check_from_0
from auditor.training.core.loop import Task, fit
from auditor.training.core.stage import Outcome, StageRun
from auditor.training.core.weights import policy_net, save_policy
from auditor.training.data import data_hash, load_demonstrations, split


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Optimisation):
    """``data``: demonstrations, see docs/training_data.md; at most ``limit`` of them (0: all).

    A share ``held_out`` of the topics is left alone: those that a later stage of the same seed and share keeps to measure on. A reward model
    whose body has imitated the better replies of its held-out pairs would be measured on what it knows.
    """

    data: str = "shipped:demonstrations"
    limit: int = 0
    held_out: float = 0.0


def sft_loss(logprobs_BC: torch.Tensor, mask_BC: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Negative log-likelihood (B,) of each completion, summed over its tokens (end of sequence included), in nats.

    ``logprobs_BC`` (B, C) of the completion tokens, ``mask_BC`` (B, C) True at the real ones. Dividing the sum of the losses by the number
    of tokens gives the cross-entropy −(1/N) Σ log π(y_t | x, y_<t).
    """
    losses = -(logprobs_BC * mask_BC).sum(-1)
    return losses, {"perplexed": (logprobs_BC.exp() * mask_BC).sum()}


def check(config: Config, place: str) -> None:
    """Raise InputError where a setting cannot be right."""
    if not 0 <= config.held_out < 1:
        raise InputError(f"{place}: held_out is {config.held_out}; pass 0, or the share of topics to leave alone")
    check_from_0(config, ("limit",), place)


def train(config: Config, run: StageRun) -> Outcome:
    """Fine-tune the policy on demonstrations; writes ``model`` in the stage's folder."""
    start = run.find(config.model, "policy")
    engine = run.open(start)
    demonstrations = load_demonstrations(run.find(config.data, "demonstrations"), limit=config.limit or None, seed=run.seed)
    if config.held_out:
        demonstrations, _ = split(demonstrations, config.held_out, run.seed)
    encoder = Encoder(engine, config.max_length)
    examples = [encoder.pair(item.id, item.prompt, item.completion) for item in demonstrations]
    net = policy_net(engine, config, run.seed)
    share = can_share(engine.model.config)

    def loss(module: Any, rows: Sequence[Encoded]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        batch = collate(rows, engine.device, share=share)
        logprobs, _ = module(batch)
        losses, statistics = sft_loss(logprobs, batch.completion_mask)
        return losses.sum(), {"token_probability": statistics["perplexed"]}

    stepper = fit(Task(net=net, examples=examples, loss=loss, length=lambda row: row.length, weight=lambda row: float(len(row.completion))), config, run)
    target = run.folder / "model"
    if run.world.is_main:
        save_policy(engine, net, start, target)
    run.world.wait()
    return Outcome(kind="policy", path=target, steps=stepper.done, data_hashes={config.data: data_hash(demonstrations)})
