"""Without vLLM the name says what to install."""

from __future__ import annotations

import importlib.util

import pytest

from auditor.errors import InputError, ModelError
from auditor.models.resolve import EngineOptions, absolute, open_model
from auditor.models.vllm import parsed


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_the_extra_is_named(tiny_checkpoint):
    with pytest.raises(ModelError, match=r"alignment-auditor\[vllm\]"):
        open_model(f"vllm:{tiny_checkpoint}")


def test_names(tiny_checkpoint, monkeypatch):
    monkeypatch.chdir(tiny_checkpoint.parent)
    assert absolute(f"vllm:{tiny_checkpoint.name}") == f"vllm:{tiny_checkpoint}"
    with pytest.raises(ModelError, match="no model at"):
        open_model("vllm:none/there")
    for other in (str(tiny_checkpoint), "openai:m@http://127.0.0.1:9/v1", "recorded:none.jsonl"):
        with pytest.raises(ModelError, match="is for a model written vllm:"):
            open_model(other, EngineOptions(engine_args=(("x", "1"),)))


def test_engine_arguments_are_read_as_typed():
    assert [parsed(text) for text in ("true", "2", "0.5", "text", '{"a": 1}', "False")] == [True, 2, 0.5, "text", {"a": 1}, False]
    with pytest.raises(InputError, match="no valid JSON"):
        parsed("{a")
