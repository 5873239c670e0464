"""Tensors from one step of TRL's trainers on a tiny random model, which the tests hold our losses against.

    make bench-ppo-env && .venv-ppo/bin/python benchmarks/trl_fixtures.py tests/fixtures/trl.safetensors

TRL 1.12.0 is the last version with a PPO trainer. Each trainer runs as it is; the local variables of its own step are read at the moment
it calls backward, so that what is stored is what it computed, padding and all.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import metadata
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer
from trl.experimental import ppo

WORDS = ["<pad>", "<end>", *(f"w{i}" for i in range(30))]
PAIRS = [("w1 w2 w3", "w4 w5", "w6 w7 w8 w9"), ("w10 w11", "w12 w13 w14 w15 w16", "w17"), ("w18", "w19 w20 w21", "w22 w23"), ("w24 w25 w2", "w3", "w4 w5 w6")]
FOUND: dict[str, torch.Tensor] = {}


def tokenizer() -> PreTrainedTokenizerFast:
    plain = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", pad_token="<pad>", padding_side="left")


def config(**more: Any) -> LlamaConfig:
    return LlamaConfig(vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                       eos_token_id=1, pad_token_id=0, bos_token_id=None, initializer_range=0.5, **more)


def model(seed: int, kind: Any = LlamaForCausalLM, **more: Any) -> Any:
    torch.manual_seed(seed)
    return kind(config(**more))


def keep(prefix: str, frame: dict[str, Any], names: list[str]) -> None:
    for name in names:
        FOUND.setdefault(f"{prefix}/{name}", torch.as_tensor(frame[name]).detach().clone().float().contiguous())


def caller(depth: int = 2) -> dict[str, Any]:
    return sys._getframe(depth).f_locals


def from_ppo(folder: str) -> None:
    module = sys.modules[ppo.PPOTrainer.__module__]
    plain_whiten = module.masked_whiten

    def whiten(values: torch.Tensor, mask: torch.Tensor, shift_mean: bool = True) -> torch.Tensor:
        frame = caller()
        keep("ppo", frame, ["logprobs", "ref_logprobs", "values", "rewards", "scores", "padding_mask", "padding_mask_p1", "advantages", "returns"])
        result = plain_whiten(values, mask, shift_mean)
        FOUND.setdefault("ppo/whitened", result.clone())
        return result

    module.masked_whiten = whiten
    arguments = ppo.PPOConfig(output_dir=folder, per_device_train_batch_size=4, total_episodes=8, num_ppo_epochs=3, response_length=6, learning_rate=2e-2,
                              stop_token="eos", missing_eos_penalty=1.0, num_sample_generations=0,
                              report_to=[], bf16=False, gradient_checkpointing=False, use_cpu=True)
    prompts = Dataset.from_list([{"input_ids": tokenizer()(text)["input_ids"]} for text, _, _ in PAIRS])
    trainer = ppo.PPOTrainer(args=arguments, processing_class=tokenizer(), model=model(0), ref_model=model(1), train_dataset=prompts,
                             reward_model=model(2, LlamaForSequenceClassification, num_labels=1),
                             value_model=model(3, LlamaForSequenceClassification, num_labels=1), eval_dataset=prompts)
    plain_backward = trainer.accelerator.backward
    steps = [0]

    def backward(loss: torch.Tensor, **more: Any) -> None:
        if steps[0] in (0, 2):  # the first epoch, where nothing has moved, and the third, where ratios are clipped
            frame = caller()
            keep(f"ppo/epoch{steps[0]}", frame, ["mb_advantage", "mb_logprobs", "new_logprobs", "mb_values", "vpred", "mb_return", "pg_loss", "vf_loss", "loss",
                                                "micro_batch_inds", "ratio"])
            chosen = frame["micro_batch_inds"]
            FOUND.setdefault(f"ppo/epoch{steps[0]}/mask", (~frame["padding_mask"][chosen]).float())
            FOUND.setdefault(f"ppo/epoch{steps[0]}/mask_p1", (~frame["padding_mask_p1"][chosen]).float())
        steps[0] += 1
        plain_backward(loss, **more)

    trainer.accelerator.backward = backward
    trainer.train()


def from_dpo(folder: str) -> None:
    rows = Dataset.from_list([{"prompt": prompt, "chosen": " " + chosen, "rejected": " " + rejected} for prompt, chosen, rejected in PAIRS])
    trainer = DPOTrainer(model=model(0), ref_model=model(1), processing_class=tokenizer(), train_dataset=rows,
                         args=DPOConfig(output_dir=folder, per_device_train_batch_size=4, max_steps=1, beta=0.3, report_to=[], bf16=False,
                                        gradient_checkpointing=False, use_cpu=True))
    plain = trainer.accelerator.gather_for_metrics

    def gather(value: Any) -> Any:
        frame = caller()
        if "per_sequence_loss" in frame and "chosen_logps" in frame:
            keep("dpo", frame, ["chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps", "per_sequence_loss"])
        return plain(value)

    trainer.accelerator.gather_for_metrics = gather
    trainer.train()


def from_reward(folder: str) -> None:
    rows = Dataset.from_list([{"chosen": f"{prompt} {chosen}", "rejected": f"{prompt} {rejected}", "margin": 0.5 * index}
                              for index, (prompt, chosen, rejected) in enumerate(PAIRS)])
    trainer = RewardTrainer(model=model(2, LlamaForSequenceClassification, num_labels=1), processing_class=tokenizer(), train_dataset=rows,
                            args=RewardConfig(output_dir=folder, per_device_train_batch_size=4, max_steps=1, center_rewards_coefficient=0.01, report_to=[],
                                              bf16=False, gradient_checkpointing=False, use_cpu=True))
    plain = trainer.accelerator.gather_for_metrics

    def gather(value: Any) -> Any:
        frame = caller()
        if "rewards_chosen" in frame:
            keep("reward", frame, ["rewards_chosen", "rewards_rejected", "loss"])
            FOUND.setdefault("reward/margin", frame["inputs"]["margin"].float())
        return plain(value)

    trainer.accelerator.gather_for_metrics = gather
    trainer.train()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for run in (from_ppo, from_dpo, from_reward):
            run(folder)
    versions = {name: metadata.version(name) for name in ("trl", "torch", "transformers")}
    save_file(FOUND, sys.argv[1], metadata=versions)
    print(f"{len(FOUND)} tensors from {versions} in {sys.argv[1]}")


if __name__ == "__main__":
    main()
