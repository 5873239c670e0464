"""The facts that make a run repeatable: settings, software, hardware, hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
            "lineage": model.lineage,
        }
    )


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
