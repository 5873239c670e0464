"""Attention over rows that share their beginnings: the rows' own attention, in every family and type that is said to take it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from auditor.models.resolve import EngineOptions, open_model
from auditor.training.core import attention
from auditor.training.core.attention import by_rows, causal
from auditor.training.core.batch import SHARING, Encoded, can_share, collate, computed_tokens
from auditor.training.core.config import Optimisation
from auditor.training.core.nets import PolicyNet
from auditor.training.core.rollout import EngineSampler, Sampling
from auditor.training.core.weights import policy_net

PROMPT = tuple(range(3, 20))


def examples():
    """Rows of one beginning, two of them alike to the end, one inside another, and one that shares nothing."""
    completions = [(30, 31, 32), (30, 31, 40, 41, 42), (33,), (33,), (30,)]
    return [*(Encoded(id=str(index), prompt=PROMPT, completion=given) for index, given in enumerate(completions)),
            Encoded(id="other", prompt=(50, 51), completion=(52, 53, 54, 55))]


def made(kind):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                  head_dim=8, sliding_window=None, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.4)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("kind", sorted(SHARING))
def test_every_family_that_shares_gives_the_rows_own_log_probabilities_and_gradients(kind):
    found = []
    for share in (False, True):
        net = PolicyNet(made(kind))
        assert can_share(net.lm.config)
        logprobs = net(collate(examples(), share=share))[0]
        logprobs.sum().backward()
        found.append((logprobs.detach(), {name: weight.grad for name, weight in net.named_parameters()}))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=2e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


def test_every_token_of_a_common_beginning_is_there_once():
    given = examples()
    batch = collate(given, share=True)
    texts = [(*row.prompt, *row.completion) for row in given]
    beginnings = {text[:end] for text in texts for end in range(1, len(text) + 1)}
    assert batch.ids.shape == (1, len(beginnings))
    assert batch.tokens == computed_tokens(given, share=True)
    assert computed_tokens(given) == collate(given).tokens == len(given) * max(map(len, texts))
    whole = sorted(text for text in set(texts) if not any(other != text and other[:len(text)] == text for other in texts))
    assert len(batch.paths.tokens) == len(whole) == 4
    for text, tokens in zip(whole, batch.paths.tokens, strict=True):
        assert batch.ids[0, tokens[:len(text)]].tolist() == list(text)
        assert batch.depths[0, tokens[:len(text)]].tolist() == list(range(len(text)))
    assert torch.equal(batch.paths.tokens.flatten()[batch.paths.places], torch.arange(batch.tokens))
    assert batch.ids[0, batch.last_columns].tolist() == [text[-1] for text in texts]


def test_the_order_of_rows_changes_no_sum():
    forth, back = collate(examples(), share=True), collate(examples()[::-1], share=True)
    for name in ("ids", "depths"):
        assert torch.equal(getattr(forth, name), getattr(back, name))
    assert torch.equal(forth.paths.tokens, back.paths.tokens)
    assert torch.equal(forth.paths.places, back.paths.places)


@pytest.mark.parametrize("budget", [1, 2000, 10**9])
@pytest.mark.parametrize("heads", [2, 6])
def test_whole_matrices_give_what_the_library_gives(monkeypatch, budget, heads):
    """In float32, where both are exact to rounding, whatever number of rows is done at a time."""
    monkeypatch.setattr(attention, "SCORES", budget)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(5, 13, heads, 8, generator=generator)
    key, value = torch.randn(2, 5, 13, 2, 8, generator=generator)
    given = [part.requires_grad_() for part in (query, key, value)]
    towards = torch.randn(5, 13, heads, 8, generator=generator)
    expected = functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in given), is_causal=True, enable_gqa=True, scale=0.3).transpose(1, 2)
    found = attention._Causal.apply(*given, 0.3)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(torch.autograd.grad(found, given, towards), torch.autograd.grad(expected, given, towards), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("longest", [0, attention.LONGEST])
@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_bfloat16_errs_as_bfloat16_does(monkeypatch, longest, gain):
    """The library's own kernel for it (beyond ``LONGEST``) and ours: the error against float32 is a few times the type's rounding, 2⁻⁹, though scores
    reach 50, where bfloat16 has steps of a quarter; and under autocast too."""
    monkeypatch.setattr(attention, "LONGEST", longest)
    generator = torch.Generator().manual_seed(0)
    given = [(size * torch.randn(3, 40, heads, 16, generator=generator)).bfloat16().requires_grad_() for heads, size in ((6, gain), (2, gain), (2, 1.0))]
    towards = torch.randn(3, 40, 6, 16, generator=generator).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = causal(*given, 0.25)
    assert found.dtype == torch.bfloat16
    exact = [part.detach().float().requires_grad_() for part in given]
    expected = causal(*exact, 0.25)
    gradients = zip(torch.autograd.grad(found, given, towards), torch.autograd.grad(expected, exact, towards.float()), strict=True)
    for ours, theirs in [(found.detach(), expected.detach()), *gradients]:
        assert float((ours.float() - theirs).norm() / theirs.norm()) < 0.01


@pytest.mark.parametrize("lora", [0, 4])
def test_under_autocast_and_with_checkpointing_the_rows_are_the_same_rows(tiny_checkpoint, lora):
    found = []
    for share, checkpointing in ((False, False), (True, False), (True, True)):
        net = policy_net(open_model(str(tiny_checkpoint), EngineOptions(pack=False)), Optimisation(lora_rank=lora, gradient_checkpointing=checkpointing), 0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logprobs = net(collate(examples(), share=share))[0]
        logprobs.sum().backward()
        gradient = torch.cat([weight.grad.flatten() for weight in net.parameters() if weight.requires_grad])
        found.append((logprobs.detach(), gradient))
    for logprobs, gradient in found[1:]:
        assert float((logprobs - found[0][0]).abs().mean()) < 0.1
        assert float(functional.cosine_similarity(gradient, found[0][1], dim=0)) > 0.99
    torch.testing.assert_close(found[1], found[2])


def test_a_model_that_takes_rows_is_saved_and_decodes_as_before(tiny_checkpoint, tmp_path):
    engine = open_model(str(tiny_checkpoint), EngineOptions(pack=False))
    ids = torch.tensor([[3, 4, 5, 6], [0, 0, 7, 8]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    with torch.no_grad():
        before = engine.model(ids, attention_mask=mask).logits
        by_rows(engine.model)
        assert torch.equal(engine.model(ids, attention_mask=mask).logits, before)
    engine.model.config.save_pretrained(tmp_path)
    assert attention.NAME not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_network_that_would_not_read_the_paths_is_not_handed_them(tiny_checkpoint, implementation):
    net = PolicyNet(open_model(str(tiny_checkpoint), EngineOptions(pack=False)).model)
    net.lm.set_attn_implementation(implementation)
    with pytest.raises(RuntimeError, match="every token would see every other"):
        net(collate(examples(), share=True))


class Casts(TorchDispatchMode):
    """Counts what is cast from float32 to bfloat16, by shape."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and args[0].dtype == torch.float32 and (kwargs or {}).get("dtype") == torch.bfloat16:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("lora", [0, 4])
def test_completions_under_autocast_cast_each_weight_once_and_leave_none(tiny_checkpoint, lora):
    """Weights that were cast while completions were written, without a gradient, would give the pass after it none."""
    net = policy_net(open_model(str(tiny_checkpoint), EngineOptions(pack=False)), Optimisation(lora_rank=lora), 0)
    engine = open_model(str(tiny_checkpoint), EngineOptions(pack=False))
    wanted = {name for name, weight in net.named_parameters() if weight.requires_grad}
    down = (48, 96)  # the shape of no activation and of one weight a layer
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with Casts() as casts:
            written = EngineSampler(engine, net.lm)([("a", PROMPT), ("b", PROMPT)], Sampling(max_new_tokens=6), 0)
        assert max(len(row.completion) for row in written) > 2
        assert casts.shapes.count(down) == net.lm.config.num_hidden_layers
        assert {name for name, weight in net.named_parameters() if weight.requires_grad} == wanted
        with Casts() as casts:
            logprobs = net(collate(written))[0]
        assert casts.shapes.count(down) == net.lm.config.num_hidden_layers
    logprobs.sum().backward()
    assert {name for name, weight in net.named_parameters() if weight.grad is not None} == wanted
