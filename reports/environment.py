"""The facts that make a run repeatable: settings, software, hardware, hashes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from auditor.reports import numbers
from auditor.reports.text import humanise
from auditor.schema import ModelSpec
from auditor.store import StoredRun

Facts = tuple[tuple[str, str], ...]


def date(iso: str) -> str:
    """``21 November 2026, 10:41 UTC``; a text that is no ISO date stays as it is."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    moment = moment.astimezone(UTC) if moment.tzinfo else moment
    return f"{moment.day} {moment:%B %Y, %H:%M}{' UTC' if moment.tzinfo else ''}"


def to_the_second(iso: str) -> str:
    """A stored time without its fraction of a second, which is there to tell runs of one second apart."""
    return re.sub(r"\.\d+", "", iso)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return numbers.count(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {text}" for name, text in _facts(value))
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, int, float)) for item in value):
        return ", ".join(_text(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _facts(pairs: Mapping[str, Any]) -> Facts:
    return tuple((humanise(key), _text(value)) for key, value in pairs.items() if value not in (None, "", (), [], {}))


def model_facts(model: ModelSpec) -> Facts:
    return _facts(
        {
            "model": model.uri,
            "revision": model.revision,
            "number_format": model.dtype,
            "engine": model.engine,
            "flags": "; ".join(model.flags),
        }
    ) + lineage_facts(model.lineage)


def lineage_facts(lineage: Mapping[str, Any]) -> Facts:
    """How a checkpoint was made, as the file beside it says: methods in their order, where it started, what it was trained on and for."""
    return _facts(
        {
            "training": " → ".join(map(str, lineage.get("history", ()))),
            "recipe": lineage.get("recipe"),
            "trained_from": _each(lineage.get("parents", ()), "uri", "weights_hash"),
            "training_data": _each([{"uri": uri, "sha256": digest} for uri, digest in lineage.get("data_hashes", {}).items()], "uri", "sha256"),
            "rewards_that_shaped_it": _each(lineage.get("rewards", ()), "name", "weight", "uri", "weights_hash"),
            "judges_that_shaped_it": _each(lineage.get("judges", ()), "name", "uri", "weights_hash"),
            "steps_of_its_last_stage": lineage.get("steps"),
            "training_seed": str(lineage.get("seed", "")),
            "training_notes": "; ".join(map(str, lineage.get("notes", ()))),
        }
    )


def _each(items: Sequence[Any], *keys: str) -> str:
    """Each item by its first key, the others in brackets, hashes cut to 12 digits; an item that is a plain text is itself."""
    return "; ".join(_item(item, keys) if isinstance(item, Mapping) else str(item) for item in items)


def _item(item: Mapping[str, Any], keys: Sequence[str]) -> str:
    known = [key for key in keys if item.get(key) not in (None, "")]
    values = {key: str(item[key])[:12] if key in ("weights_hash", "sha256") else _text(item[key]) for key in known}
    if not known:
        return _text(item)
    first = values.pop(known[0])
    details = ", ".join(text if name == "uri" else f"{name.replace('_', ' ')} {text}" for name, text in values.items())
    return f"{first} ({details})" if details else first


def settings(run: StoredRun) -> Facts:
    """What was asked for."""
    spec = run.spec
    suites = ", ".join(f"{name} {version}" for name, version in zip(spec.suites, spec.suite_versions, strict=False))
    return _facts(
        {
            "run": run.run_id,
            "status": run.status,
            "started": date(run.created),
            "finished": date(run.finished) if run.finished else None,
            "profile": spec.profile,
            "limit": spec.limit,
            "suites": suites,
            "baseline_run": spec.baseline,
            "system_prompt": spec.system,
            "sampling": dict(spec.sampling),
            "epochs": spec.epochs,
            "seed": str(spec.seed),
            "error": run.error,
        }
    )


def setup(run: StoredRun) -> Facts:
    """What it ran on."""
    return model_facts(run.spec.model) + _facts(run.hardware)


def packages(run: StoredRun) -> Facts:
    return tuple(sorted((name, str(version)) for name, version in run.packages.items()))


def hashes(run: StoredRun) -> Facts:
    """What was audited, exactly."""
    model = run.spec.model
    shown = {
        "Weights": model.weights_hash,
        "Chat template": model.template_hash,
        "Run specification": run.spec.hash,
        "Head of the hash chain": run.head or "none: the run is not sealed",
        "Source commit": run.git_commit,
    }
    items = tuple((f"Items of {suite} ({file})", digest) for suite, file, digest in run.spec.items)
    return tuple((name, value or "not recorded") for name, value in shown.items()) + items


def not_evidence(run: StoredRun) -> str:
    """Why the run is no evidence; empty where it is."""
    spec = run.spec
    causes = [f"the {spec.profile} profile"] if spec.profile == "quick" else []
    causes += [f"a limit of {numbers.plural(spec.limit, 'item')} for each suite"] if spec.limit is not None else []
    sentences = [f"The run is not complete (status: {run.status})."] if run.status != "done" else []
    if not run.evidence:
        why = f" ({' and '.join(causes)})" if causes else ""
        sentences.append(f"This run used only part of the items{why}.")
    if not sentences:
        return ""
    return " ".join([*sentences, "Its numbers show what the audit looks like; they may not be used to clear or to condemn a model."])
