"""From a checkpoint to a network that can be trained, and back to a checkpoint that can be audited."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from auditor.errors import InputError, ModelError
from auditor.models.processor import bfloat16
from auditor.models.resolve import resolve
from auditor.training.core.checkpoint import write_folder
from auditor.training.core.config import Optimisation
from auditor.training.core.nets import PolicyNet, ScalarNet, add_adapter
from auditor.training.core.stage import StageRun, seeded

HEAD, REWARD = "reward_head.safetensors", "auditor_reward.json"


def policy_net(engine: Any, config: Optimisation, seed: int) -> PolicyNet:
    """The engine's model, made trainable as ``config`` says: every weight, or adapters drawn from ``seed``.

    Raises InputError for a model whose logits are not the plain projection of its hidden states (scaled or capped ones): what is trained would
    not be what samples.
    """
    _check_head(engine.model)
    return PolicyNet(_trainable(engine, config, seed))


@torch.no_grad()
def _check_head(model: Any) -> None:
    ids = torch.arange(1, 9, device=model.device)[None]
    whole = model(ids, use_cache=False).logits.float()
    plain = model.get_output_embeddings()(model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state).float()
    if bool((whole - plain).abs().max() > 1e-3 * (1 + whole.abs().max())):
        raise InputError(f"{type(model).__name__} scales or caps its logits after the projection, which training does not follow yet; pass another model")


def scalar_net(engine: Any, config: Optimisation, seed: int, heads: int = 1, *, zero: bool = False) -> ScalarNet:
    """The engine's body with new scalar heads. The vocabulary projection is frozen: nothing reads it."""
    model = _trainable(engine, config, seed)
    with seeded(seed + 1):
        net = ScalarNet(model, heads, zero=zero)
    embeddings = net.lm.get_output_embeddings()
    if embeddings is not None and embeddings.weight is not net.lm.get_input_embeddings().weight:
        embeddings.requires_grad_(False)
    return net


def check_arithmetic(dtype: str, device: str) -> None:
    """Raise InputError for a type that the device cannot compute in: seen on such a processor, a backward pass of 270 s where float32 takes 8."""
    if dtype == "bfloat16" and device == "cpu" and bfloat16() == "none":
        raise InputError("dtype = \"bfloat16\": this processor has no bfloat16 arithmetic and would be many times slower; set dtype = \"float32\"")


def _trainable(engine: Any, config: Optimisation, seed: int) -> Any:
    check_arithmetic(config.dtype, engine.device)
    model = engine.model
    without_dropout(model)
    if config.lora_rank:
        with seeded(seed):
            model = add_adapter(model, config.lora_rank, config.lora_alpha)
    else:
        model.requires_grad_(True)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()  # checkpointing is active in this mode only; without dropout it changes nothing else
    return model


def without_dropout(model: nn.Module) -> None:
    """Set every dropout probability to 0: a policy ratio is 1 before the first step only without it."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]


def _base(start: str, folder: Path) -> str:
    """How an adapter in ``folder`` names its base: an earlier stage's checkpoint relatively, so that a run's folder can be moved as a whole."""
    if start == "smollm2" or start.startswith("hf:"):
        return start
    place, run = Path(start).expanduser().resolve(), folder.resolve().parents[1]
    return os.path.relpath(place, folder.resolve()) if place.is_relative_to(run) else str(place)


def save_policy(engine: Any, net: PolicyNet, start: str, folder: Path) -> None:
    """Write a checkpoint that ``auditor run`` opens: an adapter where one was trained on a plain model, else the whole weights, float32."""
    adapted = hasattr(net.model, "merge_and_unload")
    as_adapter = adapted and resolve(start).adapter is None

    def fill(target: Path) -> None:
        if as_adapter:
            for config in net.model.peft_config.values():
                config.base_model_name_or_path = _base(start, folder)
            net.model.save_pretrained(str(target), safe_serialization=True, save_embedding_layers=False)
        else:
            model = net.model.merge_and_unload() if adapted else net.model
            model.save_pretrained(str(target), safe_serialization=True)
        engine.tokenizer.save_pretrained(str(target))

    write_folder(folder, fill)


def save_reward(engine: Any, net: ScalarNet, facts: dict[str, Any], folder: Path) -> None:
    """Write a reward model: the body's weights (adapters merged), the heads, and ``facts`` (aggregate, mean and sd on reference samples)."""
    from safetensors.torch import save_file

    def fill(target: Path) -> None:
        model = net.model.merge_and_unload() if hasattr(net.model, "merge_and_unload") else net.model
        model.save_pretrained(str(target), safe_serialization=True)
        engine.tokenizer.save_pretrained(str(target))
        save_file({"weight": net.head.weight.detach().contiguous().cpu(), "bias": net.head.bias.detach().cpu()}, target / HEAD)
        (target / REWARD).write_text(json.dumps({"heads": net.head.out_features, **facts}, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    write_folder(folder, fill)


def load_reward(run: StageRun, uri: str) -> tuple[Any, ScalarNet, dict[str, Any]]:
    """Engine, network and facts of a reward model that :func:`save_reward` wrote. Raises ModelError for any other checkpoint."""
    from safetensors.torch import load_file

    folder = Path(uri).expanduser()
    if not (folder / HEAD).is_file() or not (folder / REWARD).is_file():
        raise ModelError(f"{uri} is no reward model: it holds no {HEAD} and {REWARD}; pass the folder that a reward stage wrote")
    try:
        facts = dict(json.loads((folder / REWARD).read_text(encoding="utf-8")))
        tensors = load_file(folder / HEAD)
    except Exception as error:  # safetensors has an exception type of its own for a damaged file
        raise ModelError(f"{folder} cannot be read: {error}") from None
    engine = run.open(str(folder))
    net = ScalarNet(engine.model, int(facts["heads"]))
    with torch.no_grad():
        net.head.weight.copy_(tensors["weight"])
        net.head.bias.copy_(tensors["bias"])
    net.to(engine.device).requires_grad_(False)
    return engine, net, facts
