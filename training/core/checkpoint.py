"""Checkpoints of a stage in progress: safetensors for tensors, JSON for the rest, written beside and renamed into place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from auditor.errors import TrainingError

NAME = "step-{:06d}"


def write_folder(target: Path, fill: Callable[[Path], None], then: str = "go on with --resume") -> None:
    """Let ``fill`` write a folder that appears at ``target`` whole or not at all. Raises TrainingError where the disk refuses, which ends on ``then``."""
    partial = target.with_name(target.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        fill(partial)
        for path in sorted(partial.rglob("*")):
            if path.is_file():
                _sync(path)
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
        _sync(target.parent)
    except Exception as error:  # safetensors and tokenizers report a full disk in error types of their own
        shutil.rmtree(partial, ignore_errors=True)
        if not isinstance(error, OSError) and "I/O error" not in str(error) and "os error" not in str(error):
            raise
        raise TrainingError(f"{target} cannot be written: {error}; free some space and {then}") from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write a small file so that a reader finds the old or the new one, never a part. Raises TrainingError where the disk refuses."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        _sync(partial)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(f"{path} cannot be written: {error}; free some space and go on with --resume") from None


class Checkpoints:
    """The last ``keep`` checkpoints under ``folder``."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Path:
        from safetensors.torch import save_file

        def fill(folder: Path) -> None:
            save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, folder / "tensors.safetensors")
            (folder / "state.json").write_text(json.dumps({**state, "step": step}, allow_nan=False), encoding="utf-8")

        target = self.folder / NAME.format(step)
        write_folder(target, fill)
        for old in self.all()[:-self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.suffix != ".partial" and (path / "state.json").is_file())

    def latest(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Tensors and state of the newest checkpoint, or None. Raises TrainingError where it cannot be read."""
        from safetensors.torch import load_file

        found = self.all()
        if not found:
            return None
        try:
            return load_file(found[-1] / "tensors.safetensors"), json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
        except Exception as error:  # safetensors has an exception type of its own for a damaged file
            raise TrainingError(f"{found[-1]} cannot be read ({error}); remove that folder and resume from the one before") from None

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
