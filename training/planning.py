"""What a recipe would cost, from its data, a tokenizer and a configuration: no weights are loaded.

Assumptions. A forward pass takes 2 operations for every weight and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), the vocabulary
projection at completion tokens alone, attention's quadratic part neglected. A backward pass takes twice that, once where only adapters are trained;
gradient checkpointing adds a forward pass. PPO counts sampling, the looks of policy, reference and value network, scoring models, and
the passes over each batch; every completion is counted at its full length. Training reaches ``EFFICIENCY`` of the machine's matrix rate.
Memory holds float32 weights of every network, gradients and two moments of what is trained, the activations of one micro-batch, and its logits three times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from auditor.errors import InputError, ModelError
from auditor.models.chat import PLAIN_TEMPLATE
from auditor.models.encoding import Encoder as Ids
from auditor.models.resolve import resolve
from auditor.schema import Demonstration, ModelSpec, Preference, Prompt, Request
from auditor.training.core.batch import Encoder
from auditor.training.core.config import Optimisation
from auditor.training.core.loop import steps_of
from auditor.training.data import load_demonstrations, load_preferences, load_prompts, split
from auditor.training.recipe import Recipe, Stage, method

EFFICIENCY = 0.4
LIBRARIES = 0.7e9  # bytes of the interpreter with torch and transformers
ACTIVATION = 68  # bytes a token, layer and hidden unit, float32 (Korthikanti et al. 2022, arXiv 2205.05198, equation 1, attention matrices left out)
ROLES = ("", "stage:")


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage. ``tokens`` go through the networks, each pass counted once; numbers are None where an earlier stage's output decides them.

    ``rollouts``: the server that writes the completions; what that costs there is not counted.
    """

    stage: str
    method: str
    data: str
    examples: int | None = None
    topics: int | None = None
    steps: int | None = None
    tokens: int | None = None
    flops: float | None = None
    bytes: float | None = None
    rollouts: str = ""


class Sizes:
    """Tokenizer, context and numbers of weights of a checkpoint: what stands in for the engine where text becomes tokens."""

    def __init__(self, uri: str) -> None:
        import transformers

        transformers.logging.set_verbosity_error()
        checkpoint = resolve(uri)
        common = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(str(checkpoint.folder), **common)
            self.config = transformers.AutoConfig.from_pretrained(str(checkpoint.folder), **common)
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(self.config)
        except Exception as error:  # transformers raises many kinds for a broken checkpoint
            raise ModelError(f"cannot load {uri}: {(str(error).splitlines() or [''])[0][:300]}") from None
        text = self.config.get_text_config()
        self.spec = ModelSpec(uri=uri, weights_hash="")
        self.context = int(getattr(text, "max_position_embeddings", None) or 1 << 30)
        self.hidden, self.layers, self.vocabulary = int(text.hidden_size), int(text.num_hidden_layers), int(text.vocab_size)
        self.weights = sum(parameter.numel() for parameter in model.parameters())
        inside = [module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")]
        self.body = sum(module.weight.numel() for module in inside)
        self.adapter = sum(module.in_features + module.out_features for module in inside)
        self.ids = Ids(self.tokenizer, getattr(self.tokenizer, "chat_template", None) or PLAIN_TEMPLATE)

    def prompt_ids(self, request: Request) -> list[int]:
        return self.ids.ids(request.messages)

    def forward(self, tokens: float, projected: float) -> float:
        """Operations of one pass over ``tokens``, ``projected`` of them to the vocabulary."""
        return 2 * (self.body * tokens + self.hidden * self.vocabulary * projected)


def plan(recipe: Recipe) -> list[StagePlan]:
    """The plan of every stage. Raises InputError where the data or a model cannot be read, or an example is too long."""
    known: dict[str, Sizes] = {}
    plans = []
    for stage in recipe.stages:
        uri = getattr(stage.config, "model", "") or ""
        uri = recipe.model if uri.startswith(ROLES[1]) or not uri else uri
        if uri not in known:
            known[uri] = Sizes(uri)
        plans.append(_stage(stage, known[uri], recipe.seed))
    return plans


def _stage(stage: Stage, sizes: Sizes, seed: int) -> StagePlan:
    source = getattr(stage.config, "prompts", None) or getattr(stage.config, "data", "")
    plain = StagePlan(stage=stage.name, method=stage.method, data=source or "what an earlier stage makes",
                      rollouts=getattr(stage.config, "rollout_server", ""))
    known_loaders = (load_prompts,) if getattr(stage.config, "prompts", None) else (load_preferences, load_demonstrations)
    loaders = [loader for loader in known_loaders if hasattr(method(stage.method), loader.__name__)]
    if not source or source.startswith(ROLES[1]) or not loaders:
        return plain
    items: Sequence[Any] = loaders[0](source, limit=getattr(stage.config, "limit", 0) or None, seed=seed)
    known = {"examples": len(items), "topics": len({item.cluster_id for item in items})}
    if not isinstance(stage.config, Optimisation):
        return replace(plain, **known)
    encoder = Encoder(sizes, stage.config.max_length)
    costs = _on_policy(stage.config, sizes, encoder, items) if hasattr(stage.config, "updates") else _supervised(stage, sizes, encoder, (items, seed))
    return replace(plain, **known, **costs)


def _rows(encoder: Encoder, items: Sequence[Any]) -> tuple[float, float]:
    """Tokens of all rows and of their completions."""
    rows = []
    for item in items:
        if isinstance(item, Preference):
            rows += [encoder.pair(item.id, item.prompt, item.chosen), encoder.pair(item.id, item.prompt, item.rejected)]
        elif isinstance(item, Demonstration):
            rows.append(encoder.pair(item.id, item.prompt, item.completion))
    return float(sum(row.length for row in rows)), float(sum(len(row.completion) for row in rows))


def _supervised(stage: Stage, sizes: Sizes, encoder: Encoder, given: tuple[Sequence[Any], int]) -> dict[str, Any]:
    items, seed = given
    config, share = stage.config, getattr(stage.config, "held_out", 0.0)
    used, held = split(items, share, seed) if share else (list(items), [])
    steps = steps_of(config, len(used))
    passes = min(steps * config.batch_size / len(used), float(math.ceil(config.epochs)))
    tokens, projected = _rows(encoder, used)
    measured, _ = _rows(encoder, held)
    reference = 1.0 if hasattr(config, "beta") else 0.0  # a preference loss looks at every pair once before it starts
    projected *= not hasattr(config, "heads")  # scalar heads need no vocabulary
    flops = sizes.forward(tokens, projected) * (passes * _factor(config) + reference) + sizes.forward(measured, 0)
    return {"steps": steps, "tokens": round(tokens * (passes + reference) + measured), "flops": flops, "bytes": _memory(config, sizes, 1)}


def _on_policy(config: Any, sizes: Sizes, encoder: Encoder, prompts: Sequence[Prompt]) -> dict[str, Any]:
    lengths = [len(encoder.prompt(item.prompt)) for item in prompts]
    row = sum(lengths) / len(lengths) + config.max_new_tokens
    if max(lengths) + config.max_new_tokens > encoder.limit:
        raise InputError(f"the longest prompt has {max(lengths)} tokens: with max_new_tokens = {config.max_new_tokens} it exceeds {encoder.limit}; "
                         "shorten it, leave it out, or raise max_length")
    models = sum(part.kind in ("model", "labeller", "judge") for part in config.reward)
    networks = 2 if config.value == "separate" else 1
    one, body = sizes.forward(row, config.max_new_tokens), sizes.forward(row, 0)
    policy_and_value = one + (networks - 1) * body
    writes = 0 if config.rollout_server else 1
    update = one * (1 + writes) + policy_and_value + models * body + config.ppo_epochs * _factor(config) * policy_and_value
    flops = config.updates * config.batch_size * update + config.normalise_on * (one * writes + models * body)
    tokens = row * (config.updates * config.batch_size * (1 + writes + networks + models + config.ppo_epochs * networks)
                    + config.normalise_on * (writes + models))
    steps = config.updates * config.ppo_epochs * math.ceil(config.batch_size / config.minibatch_size)
    copies = networks + models + (0 if config.lora_rank else 1)
    return {"steps": steps, "tokens": round(tokens), "flops": flops, "bytes": _memory(config, sizes, copies, networks)}


def _factor(config: Optimisation) -> float:
    """Cost of a training step in forward passes."""
    return (2.0 if config.lora_rank else 3.0) + float(config.gradient_checkpointing)


def _memory(config: Optimisation, sizes: Sizes, copies: int, trained: int = 1) -> float:
    changing = trained * (config.lora_rank * sizes.adapter if config.lora_rank else sizes.weights)
    activations = (8 if config.gradient_checkpointing else ACTIVATION) * sizes.hidden * sizes.layers * config.micro_tokens
    logits = 3 * 4 * sizes.vocabulary * config.micro_tokens / 2  # about half of the tokens are completion
    return LIBRARIES + 4.0 * sizes.weights * copies + 12.0 * changing + activations + logits


def matrix_rate(dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Floating-point operations a second of this machine's matrix products, measured for so long."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 4096 if device == "cuda" else 1024
    left = torch.randn(size, size, device=device, dtype=dtype)
    (left @ left).sum().item()  # the first one sets up threads
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(4):
            product = left @ left
        product.sum().item()  # waits for a GPU
        count += 4
    return 2 * size**3 * count / (time.perf_counter() - started)

