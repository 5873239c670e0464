"""A model as one plain folder of safetensors, for programs that load no adapters and no GGUF: a server, another trainer, a converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from auditor.errors import InputError
from auditor.models.identity import LINEAGE, lineage, weights_hash
from auditor.models.resolve import EngineOptions, open_model, resolve
from auditor.training.core.checkpoint import write_folder, write_json
from auditor.training.core.weights import HEAD

DTYPES = ("float32", "bfloat16", "float16")


def merge(uri: str, out: Path, dtype: str = "float32") -> dict[str, Any]:
    """Write the model that ``uri`` names to the folder ``out``, an adapter added to its base's weights (W + α/r · B A, Hu et al. 2021, section 4.1).

    The sum is taken in float32, as the audit takes it, and rounded to ``dtype`` once, at the end. The lineage travels along, with what was merged.
    Returns the folder, the merged weights' hash, the hash before and the bytes written.

    Raises InputError for a dtype that is not among DTYPES, an ``out`` that exists, and a model that is not made of weights (a server, a recording, a
    reward model); ModelError where the weights cannot be read; TrainingError where the disk refuses.
    """
    from auditor.models.hf import HFModel

    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; pass one of {', '.join(DTYPES)}")
    if uri.startswith(("openai:", "recorded:", "vllm:", "ray:")):
        raise InputError(f"{uri} names no weights of its own; pass the folder, adapter or GGUF file itself")
    try:
        there = out.exists() or out.is_symlink()
    except (OSError, ValueError) as error:
        raise InputError(f"{str(out)[:80]!r} is no usable path ({error}); pass a folder that is not there yet") from None
    if there:
        raise InputError(f"{out} exists already; pass a folder that is not there yet, nothing is replaced")
    checkpoint = resolve(uri)
    if any(folder is not None and (folder / HEAD).is_file() for folder in (checkpoint.folder, checkpoint.adapter)):
        raise InputError(f"{uri} is a reward model, whose score heads no text generator has; pass a policy")
    before, story = weights_hash(checkpoint), lineage(checkpoint)
    engine = open_model(uri, EngineOptions(dtype="float32", pack=False))
    assert isinstance(engine, HFModel)
    model = engine.model.to(getattr(torch, dtype))
    earlier = {"merged_from": story["merged_from"]} if "merged_from" in story else {}
    merged_from = {"uri": uri, "weights_hash": before, "dtype": dtype, **earlier}

    def fill(target: Path) -> None:
        model.save_pretrained(str(target), safe_serialization=True)
        engine.tokenizer.save_pretrained(str(target))
        write_json(target / LINEAGE, story | {"merged_from": merged_from})

    write_folder(out, fill, "try again")
    return {"path": str(out), "weights_hash": weights_hash(resolve(str(out))), "merged_from": before,
            "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file())}
