"""Data sets on the Hugging Face hub: their Parquet files, fetched into the hub's own cache. No code of a data set is run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from auditor.errors import InputError, UnknownNameError

CONVERTED = "refs/convert/parquet"  # the hub's own Parquet copy of every public data set: CONFIG/SPLIT/0000.parquet


def dataset_files(name: str, config: str = "") -> list[Path]:
    """Local paths of the Parquet files of ``org/name[:split]`` (split ``train`` unless named).

    Raises InputError where the hub cannot be reached or has no such data set, split or config.
    """
    import logging

    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    repo, _, split = name.partition(":")
    split = split or "train"
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        folder = _snapshot(repo, split, config)
    except HFValidationError:
        raise InputError(f"{repo!r} is no hub id; write hf:org/name or hf:org/name:split") from None
    except RepositoryNotFoundError:
        raise InputError(f"the hub has no data set {repo!r} that this machine may read; check the name, or log in") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise InputError(f"the hub cannot be reached for {repo!r}: {type(error).__name__}: {reason}; pass a local file") from None
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")]
    return [folder / file for file in choose(files, split, config, repo)]


def _snapshot(repo: str, split: str, config: str) -> Path:
    """Local folder of the hub's Parquet copy, or of the repository itself where there is none: only the split's files (and config's, if named)."""
    import huggingface_hub
    from huggingface_hub.errors import RevisionNotFoundError

    patterns = [f"{config}*{split}*.parquet", f"data/{split}*.parquet"]
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    try:
        return Path(huggingface_hub.snapshot_download(repo, repo_type="dataset", revision=CONVERTED, allow_patterns=patterns, local_files_only=offline))
    except RevisionNotFoundError:
        return Path(huggingface_hub.snapshot_download(repo, repo_type="dataset", allow_patterns=patterns, local_files_only=offline))


def choose(files: Sequence[str], split: str, config: str, repo: str) -> list[str]:
    """The Parquet files of one split and config, in order.

    Two layouts are known: CONFIG/SPLIT/NNNN.parquet, and [FOLDER/]SPLIT-*.parquet (its folder ``data`` is no config).
    Raises InputError where there are none, or several configs and none is named.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for file in sorted(files):
        if file.endswith(".parquet"):
            parts = file.split("/")
            named = parts[-1].removesuffix(".parquet").split("-")[0]
            if named.isdigit() and len(parts) >= 3:
                place = (parts[-3], parts[-2].removeprefix("partial-"))
            else:
                place = (parts[0] if len(parts) > 1 and parts[0] != "data" else "default", named)
            found.setdefault(place, []).append(file)
    if not found:
        raise InputError(f"the hub's {repo!r} has no Parquet files of a split {split!r}; name another (hf:org/name:split), or download it and pass a file")
    configs = sorted({place[0] for place in found})
    config = config or ("default" if "default" in configs else configs[0] if len(configs) == 1 else "")
    if not config:
        raise InputError(f"the hub's {repo!r} has several configs; add ?config= and one of {', '.join(configs)}")
    if config not in configs:
        raise UnknownNameError(f"config of {repo!r}", config, configs)
    if (config, split) not in found:
        raise UnknownNameError(f"split of {repo!r}", split, [place[1] for place in found if place[0] == config])
    return found[config, split]
