"""A reward model from preferences: Bradley–Terry on the difference of two scalar scores.

Christiano et al. 2017 (arXiv 1706.03741, equation 1); head and initialisation of Stiennon et al. 2020 (arXiv 2009.01325); margin of
Touvron et al. 2023 (arXiv 2307.09288, equation 2); centring of Eisenstein et al. 2023 (arXiv 2312.09244). An ensemble is k heads,
aggregated as in Coste et al. 2024 (arXiv 2310.02743).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.functional import logsigmoid

from auditor.errors import InputError
from auditor.training.core.batch import Encoder
from auditor.training.core.config import Optimisation, check_from_0
from auditor.training.core.held_out import measure_scores
from auditor.training.core.loop import Task, fit
from auditor.training.core.noncontextual import addition_notes, context_notes, fitting_pairs, measure_context, probe_rows, with_noncontextual
from auditor.training.core.overlap import learned_from
from auditor.training.core.pairs import EncodedPair, encode_pairs, pair_batch, pair_length
from auditor.training.core.scoring import score_pairs, score_rows
from auditor.training.core.stage import Outcome, StageRun
from auditor.training.core.validation import unseen
from auditor.training.core.weights import save_reward, scalar_net
from auditor.training.data import data_hash, load_preferences, split


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Optimisation):
    """``data``: preference pairs, see docs/training_data.md; at most ``limit`` of them (0: all), a share ``held_out`` of the topics kept to measure on.

    ``heads`` scalar heads on one body; their scores become one by ``aggregate``: mean, min (the worst case), or mean − ``penalty`` · variance.
    ``centring`` weighs the squared sum of both scores, so that scores stay around 0. ``use_margins`` asks for a gap of the pair's margin.
    ``noncontextual`` more pairs are made of each: its better reply over a reply to another topic (Liu et al. 2024, arXiv 2409.13156), so that what is
    rewarded is an answer to the prompt, not a manner.
    """

    data: str = ""
    limit: int = 0
    held_out: float = 0.2
    noncontextual: int = 0
    heads: int = 1
    aggregate: Literal["mean", "min", "uncertainty"] = "mean"
    penalty: float = 1.0
    centring: float = 0.01
    use_margins: bool = True
    lr: float = 1e-5


def reward_loss(chosen_PK: torch.Tensor, rejected_PK: torch.Tensor, labels_P: torch.Tensor, margins_P: torch.Tensor,
                centring: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss (P,) of each pair, averaged over K heads.

    −log σ(r_w − r_l − m) for a hard label, both directions weighed by a soft one, plus ``centring`` · (r_w + r_l)². ``chosen_PK`` and
    ``rejected_PK`` are scores (P, K), ``labels_P`` the probability that chosen is better, ``margins_P`` the gap m ≥ 0 asked for.
    """
    gap, margin, label = chosen_PK - rejected_PK, margins_P[:, None], labels_P[:, None]
    losses = -label * logsigmoid(gap - margin) - (1 - label) * logsigmoid(-gap - margin)
    losses = losses + centring * (chosen_PK + rejected_PK) ** 2
    lean = gap * torch.sign(label - 0.5)
    right = ((lean > 0).float() + 0.5 * (lean == 0).float()).mean(-1)
    return losses.mean(-1), {"accuracy": right.sum(), "gap": gap.detach().mean(-1).sum(), "level": (chosen_PK + rejected_PK).detach().mean(-1).sum() / 2}


def check(config: Config, place: str) -> None:
    """Raise InputError where a setting cannot be right."""
    if config.heads < 1:
        raise InputError(f"{place}: heads is {config.heads}; pass at least 1")
    if not 0 < config.held_out < 1:
        raise InputError(f"{place}: held_out is {config.held_out}; pass a share between 0 and 1: a reward that was not measured may not be used")
    check_from_0(config, ("limit", "noncontextual", "penalty", "centring"), place)


def train(config: Config, run: StageRun) -> Outcome:
    """Train a reward model, measure it on held-out topics, and write ``model`` in the stage's folder.

    A policy that was itself trained on these pairs (dpo) is measured on what it has seen: its accuracy then counts for nothing.
    """
    check(config, f"stage {run.name!r}")
    source = run.find(config.data, "preferences")
    preferences = load_preferences(source, limit=config.limit or None, seed=run.seed)
    train_part, held_part = split(preferences, config.held_out, run.seed)
    start = run.find(config.model, "policy")
    engine = run.open(start)
    # A set that is only named in the lineage was held out alike by all methods but dpo, which learns from every pair.
    held_part, told = unseen(preferences, held_part, engine.spec, listed="dpo" in engine.spec.lineage.get("history", ()))
    encoder = Encoder(engine, config.max_length)
    shown = with_noncontextual(train_part, config.noncontextual, run.seed, f"stage {run.name!r}", fitting_pairs(encoder))
    pairs, held = encode_pairs(encoder, shown), encode_pairs(encoder, held_part)
    asked, probe = probe_rows(encoder, held_part, run.seed)
    net = scalar_net(engine, config, run.seed, config.heads)

    def loss(module: Any, rows: Sequence[EncodedPair]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        scores = module(pair_batch(rows, module))
        labels = torch.tensor([row.label for row in rows], device=scores.device)
        margins = torch.tensor([row.margin if config.use_margins else 0.0 for row in rows], device=scores.device)
        losses, statistics = reward_loss(scores[:len(rows)], scores[len(rows):], labels, margins, config.centring)
        return losses.sum(), statistics

    stepper = fit(Task(net=net, examples=pairs, loss=loss, length=pair_length), config, run)
    how = {"aggregate": config.aggregate, "penalty": config.penalty}
    measured = measure_scores(held, score_pairs(net, held, how, config.micro_tokens))
    measured |= measure_context(held_part, asked, score_rows(net, probe, how, config.micro_tokens))
    measured |= told
    target = run.folder / "model"
    if run.world.is_main:
        save_reward(engine, net, {**how, "measured": measured}, target)
    run.world.wait()
    return Outcome(kind="reward", path=target, steps=stepper.done, measured=measured, data_hashes={source: data_hash(preferences)},
                   data_sketches=(learned_from(preferences, train_part),),
                   notes=(*addition_notes(train_part, shown, config.noncontextual), *context_notes(measured)))
