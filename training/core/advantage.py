"""Advantages of policy-gradient methods, on padded (B, C) tensors with a mask of the real tokens.

Every statistic leaves padding out.
"""

from __future__ import annotations

import torch


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the values where the mask is True."""
    return (values * mask).sum() / mask.sum()


def whiten(values: torch.Tensor, mask: torch.Tensor, *, keep_mean: bool = False) -> torch.Tensor:
    """Values at mean 0 and variance 1 over the mask (the unbiased variance), 0 elsewhere; ``keep_mean`` leaves the mean where it was.

    A single real token has no variance: it becomes 0 (or stays, with its mean).
    """
    mean = masked_mean(values, mask)
    count = mask.sum()
    variance = masked_mean((values - mean) ** 2, mask) * count / (count - 1).clamp_min(1)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened + mean if keep_mean else whitened) * mask


def token_rewards(scores_B: torch.Tensor, logprobs_BC: torch.Tensor, reference_BC: torch.Tensor, mask_BC: torch.Tensor, beta: float) -> torch.Tensor:
    """Rewards (B, C): −β(log π − log π_ref) at each token, and the score at the last real one (Ziegler et al. 2019, arXiv 1909.08593, equation 2)."""
    rewards = -beta * (logprobs_BC - reference_BC) * mask_BC
    last = mask_BC.sum(-1) - 1
    rewards[torch.arange(len(rewards), device=rewards.device), last] += scores_B
    return rewards


def gae(rewards_BC: torch.Tensor, values_BC: torch.Tensor, mask_BC: torch.Tensor, gamma: float, lam: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns, both (B, C) and 0 at padding (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    δ_t = r_t + γV_{t+1} − V_t with V = 0 after the last token; A_t = δ_t + γλA_{t+1}; returns A + V, before any whitening.
    """
    rewards, values, mask = rewards_BC * mask_BC, values_BC * mask_BC, mask_BC.to(rewards_BC.dtype)
    advantages = torch.zeros_like(rewards)
    following = next_value = torch.zeros_like(rewards[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = (delta + gamma * lam * following) * mask[:, t]
        advantages[:, t] = following
        next_value = values[:, t]
    return advantages, (advantages + values) * mask


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """1 − Var(returns − values)/Var(returns) over real tokens; NaN where the returns do not vary."""
    real, errors = returns[mask], (returns - values)[mask]
    variance = float(real.var(unbiased=False))
    return 1 - float(errors.var(unbiased=False)) / variance if variance > 0 else float("nan")
