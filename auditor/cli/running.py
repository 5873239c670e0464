"""`auditor run`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.cli import Stopped
from auditor.errors import InputError
from auditor.schema import Model, Verdict

if TYPE_CHECKING:
    from auditor.engine.audit import AuditOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArguments:
    """The command line as it was typed."""

    model: str | None
    db: Path
    suites: tuple[str, ...] = ()
    profile: str = "standard"
    limit: int | None = None
    baseline: str | None = None
    judge: str | None = None
    items: tuple[str, ...] = ()
    system: Path | None = None
    embedder: str | None = None
    dtype: str = "auto"
    batch_size: int | None = None
    threads: int | None = None
    reasoning_tokens: int = 512
    engine_args: tuple[str, ...] = ()
    cache: bool | None = None
    endpoint: Mapping[str, Any] = field(default_factory=dict)
    ray: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    resume: str | None = None
    strict: bool = False
    output: str = "text"


def run_command(arguments: RunArguments) -> int:
    """Audit, print, and return the exit code of the verdicts."""
    from auditor.cli.output import check_format, print_run
    from auditor.verdict import exit_code

    check_format(arguments.output)
    run_id, verdicts = audit(arguments)
    print_run(arguments.db, run_id, arguments.output)
    return exit_code(verdicts, arguments.strict)


def audit(arguments: RunArguments) -> tuple[str, list[Verdict]]:
    """Start or resume the run and bring it to its end; on Ctrl-C say how to go on."""
    from auditor.cli.endpoints import endpoint_fields, tell_usage
    from auditor.cli.text import printable, short
    from auditor.cli.watching import Watching
    from auditor.engine.audit import execute, prepare, reopen, start, workers

    if arguments.resume is not None:
        if arguments.model is not None:
            raise InputError(f"--resume goes on with the run's own model and options; leave out {arguments.model!r}")
        prepared, writer = reopen(arguments.db, arguments.resume, endpoint_fields(arguments.endpoint), typed(arguments.ray))
    else:
        prepared = prepare(options(arguments))
        writer = start(prepared)
    run_id = writer.record.run_id
    print(printable(f"run {run_id} on {short(prepared.spec.model.uri)}, recorded in {arguments.db}"), file=sys.stderr)
    for flag in prepared.spec.model.flags:
        print(printable(f"note: {flag}"), file=sys.stderr)
    _tell_workers(workers(prepared))
    if prepared.drift is not None:
        print(f"note: {prepared.drift}", file=sys.stderr)
    try:
        with writer, Watching() as progress:
            verdicts = execute(prepared, writer, progress)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; nothing is lost: go on with `auditor run --resume {run_id} --db {arguments.db}`") from None
    finally:
        tell_usage("model", prepared.model)
        tell_usage("judge", prepared.judge_model)
    _tell_cache(prepared.model)
    return run_id, verdicts


def typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were typed."""
    return {name: value for name, value in fields.items() if value is not None}


def _tell_workers(facts: Mapping[str, Any]) -> None:
    if facts:
        count, machines = facts["workers_used"], facts["machines"]
        print(f"note: Ray {facts['version']}: {count} worker{'s' * (count > 1)} on {machines} machine{'s' * (machines > 1)}, "
              f"{facts['worker_gpus']:g} GPUs and {facts['worker_threads']} processor threads each", file=sys.stderr)


def _tell_cache(model: Model) -> None:
    from auditor.models.responses import CachedModel

    if isinstance(model, CachedModel) and model.found:
        print(f"note: {model.found:,} of {model.found + model.asked:,} replies came from the response cache {model.path}", file=sys.stderr)


def options(arguments: RunArguments) -> AuditOptions:
    """The engine's options from the typed ones. Raises InputError on what cannot be read."""
    from auditor.cli.endpoints import endpoint_fields
    from auditor.engine.audit import AuditOptions
    from auditor.models.endpoint_options import EndpointOptions
    from auditor.models.ray_options import RayOptions
    from auditor.models.resolve import EngineOptions

    if arguments.model is None:
        raise InputError("no model given; pass one (try `auditor run smollm2 --profile quick`), or --resume RUN")
    engine = EngineOptions(dtype=arguments.dtype, batch_rows=arguments.batch_size, threads=arguments.threads,
                           reasoning_tokens=arguments.reasoning_tokens, engine_args=engine_args(arguments.engine_args), cache=arguments.cache,
                           endpoint=EndpointOptions(**endpoint_fields(arguments.endpoint)), ray=RayOptions(**typed(arguments.ray)))
    return AuditOptions(
        model=arguments.model, db=arguments.db, suites=arguments.suites, profile=arguments.profile, limit=arguments.limit,
        baseline=arguments.baseline, judge=arguments.judge, items=_items(arguments.items), system=_system(arguments.system),
        embedder=arguments.embedder, seed=arguments.seed, engine=engine)


def engine_args(pairs: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """NAME=VALUE pairs as typed, sorted. Raises InputError for one that is none."""
    for pair in pairs:
        name, separator, _ = pair.partition("=")
        if not separator or not name.isidentifier():
            raise InputError(f"--engine-arg {pair!r}: write NAME=VALUE, for instance tensor_parallel_size=2")
    return tuple(sorted((name, value) for name, _, value in (pair.partition("=") for pair in pairs)))


def _items(pairs: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not separator or not path:
            raise InputError(f"--items {pair!r}: write SUITE=FILE, for instance refusal=mine.jsonl")
        if name in found:
            raise InputError(f"--items names suite {name!r} twice; pass one file")
        found[name] = Path(path)
    return found


def _system(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--system {path}: cannot be read: {error}") from None
    if not text:
        raise InputError(f"--system {path}: the file is empty")
    return text
