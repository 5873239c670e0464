"""Losses and advantages: by hand, in their limits, and against TRL's own tensors (tests/fixtures/trl.safetensors, benchmarks/trl_fixtures.py)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from auditor.training.core.advantage import gae, masked_mean, token_rewards, whiten
from auditor.training.core.scoring import aggregate
from auditor.training.dpo import dpo_loss
from auditor.training.ppo import next_beta, policy_loss, value_loss
from auditor.training.reward import reward_loss
from auditor.training.sft import sft_loss

FIXTURE = Path(__file__).parents[1] / "fixtures" / "trl.safetensors"
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def trl() -> dict[str, torch.Tensor]:
    with safe_open(str(FIXTURE), "pt") as file:
        assert file.metadata()["trl"] == "1.12.0"
    return load_file(str(FIXTURE))


def tensor(*rows: object) -> torch.Tensor:
    return torch.tensor(rows if len(rows) > 1 else rows[0], dtype=torch.float32)


def test_sft_is_the_sum_over_real_tokens():
    losses, _ = sft_loss(tensor([-1.0, -2.0, -9.0], [-0.5, -9.0, -9.0]), torch.tensor([[True, True, False], [True, False, False]]))
    assert losses.tolist() == [3.0, 0.5]


def test_dpo_by_hand():
    policy, reference = (tensor([-1.0]), tensor([-3.0])), (tensor([-2.0]), tensor([-2.5]))
    h = (-1.0 + 3.0) - (-2.0 + 2.5)  # 1.5
    losses, stats = dpo_loss(policy, reference, tensor([1.0]), 0.1)
    assert losses.item() == pytest.approx(math.log(1 + math.exp(-0.1 * h)), rel=1e-6)
    assert stats["margin"].item() == pytest.approx(0.1 * h, rel=1e-5)
    soft, _ = dpo_loss(policy, reference, tensor([0.8]), 0.1)
    assert soft.item() == pytest.approx(0.8 * math.log(1 + math.exp(-0.15)) + 0.2 * math.log(1 + math.exp(0.15)), rel=1e-6)


def test_dpo_at_the_start_is_log_two_and_undecided():
    same = (tensor([-1.0, -4.0]), tensor([-2.0, -3.0]))
    losses, stats = dpo_loss(same, same, tensor([1.0, 0.3]), 0.5)
    assert losses.tolist() == pytest.approx([math.log(2)] * 2)
    assert stats["accuracy"].item() == 1.0  # half for each of the two


def test_dpo_gradient_pushes_apart_and_fades_with_the_margin():
    gradients = []
    for gap in (0.0, 50.0):
        chosen = torch.tensor([gap], requires_grad=True)
        dpo_loss((chosen, tensor([0.0])), (tensor([0.0]), tensor([0.0])), tensor([1.0]), 0.1)[0].sum().backward()
        gradients.append(chosen.grad.item())
    assert gradients[0] == pytest.approx(-0.05)
    assert gradients[0] < gradients[1] < 0


def test_dpo_equals_trl(trl):
    losses, _ = dpo_loss((trl["dpo/chosen_logps"], trl["dpo/rejected_logps"]), (trl["dpo/ref_chosen_logps"], trl["dpo/ref_rejected_logps"]),
                         torch.ones(4), 0.3)
    torch.testing.assert_close(losses, trl["dpo/per_sequence_loss"], **CLOSE)


def test_reward_by_hand():
    losses, stats = reward_loss(tensor([[2.0], [0.0]]), tensor([[1.0], [3.0]]), tensor([1.0, 1.0]), tensor([0.5, 0.0]), 0.01)
    expected = [math.log(1 + math.exp(-0.5)) + 0.01 * 9, math.log(1 + math.exp(3.0)) + 0.01 * 9]
    assert losses.tolist() == pytest.approx(expected, rel=1e-6)
    assert stats["accuracy"].item() == 1.0


def test_reward_heads_are_averaged_and_aggregated():
    chosen, rejected = tensor([[2.0, 4.0]]), tensor([[1.0, 1.0]])
    losses, _ = reward_loss(chosen, rejected, tensor([1.0]), tensor([0.0]), 0.0)
    assert losses.item() == pytest.approx((math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3))) / 2, rel=1e-6)
    assert aggregate(chosen, "mean").item() == 3.0
    assert aggregate(chosen, "min").item() == 2.0
    assert aggregate(chosen, "uncertainty", 0.5).item() == 3.0 - 0.5 * 1.0


def test_reward_equals_trl(trl):
    losses, _ = reward_loss(trl["reward/rewards_chosen"][:, None], trl["reward/rewards_rejected"][:, None], torch.ones(4), trl["reward/margin"], 0.01)
    torch.testing.assert_close(losses.mean(), trl["reward/loss"], **CLOSE)
    assert trl["reward/margin"].max() > 0


def test_token_rewards_put_the_score_on_the_last_real_token():
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rewards = token_rewards(tensor([5.0, 7.0]), tensor([-1.0, -2.0, 0.0], [-1.0, -1.0, -1.0]), tensor([-1.5, -1.0, 0.0], [-1.0, -1.0, -3.0]), mask, 0.1)
    torch.testing.assert_close(rewards, tensor([-0.05, 0.1 + 5.0, 0.0], [0.0, 0.0, -0.2 + 7.0]))


def test_gae_by_hand():
    rewards, values = tensor([1.0, 0.0, 2.0], [3.0, 9.0, 9.0]), tensor([0.5, 1.0, 1.5], [1.0, 9.0, 9.0])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    advantages, returns = gae(rewards, values, mask, 0.9, 0.8)
    third = 2.0 - 1.5
    second = 0.0 + 0.9 * 1.5 - 1.0 + 0.72 * third
    first = 1.0 + 0.9 * 1.0 - 0.5 + 0.72 * second
    torch.testing.assert_close(advantages, tensor([first, second, third], [2.0, 0.0, 0.0]))
    torch.testing.assert_close(returns, tensor([first + 0.5, second + 1.0, third + 1.5], [3.0, 0.0, 0.0]))


def test_gae_with_lambda_one_is_the_return_minus_the_value():
    torch.manual_seed(0)
    rewards, values, mask = torch.randn(3, 7), torch.randn(3, 7), torch.ones(3, 7, dtype=torch.bool)
    advantages, returns = gae(rewards, values, mask, 1.0, 1.0)
    to_go = rewards.flip(-1).cumsum(-1).flip(-1)
    torch.testing.assert_close(returns, to_go)
    torch.testing.assert_close(advantages, to_go - values)


def test_what_stands_in_the_padding_changes_nothing():
    torch.manual_seed(1)
    mask = torch.arange(6)[None] < torch.tensor([[3], [6], [1]])
    given = [torch.randn(3, 6) for _ in range(4)]
    dirty = [part.masked_fill(~mask, 1e3) for part in given]
    clean = [part.masked_fill(~mask, 0.0) for part in given]
    for one, other in zip(gae(dirty[0], dirty[1], mask, 1.0, 0.95), gae(clean[0], clean[1], mask, 1.0, 0.95), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(whiten(dirty[0], mask), whiten(clean[0], mask))
    torch.testing.assert_close(policy_loss(*dirty[:3], mask, 0.2)[0], policy_loss(*clean[:3], mask, 0.2)[0])
    torch.testing.assert_close(value_loss(*dirty[:3], mask, 0.2)[0], value_loss(*clean[:3], mask, 0.2)[0])


def test_whitening_leaves_mean_zero_variance_one_or_keeps_the_mean():
    torch.manual_seed(2)
    values, mask = 3 + 2 * torch.randn(4, 9), torch.arange(9)[None] < torch.tensor([[9], [4], [7], [2]])
    real = whiten(values, mask)[mask]
    assert real.mean().item() == pytest.approx(0, abs=1e-6)
    assert real.var().item() == pytest.approx(1, abs=1e-5)
    assert whiten(values, mask, keep_mean=True)[mask].mean().item() == pytest.approx(values[mask].mean().item(), rel=1e-5)


def test_gae_and_whitening_equal_trl(trl):
    """TRL puts the score one place after a completion's end, so its own mask of that place goes in."""
    longer = trl["ppo/padding_mask_p1"] == 0
    advantages, returns = gae(trl["ppo/rewards"], trl["ppo/values"], longer, 1.0, 0.95)
    torch.testing.assert_close(advantages * longer, trl["ppo/advantages"] * longer, **CLOSE)
    torch.testing.assert_close(returns * longer, trl["ppo/returns"] * longer, **CLOSE)
    mask = trl["ppo/padding_mask"] == 0
    assert 0 < mask.sum() < mask.numel()  # some completions are padded: otherwise this would show little
    torch.testing.assert_close(whiten(trl["ppo/advantages"], mask), trl["ppo/whitened"] * mask, **CLOSE)


def test_kl_rewards_equal_trl(trl):
    mask = trl["ppo/padding_mask"] == 0
    ours = token_rewards(torch.zeros(4), trl["ppo/logprobs"], trl["ppo/ref_logprobs"], mask, 0.05)
    theirs = -0.05 * (trl["ppo/logprobs"] - trl["ppo/ref_logprobs"])
    torch.testing.assert_close(ours, theirs * mask, **CLOSE)
    placed = (trl["ppo/rewards"] - theirs).sum(-1)
    torch.testing.assert_close(placed, trl["ppo/scores"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("epoch", ["epoch0", "epoch2"])
def test_ppo_losses_equal_trl(trl, epoch):
    got = {name.split("/")[-1]: value for name, value in trl.items() if name.startswith(f"ppo/{epoch}/")}
    mask, longer = got["mask"] == 1, got["mask_p1"] == 1
    loss, stats = policy_loss(got["new_logprobs"], got["mb_logprobs"], got["mb_advantage"], mask, 0.2)
    fit, _ = value_loss(got["vpred"], got["mb_values"], got["mb_return"], longer, 0.2)
    torch.testing.assert_close(loss / mask.sum(), got["pg_loss"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(fit / longer.sum(), got["vf_loss"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss / mask.sum() + 0.1 * fit / longer.sum(), got["loss"], rtol=1e-4, atol=1e-6)
    moved = float((got["ratio"] - 1).abs().max())
    assert moved < 1e-4 if epoch == "epoch0" else moved > 0.2  # the first epoch's oracle, and a later one that is really clipped
    assert (stats["clip_fraction"].item() == 0) == (epoch == "epoch0")


def test_policy_loss_by_hand():
    old, new = tensor([0.0, 0.0, 0.0]), tensor([math.log(1.5), math.log(0.5), math.log(1.1)])
    loss, stats = policy_loss(new[None], old[None], tensor([[2.0, -1.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool), 0.2)
    assert loss.item() == pytest.approx(-2.0 * 1.2 + 1.0 * 0.8 - 3.0 * 1.1, rel=1e-6)
    assert stats["clip_fraction"].item() == 2


def test_clipped_tokens_have_no_gradient():
    new = torch.tensor([[math.log(1.5), math.log(1.5)]], requires_grad=True)
    policy_loss(new, torch.zeros(1, 2), tensor([[1.0, -1.0]]), torch.ones(1, 2, dtype=torch.bool), 0.2)[0].backward()
    assert new.grad[0, 0].item() == 0
    assert new.grad[0, 1].item() == pytest.approx(1.5)


def test_value_loss_takes_the_worse_of_clipped_and_free():
    loss, stats = value_loss(tensor([[2.0, 0.0]]), tensor([[0.0, 0.0]]), tensor([[3.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool), 0.5)
    assert loss.item() == pytest.approx(0.5 * (2.5**2 + 1.0))
    assert stats["value_clip_fraction"].item() == 1


def test_adaptive_beta_moves_towards_the_target_and_is_clipped():
    assert next_beta(0.1, 6.0, 6.0, 10_000, 256) == pytest.approx(0.1)
    assert next_beta(0.1, 6.6, 6.0, 10_000, 256) == pytest.approx(0.1 * (1 + 0.1 * 0.0256))
    assert next_beta(0.1, 600.0, 6.0, 10_000, 256) == pytest.approx(0.1 * (1 + 0.2 * 0.0256))
    assert next_beta(0.1, 0.0, 6.0, 10_000, 256) == pytest.approx(0.1 * (1 - 0.2 * 0.0256))


def test_masked_mean_divides_by_what_is_real():
    assert masked_mean(tensor([1.0, 3.0, 99.0]), torch.tensor([True, True, False])).item() == 2.0
