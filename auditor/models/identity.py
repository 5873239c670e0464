"""What makes a checkpoint the same one: a hash over all files that decide its numbers, and what it says of its own making; and versions of the code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from auditor.errors import ModelError
from auditor.items import file_sha256
from auditor.models.resolve import Checkpoint

SETTINGS = ("config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
LINEAGE = "auditor_lineage.json"
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
# Who wrote a settings file and where its parts lay; a chat template has its own hash, wherever it is kept.
PASSING = frozenset(("_name_or_path", "name_or_path", "base_model_name_or_path", "transformers_version", "peft_version", "chat_template"))


def installed(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages that are installed; absent ones are left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def weights_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 that is the same for two checkpoints with the same weights, configuration and tokenizer, under whatever path.

    It is taken over one line ``place/name:sha256`` for each file there is, the base's (place ``base``) and then the adapter's: all
    ``*.safetensors`` and vocabulary files byte by byte, settings files as sorted JSON without the keys that name a path, the
    writing library's version or the chat template (which ``template_hash`` covers). ``auditor_lineage.json`` and the rest do not count.
    Raises ModelError where a file cannot be read.
    """
    digest = hashlib.sha256()
    for place, folder in (("base", checkpoint.folder), ("adapter", checkpoint.adapter)):
        if folder is None:
            continue
        try:
            for path in [*sorted(folder.glob("*.safetensors")), *(folder / name for name in VOCABULARY if (folder / name).is_file())]:
                digest.update(f"{place}/{path.name}:{file_sha256(path)}\n".encode())
            for path in (folder / name for name in SETTINGS if (folder / name).is_file()):
                digest.update(f"{place}/{path.name}:{_settings_sha256(path)}\n".encode())
        except OSError as error:
            raise ModelError(f"{folder} cannot be read: {error.strerror or error}; make its files readable") from None
    return digest.hexdigest()


def _settings_sha256(path: Path) -> str:
    content = path.read_bytes()
    try:
        found = json.loads(content)
    except ValueError:
        return hashlib.sha256(content).hexdigest()
    if isinstance(found, dict):
        content = json.dumps({key: value for key, value in found.items() if key not in PASSING}, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def lineage(checkpoint: Checkpoint) -> dict[str, Any]:
    """What ``auditor_lineage.json`` beside the weights says of their training; the adapter's before the base's. Raises ModelError where it is broken."""
    return first_lineage((checkpoint.adapter, checkpoint.folder))


def first_lineage(folders: Iterable[Path | None]) -> dict[str, Any]:
    """The first lineage among ``folders``, {} where none has one. Raises ModelError where it is broken."""
    for folder in folders:
        path = folder / LINEAGE if folder else None
        if path is not None and path.is_file():
            try:
                return dict(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise ModelError(f"{path} cannot be read: {error}; repair or remove it") from None
    return {}
