"""What the compliance report says, free of any format: the page, the JSON and the model card are made from this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from auditor.reports.compliance.about import About
from auditor.reports.compliance.standards import Control, Evidence, Standard
from auditor.reports.view import JudgeView
from auditor.schema import Metric, Outcome, Suite, Verdict
from auditor.store import Store, StoredRun

Coverage = Literal["measured", "not decided", "recorded", "gap"]
Standing = Literal["answered", "partly", "stated", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What decides the report besides the store: all of it is written into the page, so that it can be made again.

    ``until`` is the time of creation of the newest run that is looked at; "" takes the newest in the store.
    """

    standard: str = ""
    about: About = field(default_factory=About)
    draft: bool = False
    until: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Everything read from the store, with the suites' texts."""

    store: Store
    run: StoredRun
    metrics: tuple[Metric, ...]
    verdicts: tuple[Verdict, ...]
    gate: tuple[Verdict, ...]
    runs: tuple[StoredRun, ...]
    suites: Mapping[str, Suite]
    options: Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A criterion with its verdict, or (``verdict`` None) a metric that no criterion judges. ``judge`` says on whose word the number rests."""

    id: str
    suite: str
    key: str
    metric: Metric | None
    verdict: Verdict | None
    judge: str
    independent: bool = True
    bears_on: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome | None:
        return self.verdict.outcome if self.verdict is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A record or a statement; ``present`` False: there is none, and ``text`` says so."""

    label: str
    text: str
    present: bool = True
    stated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One piece of evidence of a control with what this run has of it."""

    evidence: Evidence
    measurements: tuple[Measurement, ...]
    absent: tuple[str, ...]
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlView:
    id: str
    control: Control
    coverage: Coverage
    shown: tuple[Shown, ...]

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Each measurement of the control once."""
        return tuple({(one.key, one.id): one for part in self.shown for one in part.measurements}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class GapGroup:
    """Things that were not tested or not said, of one kind: (what, why)."""

    title: str
    about: str
    gaps: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One of the six questions about feedback. ``facts`` and ``measurements`` are the store's answer, ``stated`` the owner's, ``open`` what is missing."""

    id: str
    question: str
    standing: Standing
    facts: tuple[Fact, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    stated: str = ""
    open: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRun:
    """Another run of the same weights: when, how, and what it found."""

    run_id: str
    created: str
    later: bool
    profile: str
    status: str
    evidence: bool
    suites: tuple[str, ...]
    outcomes: Mapping[str, int]
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDigest:
    """The items of one suite as they were asked: SHA-256 over their canonical JSON, one line an item, in their order."""

    suite: str
    version: str
    n: int
    n_clusters: int
    sha256: str
    file: str = ""
    file_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compliance:
    """The whole report. ``not_evidence`` says why the run may not be relied on ("" where it may)."""

    run: StoredRun
    options: Options
    standard: Standard | None
    not_evidence: str
    until: str
    chain_head: str | None
    measurements: tuple[Measurement, ...]
    metrics: tuple[Metric, ...]
    controls: tuple[ControlView, ...]
    gaps: tuple[GapGroup, ...]
    questions: tuple[Question, ...]
    items: tuple[ItemDigest, ...]
    others: tuple[OtherRun, ...]
    limits: tuple[tuple[str, str], ...]
    titles: Mapping[str, str]
    judge: JudgeView
    judge_fact: Fact
    gate: tuple[Verdict, ...] = ()
    renderer: str = ""

    @property
    def about(self) -> About:
        return self.options.about

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(one.verdict for one in self.measurements if one.verdict is not None)
