"""What a recipe would cost, from its data, a tokenizer and a configuration: no weights are loaded.

Assumptions. A forward pass takes 2 operations for every weight and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), the vocabulary
projection at completion tokens alone, attention's quadratic part neglected. A backward pass takes twice that, once where only adapters are trained;
gradient checkpointing adds a forward pass. Batches are put together as training does it, so that what rows begin with alike is computed once and
padding is counted. PPO counts sampling, the looks of policy, reference and value network, scoring models, and the passes over each batch; every
completion is counted at its full length. Training reaches ``EFFICIENCY`` of the machine's matrix rate in its type. Memory holds float32 weights of every
network, gradients and two moments of what is trained, the activations of the largest micro-batch in every network that is trained, and its logits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from auditor.errors import InputError, ModelError
from auditor.models.chat import PLAIN_TEMPLATE
from auditor.models.encoding import Encoder as Ids
from auditor.models.resolve import resolve
from auditor.schema import Demonstration, ModelSpec, Preference, Prompt, Request
from auditor.training.core.batch import Encoded, Encoder, can_share, computed_tokens, micro_batches, order
from auditor.training.core.config import Optimisation
from auditor.training.core.loop import batch_at, steps_of
from auditor.training.core.noncontextual import fitting_pairs, probe_rows, with_noncontextual
from auditor.training.core.on_policy import prompts_at
from auditor.training.data import load_demonstrations, load_preferences, load_prompts, split
from auditor.training.labeller import examples_of, fitting
from auditor.training.recipe import Recipe, Stage, method

# Measured on SmolLM2-135M, LoRA 16, float32, one thread of an AMD EPYC, operations as planned here by CPU seconds, against matrix products of 65 to 78 GFLOP/s
# in between: three steps of DPO on 16 shipped pairs 0.55 of that (the first, which sets up memory, 0.4, the others 0.67), of a reward model 0.58, an
# update of PPO (16 completions of 32 tokens, minibatches of 4, the built-in decoder) 0.55.
# In bfloat16 the same update (EPYC with AVX512-BF16, one thread, products of 470 GFLOP/s) 0.32: all that is no matrix product stays as slow.
# Other methods have not been measured in it; a reward model's passes stay float32 and are counted as if not. Since tokens stand in one line, with two
# threads, every weight and what sets up memory included: DPO 0.65 and 0.32 (float32, bfloat16), PPO as above 0.59 and 0.27.
EFFICIENCY = {"float32": 0.6, "bfloat16": 0.3}
LIBRARIES = 0.5e9  # bytes of the interpreter with torch and transformers, before the weights
# Bytes a token, layer and hidden unit, float32: autograd keeps 77 with adapters and 85 with every weight (counted by its hooks), the rest is what single
# operations and the allocator take. Measured peaks of the runs above: DPO 3.53 GiB, reward model 3.13, PPO 2.59; planned 3.53, 3.10 and 2.64. SFT of every
# weight: 3.40, planned 3.99, since gradients are not all there yet while activations are. In one line, every weight: DPO 3.75 (bfloat16 3.63), planned 4.77;
# PPO 5.67 (6.20), planned 6.07.
ACTIVATION = 137
LOGITS = 4  # float32 copies of a micro-batch's logits at once
BATCHES = 64  # batches of a stage that are put together as in training; the rest is taken to be like them
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
        self.share = can_share(model.config)
        heads = int(getattr(text, "num_attention_heads", 0) or 0)
        size = int(getattr(text, "head_dim", None) or self.hidden // max(1, heads))
        self.attended = 8 * (heads + int(getattr(text, "num_key_value_heads", None) or heads)) * size  # bytes of a query, key, value and result
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
    known: dict[str, Any] = {"examples": len(items), "topics": len({item.cluster_id for item in items})}
    if not isinstance(stage.config, Optimisation):
        return replace(plain, **known)
    encoder = Encoder(sizes, stage.config.max_length)
    costs = _on_policy(stage.config, sizes, encoder, (items, seed)) if hasattr(stage.config, "updates") else _supervised(stage, sizes, encoder, (items, seed))
    return replace(plain, **known, **costs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Micro-batches as a network computes them: ``tokens``, padding included and what rows begin with alike counted once, ``projected`` ones of them to
    the vocabulary, and the most of both in one micro-batch (of tokens, as many as would hold its memory)."""

    tokens: float = 0.0
    projected: float = 0.0
    largest: tuple[int, int] = (0, 0)

    def times(self, factor: float) -> Work:
        return Work(tokens=self.tokens * factor, projected=self.projected * factor, largest=self.largest)


def _work(batches: Iterable[Sequence[Sequence[Encoded]]], budget: int, sizes: Sizes) -> Work:
    """The work of one pass over ``batches`` of examples (of a row, or of both sides of a pair), cut into micro-batches as training cuts them."""
    groups = [[row for example in group for row in example] for batch in batches
              for group in micro_batches(batch, lambda example: len(example) * max(row.length for row in example), budget)]
    tokens = [computed_tokens(rows, share=sizes.share) for rows in groups]
    projected = [sum(len(row.completion) for row in rows) for rows in groups]
    # Attention lays a token out once more for every row that it stands in.
    further = sizes.attended / (ACTIVATION * sizes.hidden)
    held = [count + round(further * (computed_tokens(rows) - count)) for count, rows in zip(tokens, groups, strict=True)]
    return Work(tokens=sum(tokens), projected=sum(projected), largest=(max(held, default=0), max(projected, default=0)))


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` places of ``count``, evenly spread."""
    return [place * count // most for place in range(most)] if count > most else list(range(count))


def _rows(encoder: Encoder, item: Preference | Demonstration) -> tuple[Encoded, ...]:
    if isinstance(item, Preference):
        return encoder.pair(item.id, item.prompt, item.chosen), encoder.pair(item.id, item.prompt, item.rejected)
    return (encoder.pair(item.id, item.prompt, item.completion),)


def _supervised(stage: Stage, sizes: Sizes, encoder: Encoder, given: tuple[Sequence[Any], int]) -> dict[str, Any]:
    items, seed = given
    config, share = stage.config, getattr(stage.config, "held_out", 0.0)
    part, rest = split(items, share, seed) if share else (list(items), [])
    asks = stage.method == "labeller"
    fits = fitting(sizes, config, seed) if asks else fitting_pairs(encoder)
    part = with_noncontextual(part, getattr(config, "noncontextual", 0), seed, f"stage {stage.name!r}", fits)
    used, held = (_asked(sizes, given, config, seed) if asks else [_rows(encoder, item) for item in given] for given in (part, rest))
    steps = steps_of(config, len(used))
    seen = [[used[index] for index in batch_at(config, len(used), seed, step)] for step in _spread(steps, BATCHES)]
    trained = _work(seen, config.micro_tokens, sizes).times(steps / len(seen))
    # A preference loss looks at every pair once before it starts, a reward or a labeller at those held out; sft leaves them alone.
    looked_at = used if hasattr(config, "beta") else [] if stage.method == "sft" else held
    some = [looked_at[index] for index in _spread(len(looked_at), BATCHES * 16)]
    looked = _work([some], 2 * config.micro_tokens, sizes).times(len(looked_at) / max(1, len(some)))
    if stage.method == "reward":
        probe = [(row,) for row in probe_rows(encoder, rest, seed)[1]]
        probed = _work([[probe[index] for index in _spread(len(probe), BATCHES * 16)]], config.micro_tokens, sizes)
        looked = replace(looked, tokens=looked.tokens + probed.times(max(1.0, len(probe) / (BATCHES * 16))).tokens)
    projects = float(not hasattr(config, "heads"))  # scalar heads need no vocabulary
    flops = sizes.forward(trained.tokens, projects * trained.projected) * _factor(config) + sizes.forward(looked.tokens, projects * looked.projected)
    largest = (trained.largest[0], projects * trained.largest[1])
    return {"steps": steps, "tokens": round(trained.tokens + looked.tokens), "flops": flops, "bytes": _memory(config, sizes, (1, 1), largest)}


def _asked(sizes: Any, given: Sequence[Preference], config: Any, seed: int) -> list[tuple[Encoded, ...]]:
    """The questions that a labeller is asked about pairs, two of each example."""
    return [tuple(Encoded(id="", prompt=ids, completion=()) for ids in example.prompts) for example in examples_of(sizes, given, config, seed)]


def _on_policy(config: Any, sizes: Sizes, encoder: Encoder, given: tuple[Sequence[Prompt], int]) -> dict[str, Any]:
    prompts, seed = [encoder.prompt(item.prompt) for item in given[0]], given[1]
    longest = max(map(len, prompts))
    if longest + config.max_new_tokens > encoder.limit:
        raise InputError(f"the longest prompt has {longest} tokens: with max_new_tokens = {config.max_new_tokens} it exceeds {encoder.limit}; "
                         "shorten it, leave it out, or raise max_length")
    models = sum(part.kind in ("model", "labeller", "judge") for part in config.reward)
    networks = 2 if config.value == "separate" else 1
    looked, trained, repeats = _experience(config, prompts, seed, sizes)
    row = sum(map(len, prompts)) / len(prompts) + config.max_new_tokens
    count, written = config.updates * config.batch_size + config.normalise_on, config.max_new_tokens
    writes = 0 if config.rollout_server else 1  # what a server computes is not this machine's
    flops = count * (writes * sizes.forward(row, written) + models * sizes.forward(row, 0))
    for work, passes, heads in ((looked, 1.0, 2), (trained, _factor(config), 1)):  # policy and reference, then the policy alone, project
        flops += passes * (sizes.forward(heads * work.tokens, heads * work.projected) + (networks - 1) * sizes.forward(work.tokens, 0))
    tokens = count * row * (writes + models) + looked.tokens * (1 + networks) + trained.tokens * networks
    if repeats:  # the look is the first step's pass, too
        flops -= sizes.forward(looked.tokens, looked.projected) + (networks - 1) * sizes.forward(looked.tokens, 0)
        tokens -= looked.tokens * networks
    steps = config.updates * config.ppo_epochs * math.ceil(config.batch_size / config.minibatch_size)
    copies = networks + models + (0 if config.lora_rank else 1)
    return {"steps": steps, "tokens": round(tokens), "flops": flops, "bytes": _memory(config, sizes, (copies, networks), trained.largest)}


def _experience(config: Any, prompts: Sequence[tuple[int, ...]], seed: int, sizes: Sizes) -> tuple[Work, Work, bool]:
    """The work of a look at all completions, that of the passes over them in training, and whether the first of these is the look itself (in one
    process). What is not written yet is taken at full length, each another."""
    looks, minibatches = [], []
    updates = _spread(config.updates, BATCHES)
    for update in updates:
        places = prompts_at(len(prompts), seed, update, config.batch_size)
        rows = [(Encoded(id="", prompt=prompts[index], completion=(-1 - number,) * config.max_new_tokens),) for number, (_, index) in enumerate(places)]
        looks.append(rows)
        for epoch in range(config.ppo_epochs):
            shuffled = [rows[index] for index in order(len(rows), seed, (update << 8) + epoch + 1)]
            minibatches += [shuffled[start:start + config.minibatch_size] for start in range(0, len(rows), config.minibatch_size)]
    scale = config.updates / len(updates)
    whole = all(len(micro_batches(rows, lambda row: row[0].length, config.micro_tokens)) == 1 for rows in looks)
    work = [_work(batches, budget, sizes).times(scale) for batches, budget in ((looks, 2 * config.micro_tokens), (minibatches, config.micro_tokens))]
    return work[0], work[1], whole and config.minibatch_size >= config.batch_size


def _factor(config: Optimisation) -> float:
    """Cost of a training step in forward passes."""
    return (2.0 if config.lora_rank else 3.0) + float(config.gradient_checkpointing)


def _memory(config: Optimisation, sizes: Sizes, networks: tuple[int, int], largest: tuple[float, float]) -> float:
    """Bytes of so many networks in memory and in training; ``largest``: tokens of the largest micro-batch, and those that are projected."""
    copies, trained = networks
    changing = trained * (config.lora_rank * sizes.adapter if config.lora_rank else sizes.weights)
    activations = (8 if config.gradient_checkpointing else ACTIVATION) * sizes.hidden * sizes.layers * largest[0] * trained
    logits = LOGITS * 4 * sizes.vocabulary * largest[1]
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

