"""Proximal policy optimisation of a language model against a reward, on a KL leash.

Schulman et al. 2017 (arXiv 1707.06347), Ziegler et al. 2019 (arXiv 1909.08593), with the details of Huang et al. 2024
(arXiv 2403.17031). The policy and the reference start from the same weights; the value function is a network of its own that starts from
the reward model's body, or from the policy's where there is none; its head starts at zero.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from auditor.errors import InputError
from auditor.schema import sha256_json
from auditor.training.core.advantage import explained_variance, gae, masked_mean, token_rewards, whiten
from auditor.training.core.batch import Batch, Encoder, can_share, collate, micro_batches, order
from auditor.training.core.config import check_above_0, check_from_0
from auditor.training.core.guard import Guard
from auditor.training.core.importance import compare, weights_of
from auditor.training.core.loop import fingerprint, record, restore, save
from auditor.training.core.nets import PolicyNet, SharedNet
from auditor.training.core.on_policy import ActorCritic, Collector, Experience, Look, Pass, Reference, Rules, encoded_prompts
from auditor.training.core.optimise import Stepper
from auditor.training.core.rewards import ModelReward, Part, Reward, Scale, check_parts, described, open_rewards, refuse_unvalidated, reward_notes
from auditor.training.core.rollout import Rollouts, Sampler, Sampling, check_rollouts, open_sampler, warn_of_unfinished
from auditor.training.core.stage import Outcome, StageRun
from auditor.training.core.weights import policy_net, save_policy, scalar_net
from auditor.training.data import load_prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Rollouts):
    """``updates`` of ``batch_size`` completions of prompts from ``prompts``, each used for ``ppo_epochs`` passes in minibatches of ``minibatch_size``.

    ``reward``: components, see :class:`~auditor.training.core.rewards.Part`; a reward model that is not above chance on held-out pairs is
    refused unless ``allow_unvalidated_reward``. ``beta`` weighs the KL penalty, ``kl`` = adaptive moves it towards ``kl_target`` nats a
    sequence. A completion without end of sequence within ``max_new_tokens`` loses ``missing_eos_penalty`` (``missing_eos`` = subtract), or has
    its score replaced by its negative (replace). ``normalise_on`` samples of the starting policy set each component to mean 0, sd 1.
    ``value`` = shared puts the value head on the policy's own trunk: another algorithm. ``kl_limit`` (nats a sequence), ``entropy_floor`` (nats
    a token) and ``no_eos_limit`` (share of completions without an end; 1 never stops) stop a run that has come apart.
    """

    prompts: str = "shipped:prompts"
    limit: int = 0
    reward: tuple[Part, ...] = (Part(),)
    updates: int = 20
    minibatch_size: int = 16
    ppo_epochs: int = 4
    clip: float = 0.2
    value_clip: float = 0.2
    value_coefficient: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    beta: float = 0.05
    kl: Literal["fixed", "adaptive"] = "fixed"
    kl_target: float = 6.0
    kl_horizon: float = 10_000.0
    whiten_rewards: bool = False
    missing_eos: Literal["subtract", "replace"] = "subtract"
    missing_eos_penalty: float = 1.0
    normalise_on: int = 64
    value: Literal["separate", "shared"] = "separate"
    allow_unvalidated_reward: bool = False
    kl_limit: float = 100.0
    entropy_floor: float = 0.02
    no_eos_limit: float = 1.0
    lr: float = 1e-5
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    warmup: float = 0.0
    adam_eps: float = 1e-5
    save_every: int = 5


def policy_loss(logprobs_BC: torch.Tensor, old_BC: torch.Tensor, advantages_BC: torch.Tensor, mask_BC: torch.Tensor,
                clip: float, weights_BC: torch.Tensor | None = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Clipped surrogate, summed over real tokens: max(−A·ρ, −A·clip(ρ, 1 ± ε)) with ρ = exp(log π − log π_old) (Schulman et al. 2017, equation 7).

    ``weights_BC`` multiply the tokens' losses (:mod:`~auditor.training.core.importance`). Statistics are sums over the same tokens, unweighted:
    ``ratio``, ``clip_fraction`` (tokens whose clipped term rules), ``approx_kl`` ½(log π − log π_old)².
    """
    change = (logprobs_BC - old_BC) * mask_BC
    ratio = change.exp()
    free, clipped = -advantages_BC * ratio, -advantages_BC * ratio.clamp(1 - clip, 1 + clip)
    surrogate = torch.maximum(free, clipped)
    loss = ((surrogate if weights_BC is None else surrogate * weights_BC) * mask_BC).sum()
    return loss, {"ratio": (ratio.detach() * mask_BC).sum(), "clip_fraction": ((clipped > free) & mask_BC).float().sum(),
                  "approx_kl": 0.5 * (change.detach() ** 2).sum()}


def value_loss(values_BC: torch.Tensor, old_BC: torch.Tensor, returns_BC: torch.Tensor, mask_BC: torch.Tensor,
               clip: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """½·max((V − R)², (V_clipped − R)²), summed over real tokens, with V_clipped within ``clip`` of the value at sampling time."""
    clipped = torch.clamp(values_BC, old_BC - clip, old_BC + clip)
    free_error, clipped_error = (values_BC - returns_BC) ** 2, (clipped - returns_BC) ** 2
    loss = 0.5 * (torch.maximum(free_error, clipped_error) * mask_BC).sum()
    return loss, {"value_clip_fraction": ((clipped_error > free_error) & mask_BC).float().sum()}


def next_beta(beta: float, kl: float, target: float, horizon: float, episodes: int) -> float:
    """β·(1 + clip(KL/target − 1, ±0.2)·n/horizon) (Ziegler et al. 2019, section 2.2)."""
    return beta * (1 + min(max(kl / target - 1, -0.2), 0.2) * episodes / horizon)


def check(config: Config, place: str, known: Sequence[str] = ()) -> None:
    """Raise InputError where a setting cannot be right. ``known`` are callables that a part may name beside the built-in kinds."""
    check_rollouts(config, place)
    check_parts(config.reward, place, known)
    for name in ("epochs", "max_steps"):
        if getattr(config, name) != getattr(Config(), name):
            raise InputError(f"{place}: {name} has no effect here; set updates (batches of completions) and ppo_epochs (passes over each)")
    check_from_0(config, ("beta", "missing_eos_penalty", "value_coefficient", "kl_limit", "no_eos_limit", "limit"), place)
    check_above_0(config, ("updates", "minibatch_size", "ppo_epochs", "clip", "value_clip", "kl_target", "kl_horizon", "normalise_on"), place)
    for name in ("gamma", "lam"):
        if not 0 < getattr(config, name) <= 1:
            raise InputError(f"{place}: {name} is {getattr(config, name)}; pass a number above 0, at most 1")


def train(config: Config, run: StageRun, rewards: Mapping[str, Reward] | None = None) -> Outcome:
    """Train the policy against the reward; writes ``model`` in the stage's folder. ``rewards`` are callables that a part may name.

    Raises InputError for a reward model that was not shown above chance, TrainingError where training goes wrong.
    """
    check(config, f"stage {run.name!r}", list(rewards or {}))
    start = run.find(config.model, "policy")
    engine = run.open(start)
    prompts = encoded_prompts(load_prompts(config.prompts, limit=config.limit or None, seed=run.seed), Encoder(engine, config.max_length),
                              config.max_new_tokens)
    opened = open_rewards(config.reward, run, rewards or {})
    if not config.allow_unvalidated_reward:
        refuse_unvalidated(opened, f"stage {run.name!r}")
    policy = policy_net(engine, config, run.seed)
    sampler = open_sampler(config, run, engine, policy, max(len(tokens) for _, _, tokens in prompts) + config.max_new_tokens)
    reference = Reference(policy, run.world)
    net, origin = _with_value(config, run, (engine, policy), opened)
    stepper = Stepper(net, config, config.updates * config.ppo_epochs * math.ceil(config.batch_size / config.minibatch_size), run.world)
    rules = Rules(sampling=Sampling(temperature=config.temperature, max_new_tokens=config.max_new_tokens), parts=config.reward,
                  missing_eos=config.missing_eos, penalty=config.missing_eos_penalty, budget=config.micro_tokens, seed=run.seed, stage=run.name)
    collector = Collector(engine, prompts, opened, rules, stepper)
    _updates(config, run, Actors(stepper=stepper, reference=reference, collector=collector, sampler=sampler))
    sampler.close()
    target = run.folder / "model"
    if run.world.is_main:
        save_policy(engine, policy, start, target)
    run.world.wait()
    hashes = {config.prompts: sha256_json([[name, messages] for name, messages, _ in prompts])}
    written = [f"rollouts written by {sampler.source}"] if sampler.source else []
    notes = (f"value network: {config.value}, starts from {origin}", *written, *reward_notes(opened))
    return Outcome(kind="policy", path=target, steps=config.updates, data_hashes=hashes, rewards=described(config.reward, opened),
                   measured={"value_starts_from": origin}, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actors:
    """Who takes part: the stepper over policy and value, the frozen reference, the collector of experience, and the sampler."""

    stepper: Stepper
    reference: Reference
    collector: Collector
    sampler: Sampler


def _with_value(config: Config, run: StageRun, who: tuple[Any, PolicyNet], rewards: Mapping[str, Reward]) -> tuple[nn.Module, str]:
    engine, policy = who
    if config.value == "shared":
        return SharedNet(policy.model), "a zero head on the policy's own trunk"
    optimised = [rewards[part.label] for part in config.reward if part.weight]  # of one that is only logged, nothing may reach the policy
    model = next((reward for reward in optimised if isinstance(reward, ModelReward)), None)
    # The value reads the policy's tokens: a reward model with another vocabulary cannot lend its body.
    alike = model is not None and model.engine.tokenizer.get_vocab() == engine.tokenizer.get_vocab() and can_share(model.engine.model.config) == can_share(
        policy.lm.config)
    source = model.uri if model is not None and alike else run.find(config.model, "policy")
    value = scalar_net(run.open(source), config, run.seed + 1, zero=True)
    return ActorCritic(policy, value), ("the reward model's body with a zero head" if alike else "the policy's body with a zero head")


def _updates(config: Config, run: StageRun, actors: Actors) -> None:
    """All updates, from the newest checkpoint on where the run resumes."""
    guard = Guard(run.name, config.on_divergence, {"kl": (-math.inf, config.kl_limit), "entropy": (config.entropy_floor, math.inf),
                                                   "no_eos": (0.0, config.no_eos_limit)})
    data = fingerprint(actors.collector.prompts)
    first, beta, losses = _restore(config, run, actors, data)
    guard.losses.extend(losses)
    run.reporter.stage(run.name, config.updates, first)
    warned = False
    for update in range(first, config.updates):
        started = time.perf_counter()
        with actors.stepper.whole(), actors.reference.whole():
            experience = actors.collector.collect(update, config.batch_size, actors.sampler, _looker(config, actors))
        apart = compare(config, run.name, experience)
        values = _update(config, run, actors, (experience, beta, update))
        values |= {**apart, "tokens_per_second": sum(row.length for row in experience.rows) / (time.perf_counter() - started)}
        record(run, update + 1, values)
        warned = warned or warn_of_unfinished(config, run, f"the completions of update {update + 1}", values["no_eos"])
        guard.check(update + 1, values)
        if config.kl == "adaptive" and math.isfinite(values["kl"]):
            beta = next_beta(beta, values["kl"], config.kl_target, config.kl_horizon, len(experience.rows))
        if (update + 1) % config.save_every == 0 and update + 1 < config.updates:
            scaling = {name: [how.mean, how.sd] for name, how in actors.collector.how.items()}
            save(actors.stepper, config, run, update + 1, {"beta": beta, "scales": scaling, "data": data, "losses": list(guard.losses)})
    actors.stepper.finish()
    run.reporter.finished(run.name)


def _restore(config: Config, run: StageRun, actors: Actors, data: str) -> tuple[int, float, Sequence[float]]:
    """(updates behind, β, the last losses) of the newest checkpoint where the run resumes, else of a start, which scales the reward's components."""
    first, state = restore(actors.stepper, config, run, data)
    if state:
        actors.collector.how = {name: Scale(mean=mean, sd=sd) for name, (mean, sd) in state["scales"].items()}
        return first, float(state["beta"]), state.get("losses", ())
    with actors.stepper.whole():
        unfinished = actors.collector.normalise(actors.sampler, config.normalise_on)
    warn_of_unfinished(config, run, "the starting policy's completions", unfinished)
    return 0, config.beta, ()


def _looker(config: Config, actors: Actors) -> Look:
    # Where the first step takes all rows at once, its forward pass is this one, weight for weight: it need not be computed twice.
    alike = config.minibatch_size >= config.batch_size and actors.stepper.net is actors.stepper.plain

    def look(batch: Batch, whole: bool) -> tuple[torch.Tensor, ...]:
        with torch.set_grad_enabled(alike and whole), actors.stepper.computing():
            logprobs, values, entropies = actors.stepper.plain(batch, config.temperature, True)
            return logprobs, values, actors.reference.logprobs(batch, config.temperature), entropies

    return look


def _update(config: Config, run: StageRun, actors: Actors, given: tuple[Experience, float, int]) -> dict[str, float]:
    """All epochs over one batch of experience; returns the update's statistics."""
    experience, beta, update = given
    mask = experience.mask
    rewards = token_rewards(experience.scores, experience.old, experience.reference, mask, beta)
    if config.whiten_rewards:
        rewards = whiten(rewards, mask, keep_mean=True)
    advantages, returns = gae(rewards, experience.values, mask, config.gamma, config.lam)
    whitened, weights = whiten(advantages, mask), weights_of(config, experience)
    began = time.perf_counter()
    sums: dict[str, float] = {}
    norms: list[float] = []
    tokens = 0
    for epoch in range(config.ppo_epochs):
        shuffled = order(len(experience.rows), run.seed, (update << 8) + epoch + 1)
        for start in range(0, len(shuffled), config.minibatch_size):
            chosen = shuffled[start:start + config.minibatch_size]
            first = experience.first if epoch == 0 and len(chosen) == len(experience.rows) else None
            found, norm, count = _minibatch(config, actors.stepper, experience, (chosen, whitened, returns, weights), first)
            norms.append(norm)
            tokens += count
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value
                if epoch == 0 and start == 0:
                    sums[f"first/{name}"] = value / count
    difference = (experience.old - experience.reference) * mask
    means = {name: value if name.startswith("first/") else value / tokens for name, value in sums.items()}
    largest = max(norms) if all(math.isfinite(norm) for norm in norms) else math.nan
    return {**experience.statistics, **means, "gradient_norm": largest, "lr": actors.stepper.lr, "beta": beta,
            "kl": float(difference.sum(-1).mean()), "kl_k3": float(masked_mean(torch.expm1(-difference) + difference, mask)),
            "entropy": float(masked_mean(experience.entropy, mask)), "explained_variance": explained_variance(experience.values, returns, mask),
            "advantage": float(masked_mean(advantages, mask)), "seconds_update": time.perf_counter() - began}


def _minibatch(config: Config, stepper: Stepper, experience: Experience,
               given: tuple[Sequence[int], torch.Tensor, torch.Tensor, torch.Tensor | None], first: Pass | None = None) -> tuple[dict[str, float], float, int]:
    """One optimiser step on the rows ``chosen``: its statistics summed over tokens, the gradient's norm, and the number of tokens.

    ``first`` is the forward pass over these rows, where it has been made.
    """
    chosen, advantages, returns, weights = given
    count = int(experience.mask[chosen].sum())
    sums: dict[str, float] = {}

    def compute(places: Sequence[int], share: float) -> torch.Tensor:
        if first is None:
            batch = collate([experience.rows[place] for place in places], advantages.device, share=experience.share)
            logprobs, predicted, _ = stepper.net(batch, config.temperature, False)
        else:
            logprobs, predicted = first.logprobs, first.values
        old, values, gains, targets, mask = (part[list(places), :logprobs.shape[1]] for part in (
            experience.old, experience.values, advantages, returns, experience.mask))
        weighed = None if weights is None else weights[list(places), :logprobs.shape[1]]
        loss, statistics = policy_loss(logprobs, old, gains, mask, config.clip, weighed)
        fit, more = value_loss(predicted, values, targets, mask, config.value_clip)
        total = loss + config.value_coefficient * fit
        for name, value in {"loss": total, "policy_loss": loss, "value_loss": fit, **statistics, **more}.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) * share
        return total * share / count

    cut = micro_batches(stepper.world.share(chosen), lambda place: experience.rows[place].length, config.micro_tokens) if first is None else [first.places]
    groups = stepper.world.in_step(cut, chosen[:1])
    stepper.accumulate([lambda group=group: compute(*group) for group in groups])
    norm = stepper.step()
    return stepper.world.total(sums), norm, count
