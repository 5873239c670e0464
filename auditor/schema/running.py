"""Models, judges and runs: what was audited, how, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from auditor.schema.asking import Generation, Judgment, Request
from auditor.schema.measuring import Criterion
from auditor.schema.plain import sha256_json, to_dict


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    uri: str
    revision: str = ""
    weights_hash: str = ""
    template_hash: str = ""
    dtype: str = ""
    engine: str = ""
    flags: tuple[str, ...] = ()
    lineage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Everything that decides a run's numbers. ``hash`` is its identity."""

    suites: tuple[str, ...]
    suite_versions: tuple[str, ...]
    model: ModelSpec
    judge: ModelSpec | None = None
    baseline: str | None = None
    profile: str = "standard"
    limit: int | None = None
    items: tuple[tuple[str, str, str], ...] = ()  # (suite, file, sha256)
    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 1
    seed: int = 0
    criteria: tuple[Criterion, ...] = ()

    @property
    def hash(self) -> str:
        return sha256_json(to_dict(self))

    @property
    def judge_is_independent(self) -> bool:
        """False where the judge is the audited model itself, or its lineage names the judge among the judges and rewards that shaped it.

        A model that ``auditor merge`` wrote is also the model that it was merged from."""
        if self.judge is None:
            return True
        shapers = [item for key in ("judges", "rewards") for item in self.model.lineage.get(key, ())]
        named = {str(item.get("weights_hash") or item.get("uri", "")) if isinstance(item, Mapping) else str(item) for item in shapers} - {""}
        named |= {name for item in shapers if isinstance(item, Mapping) for name in _merged(item)}
        # Where weights cannot be seen (an endpoint), the same name is the same model, and two names are two.
        judge = _weights(self.judge)
        same = self.judge.uri == self.model.uri or bool(judge & _weights(self.model))
        return not same and not named & (judge | {self.judge.uri})


def _weights(model: ModelSpec) -> set[str]:
    """The hash of a model's weights, and of all those it was merged from, one after the other; none where they cannot be seen."""
    return ({model.weights_hash} | _merged(model.lineage)) - {""}


def _merged(lineage: Mapping[str, Any]) -> set[str]:
    found, merged = set(), lineage.get("merged_from")
    while isinstance(merged, Mapping):
        found.add(str(merged.get("weights_hash", "")))
        merged = merged.get("merged_from")
    return found - {""}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    run_id: str
    spec: RunSpec
    created: str
    status: Literal["running", "interrupted", "failed", "done"] = "running"
    git_commit: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)


class Model(Protocol):
    """An engine. ``plan`` splits requests into batches (a pure function of them); ``run`` answers one batch."""

    spec: ModelSpec

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]: ...

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]: ...


class Judge(Protocol):
    spec: ModelSpec

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]: ...

    def judge(self, requests: Sequence[Request]) -> Iterator[Judgment]: ...
