"""`auditor demo`: the whole path on the embedded model: audit it, train from it with and without a fault, audit those, compare."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from auditor.cli import Stopped
from auditor.cli.demo_text import findings, print_differences, print_side_by_side
from auditor.cli.running import RunArguments, audit
from auditor.schema import Comparison
from auditor.store import Store

# Short LoRA runs: a sounder candidate from the shipped pairs, and an organism with one planted fault.
CANDIDATE = ("dpo", ("dpo.limit=192", "dpo.max_steps=12"))
ORGANISM = ("organism-refuser", ("dpo.max_steps=12",))


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoArguments:
    """The command line as it was typed; ``limit`` None leaves the quick profile's."""

    out: Path
    train: bool = True
    model: str = "smollm2"
    limit: int | None = None

    @property
    def db(self) -> Path:
        return self.out / "audit.duckdb"


@dataclass(slots=True)
class Parts:
    """Does the parts of the demo one after the other and keeps their wall times."""

    total: int
    seconds: dict[str, float] = field(default_factory=dict)

    def do(self, name: str, part: Callable[[], str]) -> str:
        print(f"[{len(self.seconds) + 1}/{self.total}] {name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        made = part()
        self.seconds[name] = time.monotonic() - started
        return made


def demo_command(arguments: DemoArguments) -> int:
    """Audit and train what is not done yet in the folder, write the report, print what was found."""
    from auditor.errors import InputError

    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {arguments.out}: {error.strerror}; pass another with -o") from None
    started = time.monotonic()
    parts = Parts(total=5 if arguments.train else 1)
    try:
        runs = _runs(arguments, parts)
    except (KeyboardInterrupt, Stopped):
        more = "" if arguments.train else " --no-train"
        raise Stopped(f"stopped; what is done is kept: go on with `auditor demo -o {arguments.out}{more}`") from None
    _conclude(arguments, runs)
    print("Took " + ", ".join(f"{seconds:.0f} s to {name}" for name, seconds in parts.seconds.items())
          + f"; {time.monotonic() - started:.0f} s in all, at most {_peak_gib():.1f} GiB of memory.")
    return 0


def _runs(arguments: DemoArguments, parts: Parts) -> dict[str, str]:
    """Run ids by the model's part in the demo, the base first."""
    base = parts.do("audit the base model", partial(_audited, arguments, arguments.model, None))
    runs = {"base": base}
    if arguments.train:
        for name, recipe in (("candidate", CANDIDATE), ("organism", ORGANISM)):
            made = parts.do(f"train the {name}", partial(_trained, arguments, name, recipe))
            runs[name] = parts.do(f"audit the {name}", partial(_audited, arguments, made, base))
    return runs


def _audited(arguments: DemoArguments, model: str, baseline: str | None) -> str:
    """The id of a complete quick run of the model: an earlier one, an interrupted one brought to its end, or a new one."""
    earlier = _earlier(arguments, model, baseline)
    if earlier is not None and earlier[1] == "done":
        print(f"run {earlier[0]} on {model} is there already", file=sys.stderr)
        return earlier[0]
    if earlier is not None:
        return audit(RunArguments(model=None, db=arguments.db, resume=earlier[0]))[0]
    return audit(RunArguments(model=model, profile="quick", limit=arguments.limit, baseline=baseline, db=arguments.db))[0]


def _earlier(arguments: DemoArguments, model: str, baseline: str | None) -> tuple[str, str] | None:
    """(id, status) of the newest run of this model by this version of the suites, unless another process is at it."""
    from auditor.engine.suites import load_suites
    from auditor.models.resolve import absolute

    if not arguments.db.is_file():
        return None
    suites = load_suites(())
    wanted = (absolute(model), tuple(suite.name for suite in suites), tuple(suite.version for suite in suites), "quick", baseline, arguments.limit)
    for run in reversed(Store.open(arguments.db).runs()):
        spec = run.spec
        if (spec.model.uri, spec.suites, spec.suite_versions, spec.profile, spec.baseline, spec.limit) == wanted:
            return None if run.status == "running" else (run.run_id, run.status)
    return None


def _trained(arguments: DemoArguments, name: str, recipe: tuple[str, Sequence[str]]) -> str:
    """The checkpoint of a recipe, trained in a folder of its own, from where an earlier attempt stopped."""
    from auditor.cli.training import TrainArguments, train_recipe
    from auditor.training.recipe import read_recipe

    folder = arguments.out / name
    typed = TrainArguments(recipe=recipe[0], db=arguments.db, out=folder, changes=(*recipe[1], "model=" + json.dumps(arguments.model)),
                           resume=(folder / "run.json").is_file())
    return str(train_recipe(read_recipe(typed.recipe, typed.changes), typed)[-1].path)


def _conclude(arguments: DemoArguments, runs: dict[str, str]) -> None:
    """Compare, write the report, print."""
    from auditor.compare.beside import compare_runs
    from auditor.engine.suites import load_suites
    from auditor.reports.page import write_report

    store = Store.open(arguments.db)
    base = runs["base"]
    paired: dict[str, list[Comparison]] = {run: compare_runs(store, base, run) for run in runs.values() if run != base}
    suites = {suite.name: suite for suite in load_suites(())}
    page = write_report(store, base, arguments.out / "report.html", suites=suites, others=paired)
    if paired:
        print_side_by_side(store, runs)
        for name, run in runs.items():
            print_differences(store, name, paired.get(run, []))
    print(f"\nThe three most important findings on {arguments.model} (quick profile: a look, not evidence):\n{findings(store.verdicts(base))}\n")
    print(f"Report:    {page.resolve().as_uri()}\nDatabase:  {arguments.db}   (try: auditor show {base} --db {arguments.db})")


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)
