"""An audit from options to verdicts."""

from __future__ import annotations

import datetime
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from auditor.engine import environment, gate
from auditor.engine.drift import Drift, measure_drift
from auditor.engine.plan import FULL_EPOCHS, PROFILES, QUICK_LIMIT, load_samples, select
from auditor.engine.progress import Progress, Silent
from auditor.engine.rounds import Engines, SuiteRun
from auditor.engine.suites import load_suites
from auditor.engine.training_steps import training_steps
from auditor.errors import InputError
from auditor.items import file_sha256
from auditor.models.embed import load_embedder
from auditor.models.endpoint_options import SCHEME, EndpointOptions
from auditor.models.ray_options import SCHEME as RAY
from auditor.models.ray_options import RayOptions
from auditor.models.resolve import EngineOptions, absolute, absolute_path, open_model
from auditor.models.responses import CachedModel
from auditor.schema import Context, Embedder, Judge, Metric, Model, Reply, RunRecord, RunSpec, Sample, Suite, TrainingSteps, Verdict, to_dict
from auditor.store import RunWriter, Store
from auditor.verdict import decide_all

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """What the user asked for. ``items`` maps a suite to a file that replaces its shipped items."""

    model: str
    db: Path
    suites: tuple[str, ...] = ()
    profile: str = "standard"
    limit: int | None = None
    baseline: str | None = None
    judge: str | None = None
    items: Mapping[str, Path] = field(default_factory=dict)
    system: str | None = None
    embedder: str | None = None
    seed: int = 0
    engine: EngineOptions = field(default_factory=EngineOptions)


@dataclass(slots=True, kw_only=True)
class Prepared:
    """A checked request, models loaded, nothing recorded yet. ``judge`` None asks ``judge_model`` in pairs; ``gate_samples`` None are the shipped ones."""

    spec: RunSpec
    db: Path
    model: Model
    judge_model: Model | None
    suites: list[Suite]
    samples: dict[str, list[Sample]]
    baseline: str | None
    baseline_suites: tuple[str, ...]
    embed: Embedder | None
    embed_name: str
    training: TrainingSteps | None = None
    drift: Drift | None = None
    judge: Judge | None = None
    gate_samples: list[Sample] | None = None
    endpoint: EndpointOptions | None = None
    ray: RayOptions | None = None


def prepare(options: AuditOptions) -> Prepared:
    """Check everything that can be checked before the model is loaded, then load it.

    Raises InputError (and its kin) on anything the user got wrong; nothing has been written by then. Paths in the
    RunSpec are absolute, so that a run can be resumed from another folder.
    """
    if options.profile not in PROFILES:
        raise InputError(f"unknown profile {options.profile!r}; pass one of {', '.join(PROFILES)}")
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit {options.limit} leaves no items; pass 1 or more, or leave it out for all")
    suites = load_suites(options.suites)
    chosen = {suite.name for suite in suites}
    for name in options.items:
        if name not in chosen:
            raise InputError(f"--items {name}=…: suite {name!r} is not part of this run; its suites are {', '.join(sorted(chosen))}")
    limit = options.limit if options.limit is not None else (QUICK_LIMIT if options.profile == "quick" else None)
    samples = {suite.name: select(load_samples(suite.load, options.items.get(suite.name), suite.name), limit, options.seed) for suite in suites}
    earlier = Store.open(options.db).run(options.baseline) if options.baseline else None
    baseline = earlier.run_id if earlier else None
    wanted = options.embedder is not None or any(suite.needs_embedder for suite in suites)
    embed, embed_name = load_embedder(options.embedder) if wanted else (None, "")
    engine = _without_workers(options.engine, options.model) if (options.judge or "").startswith(RAY) else options.engine
    model = open_model(absolute(options.model), engine)
    judge_model = open_model(absolute(options.judge), _of_judge(options.engine, options.judge)) if options.judge else None
    spec = RunSpec(
        suites=tuple(suite.name for suite in suites), suite_versions=tuple(suite.version for suite in suites), model=model.spec,
        judge=judge_model.spec if judge_model else None, baseline=baseline, profile=options.profile, limit=options.limit,
        items=tuple((name, str(path.absolute()), file_sha256(path)) for name, path in sorted(options.items.items())), system=options.system,
        sampling={"dtype": options.engine.dtype, "batch_rows": options.engine.batch_rows, "threads": options.engine.threads,
                  "reasoning_tokens": options.engine.reasoning_tokens, "embedder": absolute_path(options.embedder) if options.embedder else None,
                  **({"engine_args": [list(pair) for pair in options.engine.engine_args]} if options.engine.engine_args else {}),
                  **({} if options.engine.cache is None else {"cache": options.engine.cache})},
        epochs=FULL_EPOCHS if options.profile == "full" else 1, seed=options.seed,
        criteria=tuple(criterion for suite in suites for criterion in suite.criteria))
    return Prepared(spec=spec, db=options.db, model=model, judge_model=judge_model, suites=suites, samples=samples, baseline=baseline,
                    baseline_suites=earlier.spec.suites if earlier else (), embed=embed, embed_name=embed_name, training=training_steps(model.spec),
                    endpoint=options.engine.endpoint if _is_any(options, SCHEME) else None, ray=options.engine.ray if _is_any(options, RAY) else None)


def _is_any(options: AuditOptions, scheme: str) -> bool:
    return any((uri or "").startswith(scheme) for uri in (options.model, options.judge))


def _of_judge(engine: EngineOptions, uri: str) -> EngineOptions:
    """A judge's own options: further servers are the audited model's."""
    return _without_workers(replace(engine, endpoint=replace(engine.endpoint, servers=())), uri)


def _without_workers(engine: EngineOptions, uri: str) -> EngineOptions:
    """What is said of workers is for the one of model and judge that has any."""
    return engine if uri.startswith(RAY) else replace(engine, ray=RayOptions())


def start(prepared: Prepared) -> RunWriter:
    """Open the record of a new run; where the dtype is not float32, measure what that changes first."""
    spec = prepared.spec
    prepared.drift = measure_drift(prepared.model, spec.model.uri, EngineOptions(threads=spec.sampling["threads"]), prepared.samples[spec.suites[0]])
    hardware = environment.hardware() | ({"dtype_drift": prepared.drift.as_dict()} if prepared.drift else {})
    hardware |= {"endpoint": to_dict(prepared.endpoint)} if prepared.endpoint else {}
    hardware |= {"ray": to_dict(prepared.ray) | workers(prepared)} if prepared.ray else {}
    return RunWriter.create(prepared.db, new_record(prepared.spec, hardware))


def workers(prepared: Prepared) -> dict[str, Any]:
    """What is known of a Ray engine's workers, the audited model's before the judge's; empty without one."""
    inner = [model.model if isinstance(model, CachedModel) else model for model in (prepared.model, prepared.judge_model)]
    return next((model.facts() for model in inner if model is not None and hasattr(model, "facts")), {})


def new_record(spec: RunSpec, hardware: Mapping[str, Any]) -> RunRecord:
    """The record of a run that begins now."""
    now = datetime.datetime.now(datetime.UTC)
    run_id = now.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
    return RunRecord(run_id=run_id, spec=spec, created=now.isoformat(timespec="microseconds"), git_commit=environment.git_commit(),
                     packages=environment.packages(), hardware=hardware)


def reopen(db: Path, name: str, endpoint: Mapping[str, Any] | None = None, ray: Mapping[str, Any] | None = None) -> tuple[Prepared, RunWriter]:
    """Load what a stopped run needs to go on, from its own record; ``endpoint`` and ``ray`` hold fields of EndpointOptions and RayOptions to be used
    instead of its own.

    Raises InputError where the run is done, or the model, its items or the code of a suite have changed since.
    """
    stored = Store.open(db).run(name)
    spec = stored.spec
    if stored.status == "done":
        raise InputError(f"run {stored.run_id} is done: there is nothing to resume; see it with `auditor show {stored.run_id}`")
    sampling = spec.sampling
    if "scored_from" in sampling:
        raise InputError(f"run {stored.run_id} scored run {sampling['scored_from']} again and was stopped; that takes seconds: "
                         f"start it anew by `auditor score {sampling['scored_from']}`")
    engine = EngineOptions(dtype=sampling["dtype"], batch_rows=sampling["batch_rows"], threads=sampling["threads"],
                           reasoning_tokens=sampling["reasoning_tokens"], engine_args=tuple((name, value) for name, value in sampling.get("engine_args", ())),
                           cache=sampling.get("cache"), endpoint=EndpointOptions.from_record(stored.hardware.get("endpoint"), endpoint or {}),
                           ray=RayOptions.from_record(stored.hardware.get("ray"), ray or {}))
    options = AuditOptions(model=spec.model.uri, db=db, suites=spec.suites, profile=spec.profile, limit=spec.limit, baseline=spec.baseline,
                           judge=spec.judge.uri if spec.judge else None, items={suite: Path(path) for suite, path, _ in spec.items},
                           system=spec.system, embedder=sampling["embedder"], seed=spec.seed, engine=engine)
    prepared = prepare(options)
    changed = _changed(spec, prepared.spec)
    if changed:
        raise InputError(f"run {stored.run_id} cannot go on: changed since it started: {', '.join(changed)}; start a new run instead")
    return prepared, RunWriter.resume(db, stored.run_id)


def _changed(old: RunSpec, new: RunSpec) -> list[str]:
    names = ("suites", "suite_versions", "model", "judge", "baseline", "profile", "limit", "items", "system", "sampling", "epochs", "seed", "criteria")
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def execute(prepared: Prepared, writer: RunWriter, progress: Progress | None = None) -> list[Verdict]:
    """Run all suites, record everything, decide. Use inside ``with writer``.

    A KeyboardInterrupt or any error leaves the run resumable.
    """
    progress = progress or Silent()
    recorded = writer.completed()
    judge, passed = gate.open_gate(prepared, writer, recorded, progress)
    metrics: list[Metric] = []
    for suite in prepared.suites:
        writer.samples(suite.name, prepared.samples[suite.name])
        context = _context(prepared, suite, judge)
        run = SuiteRun(suite=suite, samples=prepared.samples[suite.name], writer=writer, context=context, progress=progress,
                       engines=Engines(model=prepared.model, judge=judge, system=prepared.spec.system),
                       epochs=prepared.spec.epochs if suite.stochastic else 1, recorded=_of(recorded, suite.name))
        found = suite.aggregate(run.execute())
        writer.metrics(found)
        metrics.extend(found)
    verdicts = decide_all(prepared.spec.criteria, metrics, judge_gate=passed, not_independent=not prepared.spec.judge_is_independent)
    writer.verdicts(verdicts)
    writer.finish()
    return verdicts


def _of(recorded: Mapping[tuple[str, str, int, int, int], Reply], suite: str) -> dict[tuple[str, str, int, int, int], Reply]:
    return {key: reply for key, reply in recorded.items() if key[0] == suite}


def _context(prepared: Prepared, suite: Suite, judge: Judge | None) -> Context:
    embed, name = (prepared.embed, prepared.embed_name) if suite.needs_embedder else (None, "")
    has_baseline = prepared.baseline is not None and suite.name in prepared.baseline_suites
    baseline = Store.open(prepared.db).baseline(prepared.baseline, suite.name) if prepared.baseline and has_baseline else None
    return Context(seed=prepared.spec.seed, has_judge=judge is not None, judge_name=judge.spec.uri if judge else "", embed=embed,
                   embed_name=name, baseline=baseline, training=prepared.training, quick=prepared.spec.profile == "quick")

