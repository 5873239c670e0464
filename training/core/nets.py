"""The networks that are trained: a policy that returns log-probabilities, and a body with scalar heads.

Dimensions: B rows, T tokens, C completion tokens, N completion tokens of all rows, D hidden size, V vocabulary, K heads.

Each is a module whose ``forward`` computes exactly what the losses need, so that wrapping it (DDP, FSDP) keeps every hook, and so that the
vocabulary projection, a fifth of a small model's work, is done at completion tokens alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from auditor.errors import InputError
from auditor.training.core.attention import NAME, by_rows
from auditor.training.core.batch import Batch, can_share

CHUNK = 2048  # completion tokens whose logits exist at once where no gradient is wanted
ROWS = 64  # of logits that a processor works on at once: what is made of them is then used while it is near


def read(lm: Any, batch: Batch) -> torch.Tensor:
    """Hidden states (G, T, D) of a batch's tokens."""
    more: dict[str, Any] = {}
    if batch.paths is not None:
        used = lm.config.get_text_config()._attn_implementation
        if used != NAME:
            raise RuntimeError(f"a batch of shared beginnings on a network whose attention is {used!r}, not {NAME!r}: every token would see every other")
        # transformers makes no mask of its own where it is given one of four dimensions; along the paths none is read
        more = {"paths": batch.paths, "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=batch.ids.device)}
    return lm.get_decoder()(input_ids=batch.ids, position_ids=batch.depths, use_cache=False, **more).last_hidden_state


class _OnModel(nn.Module):
    """A network on a transformers model, which may carry an adapter."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        if can_share(self.lm.config):
            by_rows(self.lm)

    @property
    def lm(self) -> Any:
        """The transformers model, also inside an adapter's wrapper."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model


class PolicyNet(_OnModel):
    """A causal language model seen as a policy."""

    def forward(self, batch: Batch, temperature: float = 1.0, entropy: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probability (B, C) of each completion token, 0 at padding, and the entropy (B, C) of its distribution in nats if asked.

        Logits are divided by ``temperature``, as in sampling.
        """
        lm = self.lm
        states = read(lm, batch)[batch.lines, batch.columns]  # (N, D): the state before a token predicts it
        logprobs, entropies = _token_logprobs(lm.get_output_embeddings(), states, batch.targets, (temperature, entropy))
        return _padded(logprobs, batch), None if entropies is None else _padded(entropies, batch)


class _Logprobs(torch.autograd.Function):
    """log softmax(logits_NV / temperature) at one token a row, (N,) in float32, and its gradient, (onehot − softmax) / temperature.

    Written out because of what lies between: plain operations make five arrays of the logits' size on the way, each too large for any cache. Here
    only the logits themselves are kept, in the type that they have, and a few rows at a time are worked on. It has no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, tokens: torch.Tensor, temperature: float) -> torch.Tensor:
        normaliser = torch.cat([torch.logsumexp(_tempered(part, temperature), -1) for part in logits.split(_rows(logits))])
        ctx.save_for_backward(logits, tokens, normaliser)
        ctx.temperature = temperature
        return logits.gather(-1, tokens[:, None])[:, 0].float() / temperature - normaliser

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, tokens, normaliser = ctx.saved_tensors
        scaled = gradients[0] / ctx.temperature
        found = torch.empty_like(logits)
        size = _rows(logits)
        for start in range(0, len(logits), size):
            rows = slice(start, start + size)
            part = torch.sub(_tempered(logits[rows], ctx.temperature), normaliser[rows, None]).exp_().mul_(-scaled[rows, None])
            found[rows] = part.scatter_add_(-1, tokens[rows, None], scaled[rows, None])
        return found, None, None


def _token_logprobs(head: nn.Module, states: torch.Tensor, tokens: torch.Tensor, how: tuple[float, bool]) -> tuple[torch.Tensor, torch.Tensor | None]:
    temperature, wanted = how
    size = len(states) if torch.is_grad_enabled() else CHUNK
    values, entropies = [], []
    for start in range(0, max(1, len(states)), max(1, size)):
        logits = head(states[start:start + size])
        values.append(_Logprobs.apply(logits, tokens[start:start + size], temperature))
        if wanted:
            with torch.no_grad():
                entropies += [_entropies(_tempered(part, temperature)) for part in logits.split(_rows(logits))]
    return torch.cat(values), torch.cat(entropies) if wanted else None


def _tempered(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """In float32; the logits themselves where they are that already and the temperature is 1."""
    return logits.float() if temperature == 1.0 else logits.float() / temperature


def _rows(logits: torch.Tensor) -> int:
    """Rows at once; more of them elsewhere than on a processor, where each operation has a price of its own."""
    return ROWS if logits.device.type == "cpu" else CHUNK


def _entropies(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of each row's distribution, nats."""
    return torch.logsumexp(logits, -1) - (torch.softmax(logits, -1) * logits).sum(-1)


def _padded(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Values (N,) of the completion tokens, row after row, as (B, C) with 0 beyond each completion."""
    return values.new_zeros(batch.completion_mask.shape).masked_scatter(batch.completion_mask, values)


class OptionNet(_OnModel):
    """A causal language model asked for the log-probabilities of a few next tokens."""

    def forward(self, batch: Batch, tokens_O: torch.Tensor) -> torch.Tensor:
        """Log-probability (B, O) of each of the tokens after each row's last real token, among the whole vocabulary."""
        lm = self.lm
        last = read(lm, batch)[batch.last_lines, batch.last_columns]
        return torch.log_softmax(lm.get_output_embeddings()(last).float(), -1)[:, tokens_O]


class ScalarNet(_OnModel):
    """A language model's body with ``heads`` scalar heads: a reward model (read at the last token) or a value function (at every token).

    Heads are drawn from a normal of standard deviation 1/√(D+1) with bias 0 (Stiennon et al. 2020), or set to zero.
    """

    def __init__(self, model: Any, heads: int = 1, zero: bool = False) -> None:
        super().__init__(model)
        size = int(self.lm.config.get_text_config().hidden_size)
        self.head = nn.Linear(size, heads)
        nn.init.zeros_(self.head.bias)
        if zero:
            nn.init.zeros_(self.head.weight)
        else:
            nn.init.normal_(self.head.weight, std=1 / math.sqrt(size + 1))

    def forward(self, batch: Batch, every_token: bool = False) -> torch.Tensor:
        """Scores (B, K) at each row's last real token; or values (B, C) of the first head at the state before each completion token."""
        hidden = read(self.lm, batch)
        if not every_token:
            return self.head(hidden[batch.last_lines, batch.last_columns]).float()
        return _padded(self.head(hidden[batch.lines, batch.columns])[:, 0].float(), batch)


class SharedNet(nn.Module):
    """Policy and value head on one trunk: a different algorithm from separate networks, named and reported apart."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.policy = PolicyNet(model)
        self.head = nn.Linear(int(self.policy.lm.config.get_text_config().hidden_size), 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch, temperature: float = 1.0, entropy: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Log-probabilities (B, C), values (B, C) and, if asked, entropies (B, C)."""
        lm = self.policy.lm
        states = read(lm, batch)[batch.lines, batch.columns]
        logprobs, entropies = _token_logprobs(lm.get_output_embeddings(), states, batch.targets, (temperature, entropy))
        values = _padded(self.head(states)[:, 0].float(), batch)
        return _padded(logprobs, batch), values, None if entropies is None else _padded(entropies, batch)


def add_adapter(model: Any, rank: int, alpha: float) -> Any:
    """Put LoRA adapters of ``rank`` on all linear layers (Hu et al. 2021); without dropout, since policy-gradient ratios forbid it."""
    import peft

    try:
        settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
        config = peft.LoraConfig(**settings, bias="none")
        return peft.get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"lora_rank = {rank} does not fit this model: {error}; set lora_rank = 0 to train every weight") from None


def trainable(net: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that change, by name."""
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
