"""Completions drawn by another program than the trainer: how far its probabilities are from the trainer's, and the correction for it.

Two implementations of one network round differently, so what a server draws is off-policy by a little. The correction is truncated importance
sampling by token (Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training",
https://fengyao.notion.site/off-policy-rl; truncation as in Espeholt et al. 2018, arXiv 1802.01561, section 4.1): the policy's loss at a token is
weighed by min(π_trainer/π_sampler, cap), both at the time of sampling. The ratio of the whole beginning is not corrected for, nor is the value's loss.

Dimensions: N completions, C tokens of the longest.
"""

from __future__ import annotations

import torch

from auditor.errors import TrainingError
from auditor.training.core.advantage import masked_mean
from auditor.training.core.on_policy import Experience
from auditor.training.core.rollout import Rollouts


def importance_weights(trainer_NC: torch.Tensor, sampler_NC: torch.Tensor, mask_NC: torch.Tensor, cap: float) -> torch.Tensor:
    """min(exp(log π_trainer − log π_sampler), cap) at real tokens, 1 elsewhere; no gradient flows through it."""
    return ((trainer_NC - sampler_NC) * mask_NC).detach().exp().clamp(max=cap)


def mismatch(trainer_NC: torch.Tensor, sampler_NC: torch.Tensor, mask_NC: torch.Tensor) -> dict[str, float]:
    """How far apart the log-probabilities of drawn tokens are, in nats: mean and largest absolute difference, and an estimate of
    KL(sampler ‖ trainer) a token: the mean of ρ − 1 − log ρ with ρ = π_trainer/π_sampler (Schulman 2020, "Approximating KL divergence", k3)."""
    change = (trainer_NC - sampler_NC) * mask_NC
    return {"mismatch/mean": float(masked_mean(change.abs(), mask_NC)), "mismatch/max": float(change.abs().max()),
            "mismatch/kl_k3": float(masked_mean(torch.expm1(change) - change, mask_NC))}


def weights_of(config: Rollouts, experience: Experience) -> torch.Tensor | None:
    """The weights (N, C) that the configuration asks for; None where the trainer drew the completions itself, or none are asked for."""
    if experience.sampler is None or config.importance == "none":
        return None
    return importance_weights(experience.old, experience.sampler, experience.mask, config.importance_cap)


def compare(config: Rollouts, place: str, experience: Experience) -> dict[str, float]:
    """Statistics of the mismatch and of the weights; {} where the trainer drew the completions itself.

    Raises TrainingError where the mean is above ``mismatch_limit``, or not a number: then it is not the same network.
    """
    if experience.sampler is None:
        return {}
    found = mismatch(experience.old, experience.sampler, experience.mask)
    if not found["mismatch/mean"] <= config.mismatch_limit:
        raise TrainingError(
            f"stage {place!r} stopped: the log-probabilities of the rollout server's tokens are {found['mismatch/mean']:.3g} nats from the trainer's in the "
            f"mean (at most {found['mismatch/max']:.3g}), more than mismatch_limit = {config.mismatch_limit:g}. It does not serve this policy: serve the "
            "weights that the stage starts from, in its dtype and without quantisation, or raise mismatch_limit. The last good checkpoint stays")
    weights = weights_of(config, experience)
    if weights is None:
        return {**found, "importance/weight": 1.0, "importance/truncated": 0.0}
    ratio = ((experience.old - experience.sampler) * experience.mask).exp()
    return {**found, "importance/weight": float(masked_mean(weights, experience.mask)),
            "importance/truncated": float(masked_mean((ratio > config.importance_cap).float(), experience.mask))}
