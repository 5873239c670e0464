"""A LoRA adapter in vLLM. In a file of its own: an engine that is closed takes along what a second one of its process stands on."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")

from auditor.engine.agreement import answers, questions
from auditor.models.resolve import EngineOptions, resolve


@pytest.fixture
def adapter(tmp_path):
    """A LoRA adapter of random weights, strong enough that its base model answers otherwise."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    folder = str(resolve("smollm2").folder)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.mul_(0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_answers_as_in_the_built_in_engine(adapter):
    requests = questions(("confidence",), 3)
    _, expected = answers(str(adapter), EngineOptions(), requests)
    _, base = answers("smollm2", EngineOptions(), requests)
    _, found = answers(f"vllm:{adapter}", EngineOptions(dtype="float32", engine_args=(("max_model_len", "2048"),)), requests)

    def options(replies):
        return [option.logprob for request in requests for option in replies[request.key].logprobs]

    assert options(expected)
    assert options(found) == pytest.approx(options(expected), abs=1e-3)
    assert max(abs(a - b) for a, b in zip(options(expected), options(base), strict=True)) > 0.05
