"""Where converted weights live, and how they get there: atomic, hash-checked, safe for two processes at once."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from auditor.errors import AuditorError, ModelError
from auditor.items import file_sha256

logger = logging.getLogger(__name__)

MANIFEST = "auditor_conversion.json"


def cache_folder() -> Path:
    """The user's cache: ``$AUDITOR_CACHE``, else the platform's cache folder."""
    import platformdirs

    return Path(os.environ.get("AUDITOR_CACHE") or platformdirs.user_cache_dir("auditor"))


def converted(source: Path, convert: Callable[[Path, Path], None]) -> Path:
    """Return the folder that ``convert(source, folder)`` made, making it first if it is absent or damaged.

    The folder is named by the SHA-256 of the source; a manifest holds the hash of every file. Two processes that
    start together wait for one another; a killed one leaves only a temporary folder behind.

    Raises ModelError where the cache cannot be written.
    """
    import filelock

    digest = file_sha256(source)
    folder = cache_folder() / "converted" / digest[:24]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(str(folder) + ".lock"):
            if not intact(folder):
                _make(source, digest, folder, convert)
    except OSError as error:
        raise ModelError(f"cannot write the model cache {folder.parent}: {error.strerror or error}; set AUDITOR_CACHE to a folder with 1 GiB free") from None
    return folder


def _make(source: Path, digest: str, folder: Path, convert: Callable[[Path, Path], None]) -> None:
    logger.info("converting %s to safetensors, once (about 20 s) ...", source.name)
    work = Path(tempfile.mkdtemp(prefix=f"{digest[:8]}-", dir=folder.parent))
    try:
        convert(source, work)
        hashes = {path.name: file_sha256(path) for path in sorted(work.iterdir()) if path.is_file()}
        (work / MANIFEST).write_text(json.dumps({"source": source.name, "source_sha256": digest, "files": hashes}, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(work, folder)
    except (AuditorError, OSError):
        raise
    except Exception as error:  # the GGUF reader raises many kinds; all mean the same to the user
        raise ModelError(f"cannot convert {source}: {type(error).__name__}: {error}; pass a GGUF file of a supported causal language model") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def intact(folder: Path) -> bool:
    """True where the folder's manifest is there and every file has the hash it names."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return all(file_sha256(folder / name) == digest for name, digest in manifest["files"].items())
    except (OSError, ValueError, KeyError):
        return False
