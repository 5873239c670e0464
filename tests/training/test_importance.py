"""The correction for completions that a server drew, by hand; and the settings that name a server, before anything is asked."""

from __future__ import annotations

import json
import math

import pytest
import torch

from auditor.errors import InputError
from auditor.training import ppo
from auditor.training.core.importance import importance_weights, mismatch
from auditor.training.planning import plan
from auditor.training.recipe import read_recipe


def test_weights_and_mismatch_by_hand():
    trainer = torch.log(torch.tensor([[0.5, 0.9, 7.0], [0.2, 1.0, 1.0]])).requires_grad_()
    sampler = torch.log(torch.tensor([[0.25, 0.2, 1.0], [0.4, 1.0, 1.0]]))
    mask = torch.tensor([[True, True, False], [True, False, False]])
    weights = importance_weights(trainer, sampler, mask, 3.0)
    torch.testing.assert_close(weights, torch.tensor([[2.0, 3.0, 1.0], [0.5, 1.0, 1.0]]))  # 0.9/0.2 = 4.5 is cut at 3; padding weighs 1
    assert not weights.requires_grad
    found = mismatch(trainer.detach(), sampler, mask)
    assert found["mismatch/mean"] == pytest.approx((math.log(2) + math.log(4.5) + math.log(2)) / 3, rel=1e-6)
    assert found["mismatch/max"] == pytest.approx(math.log(4.5), rel=1e-6)
    assert found["mismatch/kl_k3"] == pytest.approx((2 - 1 - math.log(2) + 4.5 - 1 - math.log(4.5) + 0.5 - 1 + math.log(2)) / 3, rel=1e-5)


def test_the_estimate_of_the_divergence_is_unbiased():
    """Over all tokens, each as often as the sampler draws it, it is KL(sampler ‖ trainer) itself."""
    q, p = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    tokens = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    found = mismatch(p[tokens].log()[None], q[tokens].log()[None], torch.ones(1, 10, dtype=torch.bool))
    assert found["mismatch/kl_k3"] == pytest.approx(float((q * (q / p).log()).sum()), rel=1e-5)


def test_weights_multiply_the_policy_loss_of_their_token():
    new, old = torch.tensor([[-1.0, -2.0, -3.0]], requires_grad=True), torch.tensor([[-1.0, -2.0, -3.0]])
    gains, mask = torch.tensor([[1.0, -2.0, 5.0]]), torch.tensor([[True, True, False]])
    loss, statistics = ppo.policy_loss(new, old, gains, mask, 0.2, torch.tensor([[0.5, 2.0, 9.0]]))
    assert loss.item() == pytest.approx(0.5 * -1.0 + 2.0 * 2.0)
    loss.backward()
    torch.testing.assert_close(new.grad, torch.tensor([[-0.5, 4.0, 0.0]]))
    assert statistics["ratio"].item() == 2.0  # unweighted


@pytest.fixture
def recipe(tmp_path, tiny_checkpoint):
    def write(*lines):
        (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": "p", "cluster_id": "c", "prompt": "Say fox."}) + "\n")
        head = [f'model = "{tiny_checkpoint}"', "[[stage]]", 'method = "ppo"', f'prompts = "{tmp_path / "prompts.jsonl"}"', "max_new_tokens = 8"]
        (tmp_path / "own.toml").write_text("\n".join([*head, *lines]))
        return read_recipe(str(tmp_path / "own.toml"))

    return write


URL = 'rollout_server = "http://127.0.0.1:8000/v1"'


@pytest.mark.parametrize(("lines", "words"), [
    ((URL,), "lora_rank = 0: only adapters"), ((URL, "lora_rank = 4", "importance_cap = 0.5"), "importance_cap is 0.5"),
    (('rollout_server = "127.0.0.1:8000"', "lora_rank = 4"), "is '127.0.0.1:8000'; pass the server's URL"),
    (('rollout_server = "http://me:pw@h/v1"', "lora_rank = 4"), "user name or password"), (('rollout_server = "me:pw@h/v1"',), "user name or password"),
    (('rollout_server = "http://h/v1?key=pw"', "lora_rank = 4"), "query or fragment"), ((URL, "mismatch_limit = 0.0"), "mismatch_limit is 0"),
    ((URL, 'importance = "truncat"'), "did you mean 'truncate'"), (("rollout_sever = 'x'",), "did you mean 'rollout_server'")])
def test_bad_settings_are_refused_before_anything_is_written(recipe, lines, words):
    with pytest.raises(InputError, match=words) as caught:
        recipe(*lines)
    assert "pw" not in str(caught.value)


def test_where_the_server_stands_decides_nothing(recipe):
    plain, capped = recipe("lora_rank = 4"), recipe("lora_rank = 4", "importance_cap = 3.0")
    assert plain.hash == capped.hash  # without a server there is nothing to cap
    here, there = recipe("lora_rank = 4", URL), recipe("lora_rank = 4", URL.replace("8000", "9000"), "rollout_timeout = 5.0")
    assert here.hash == there.hash != plain.hash
    assert recipe("lora_rank = 4", URL, "importance_cap = 3.0").hash != here.hash


def test_a_dry_run_names_the_server_and_leaves_its_work_out(recipe, capsys):
    from auditor.cli.training_plan import print_plan

    ours, theirs = (plan(recipe("lora_rank = 4", *more))[0] for more in ((), (URL,)))
    assert (ours.rollouts, theirs.rollouts) == ("", "http://127.0.0.1:8000/v1")
    assert theirs.flops < ours.flops
    assert theirs.tokens < ours.tokens
    print_plan(recipe("lora_rank = 4", URL), "text")
    assert "ppo: completions are written by the vLLM server at http://127.0.0.1:8000/v1" in capsys.readouterr().out
