"""`auditor verify REPORT.html`: the page rendered again from the store, and compared as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.cli.text import printable
from auditor.engine.suites import load_suites
from auditor.errors import InputError
from auditor.reports import evidence
from auditor.reports.checking import Altered, compare_pages
from auditor.reports.evidence import Carried
from auditor.schema import Suite, to_dict
from auditor.store import Store

UNDECIDED = 4
NOTHING = "(no such line)"
OWN_WORDS = "the owner's words on the page (--about) are not in the store: nothing is said about them"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCheck:
    """What came of comparing a page with the one that the store gives.

    ``comparable`` is False where another version made another page: whether a difference is its doing or someone's cannot be told, so only
    the numbers that the page carries decide. ``numbers`` names those that are not the store's.
    """

    path: Path
    carried: Carried
    comparable: bool
    altered: tuple[Altered, ...] = ()
    count: int = 0
    numbers: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        return not self.numbers and not (self.comparable and self.count)

    def as_object(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {"path": str(self.path), "run_id": self.carried.run, "kind": self.carried.kind, "agrees": self.agrees, "compared_as_a_whole": self.comparable,
                "made_by": {"version": self.carried.version, "renderer": self.carried.renderer}, "lines_altered": self.count,
                "altered": [to_dict(one) for one in self.altered], "numbers": list(self.numbers)}


def check_report(store: Store, path: Path) -> ReportCheck:
    """Compare a report with the store. Raises InputError for a file that is none, UnknownNameError where its run is not in the store."""
    text, carried = evidence.read_page(path)
    suites = {suite.name: suite for suite in load_suites(())}
    with store.session():
        run = store.run(carried.run)
        if run.run_id != carried.run:
            raise InputError(f"{path} names the run {carried.run!r}, which no page does: it was altered")
        altered, count = compare_pages(text, evidence.as_made_by(_page(store, carried, suites), carried))
        same_code = (carried.version, carried.renderer) == (evidence.version(), evidence.renderer(suites))
        if not count or same_code:
            return ReportCheck(path=path, carried=carried, comparable=True, altered=tuple(altered), count=count)
        return ReportCheck(path=path, carried=carried, comparable=False, altered=tuple(altered), count=count, numbers=tuple(_numbers(store, carried)))


def runs_shown(carried: Carried) -> list[str]:
    """The run that the page is about, then those shown beside it."""
    beside = carried.options.get("with", [])
    return list(dict.fromkeys([carried.run, *(one[0] for one in beside)])) if _well_formed(beside) else [carried.run]


def _well_formed(beside: Any) -> bool:
    return isinstance(beside, list) and all(isinstance(one, list) and len(one) == 3 and isinstance(one[0], str) for one in beside)


def _page(store: Store, carried: Carried, suites: Mapping[str, Suite]) -> str:
    """The page of the same run and options as this version makes it from the store."""
    if carried.kind == "audit":
        return _audit_page(store, carried, suites)
    if carried.kind == "compliance":
        return _compliance_page(store, carried, suites)
    raise InputError(f"a page of the unknown kind {carried.kind!r}: it was altered, or made by a newer auditor; pass one that `auditor report` wrote")


def _audit_page(store: Store, carried: Carried, suites: Mapping[str, Suite]) -> str:
    from auditor.compare.beside import compare_runs
    from auditor.reports.build import build_page
    from auditor.reports.page import render

    beside = carried.options.get("with", [])
    if not _well_formed(beside):
        raise InputError("what the page says about the runs beside it cannot be read: it was altered")
    others = {run: compare_runs(store, carried.run, run) if compared and run != carried.run else [] for run, _, compared in beside}
    return render(build_page(store, carried.run, suites=suites, redact=carried.options.get("redact") is True, others=others))


def _compliance_page(store: Store, carried: Carried, suites: Mapping[str, Suite]) -> str:
    from auditor.reports.compliance.about import from_table
    from auditor.reports.compliance.assemble import assemble
    from auditor.reports.compliance.model import Options
    from auditor.reports.compliance.page import render

    chosen = carried.options
    if not (isinstance(chosen.get("standard"), str) and isinstance(chosen.get("about"), dict) and isinstance(chosen.get("until"), str)):
        raise InputError("what the page says about its options cannot be read: it was altered")
    options = Options(standard=chosen["standard"], about=from_table(chosen["about"], "the page"), draft=chosen.get("draft") is True, until=chosen["until"])
    return render(assemble(store, carried.run, suites=suites, options=options))


def _numbers(store: Store, carried: Carried) -> list[str]:
    """Which of the numbers that the page carries are not the store's, and its head."""
    run = store.run(carried.run)
    wanted = evidence.numbers_of(store.metrics(run.run_id), store.verdicts(run.run_id))
    problems = [] if carried.head == run.head else [f"head: the page says {carried.head}, the store {run.head}"]
    for name, found in (("metrics", carried.metrics), ("verdicts", carried.verdicts)):
        problems += [f"{name}: the page has {one}, the store has not" for one in found if one not in wanted[name]]
    return problems


def print_check(check: ReportCheck) -> None:
    """What came of it, for people; nothing of the page reaches the terminal as it is."""
    carried = check.carried
    if not check.comparable:
        print(printable(f"report {check.path}: made by auditor {carried.version} ({carried.renderer}), which writes another page than this one: its text "
                        "CANNOT BE COMPARED; verify it with the version that made it, or write it anew"))
        print(f"the numbers it carries ({len(carried.metrics)} metrics, {len(carried.verdicts)} verdicts) "
              + ("are the store's" if not check.numbers else "ARE NOT THE STORE'S:"))
        for problem in check.numbers[:20]:
            print(printable(f"  {problem}").replace("\n", "\\n"))
        print(f"this version's page differs in {check.count:,} lines, by the version or by someone's hand:")
        _print_lines(check)
    elif not check.count:
        print(printable(f"report {check.path}: every character is as the store gives it (run {carried.run})"))
    else:
        print(printable(f"report {check.path} IS NOT what the store gives: {check.count:,} {'line differs' if check.count == 1 else 'lines differ'}"))
        _print_lines(check)
    if carried.kind == "compliance":
        print(OWN_WORDS)


def _print_lines(check: ReportCheck) -> None:
    for one in check.altered:
        print(printable(f"  line {one.line}, under “{one.section}”"))
        print(printable(f"      page:  {one.found or NOTHING}"))
        print(printable(f"      store: {one.expected or NOTHING}"))
    if check.count > len(check.altered):
        print(f"  and {check.count - len(check.altered):,} more")
