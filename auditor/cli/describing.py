"""`auditor suites`: what can be measured, how, and by which criteria."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from auditor.cli.output import check_format, print_json, table
from auditor.engine.suites import load_suite, load_suites
from auditor.errors import InputError
from auditor.reports.numbers import plain
from auditor.schema import Context, Suite, to_dict

LATER_TURNS = ("Where a suite goes on after the first reply, what it then asks holds that reply and cannot be written beforehand: "
               "record those replies by sample_id, turn and slot, or they are counted as unscored.")


def suites_command(name: str | None, prompts: Path | None, output: str) -> None:
    """List all suites or describe one; with ``prompts`` write the first turns that a recorded file must answer (prose to standard error)."""
    check_format(output)
    if prompts is not None:
        if name is None:
            raise InputError("--prompts needs a suite: auditor suites refusal --prompts prompts.jsonl")
        count = write_prompts(load_suite(name), prompts)
        print(f"{count} first-turn prompts of suite {name} written to {prompts}; fill in 'completion' (or 'logprobs') and pass recorded:{prompts}.\n"
              f"{LATER_TURNS}", file=sys.stderr)
        if output == "json":
            print_json({"suite": name, "path": str(prompts), "prompts": count, "turns": [0], "note": LATER_TURNS})
        return
    found = [load_suite(name)] if name else load_suites(())
    if output == "json":
        print_json({"suites": [described(suite) for suite in found]})
    elif name:
        print_suite(found[0])
    else:
        table("Suites", ("suite", "items", "clusters", "question"),
              [(suite.name, str(len(items := suite.load(None))), str(len({item.cluster_id for item in items})), suite.question) for suite in found])


def described(suite: Suite) -> dict[str, Any]:
    """A suite's description as JSON-ready data."""
    items = suite.load(None)
    texts = {name: getattr(suite, name) for name in ("name", "version", "title", "question", "method", "limits", "reference", "feedback_stage")}
    return {**texts, "items": len(items), "clusters": len({item.cluster_id for item in items}),
            "tasks": dict(Counter(str(item.metadata.get("task", "")) for item in items)), "criteria": to_dict(suite.criteria)}


def print_suite(suite: Suite) -> None:
    facts = described(suite)
    print(f"{suite.title} ({suite.name} {suite.version})\n\n{suite.question}\n")
    print(f"Method: {suite.method}\n\nLimits: {suite.limits}\n\nReference: {suite.reference}\n")
    print(f"{facts['items']} items in {facts['clusters']} clusters: " + ", ".join(f"{task or 'all'} {count}" for task, count in facts["tasks"].items()) + "\n")
    table("Criteria", ("metric", "must be", "source", "why"),
          [(criterion.metric, f"{criterion.direction} {plain(criterion.bound)}", criterion.source, criterion.rationale) for criterion in suite.criteria])


def write_prompts(suite: Suite, path: Path) -> int:
    """Write the first turn's requests as JSON lines; later turns depend on the replies. Returns their number."""
    lines = []
    for sample in suite.load(None):
        for slot, request in enumerate(next(suite.solve(sample, Context()))):
            row: dict[str, Any] = {"suite": suite.name, "sample_id": sample.id, "turn": 0, "slot": slot, "kind": request.kind,
                                   "messages": to_dict(request.messages)}
            if request.options:
                row["options"] = list(request.options)
            lines.append(json.dumps(row, ensure_ascii=False))
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; pass another path") from None
    return len(lines)
