"""The nouns of the product: frozen dataclasses that every layer shares.

Nothing here computes more than a key or a hash, and nothing imports another module of ours.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

RequestKind = Literal["generate", "logprobs", "judge"]
ScoreStatus = Literal["scored", "refused", "unparseable", "error"]
Outcome = Literal["pass", "fail", "inconclusive", "not_assessed"]
Direction = Literal["below", "above"]
NO_PASS = "no pass: "  # a metric's flag that begins so withholds a pass
JudgmentStatus = Literal["judged", "tie", "refused", "unparseable", "error", "no_judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat message. A last message of role ``assistant`` is a prefix that the model continues."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One audit item. ``cluster_id`` groups items that share a template or topic (the unit of resampling)."""

    id: str
    messages: tuple[Message, ...]
    cluster_id: str
    target: str | None = None
    choices: tuple[str, ...] = ()
    source: str = "shipped"
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a completion is drawn; temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 64
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a suite asks of a model or judge.

    Suites build these with :func:`ask`, :func:`score_options` and :func:`compare`; the engine fills in the
    sample's id, epoch, turn, slot and seed. ``options`` are the candidate completions of a ``logprobs``
    request, or the two answers (a, b) of a ``judge`` request.
    """

    kind: RequestKind
    messages: tuple[Message, ...]
    options: tuple[str, ...] = ()
    sampling: SamplingParams = SamplingParams()
    suite: str = ""
    sample_id: str = ""
    epoch: int = 0
    turn: int = 0
    slot: int = 0
    seed: int = 0

    @property
    def key(self) -> tuple[str, str, int, int, int]:
        """The place of this request in its run: suite, sample, epoch, turn, slot."""
        return (self.suite, self.sample_id, self.epoch, self.turn, self.slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionLogprob:
    """Log-probability (nats) of one candidate completion, summed over its ``n_tokens`` tokens."""

    text: str
    logprob: float
    token_logprobs: tuple[float, ...] = ()

    @property
    def n_tokens(self) -> int:
        return len(self.token_logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens read and written; ``reasoning_tokens`` are those inside ``<think>``, counted apart."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A model's reply to one request. ``error`` set means there is no reply (never an empty one)."""

    sample_id: str
    epoch: int = 0
    turn: int = 0
    slot: int = 0
    model: str = ""
    text: str = ""
    reasoning: str = ""
    finish_reason: Literal["stop", "length", "options", "error"] = "stop"
    logprobs: tuple[OptionLogprob, ...] = ()
    usage: Usage = Usage()
    latency: float | None = None
    error: str | None = None

    def option_probabilities(self) -> list[float]:
        """Unnormalised probability of each option, in the request's order."""
        return [float(np.exp(option.logprob)) for option in self.logprobs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """A judge's verdict on (a, b), asked in both orders.

    ``ab`` and ``ba`` are the probability that *a* is better when a, respectively b, is shown first; their mean
    (:attr:`prefers_a`) is the soft label. None where the judge gave no verdict in that order.
    """

    a: str
    b: str
    ab: float | None = None
    ba: float | None = None
    status: JudgmentStatus = "judged"
    explanation: str = ""

    @property
    def prefers_a(self) -> float | None:
        if self.ab is None or self.ba is None:
            return None
        return (self.ab + self.ba) / 2


Reply = Generation | Judgment
Replies = tuple[tuple[Reply, ...], ...]  # replies[turn][slot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One measured value of one sample. ``value`` is None unless ``status`` is ``scored``: never a silent 0.

    ``turn`` and ``slot`` name the request whose prompt and completion the value rests on.
    """

    sample_id: str
    scorer: str
    value: float | None
    epoch: int = 0
    answer: str = ""
    explanation: str = ""
    status: ScoreStatus = "scored"
    turn: int = 0
    slot: int = 0

    def __post_init__(self) -> None:
        if (self.value is None) == (self.status == "scored"):
            raise ValueError(f"score {self.scorer!r} of {self.sample_id!r}: status {self.status!r} with value {self.value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceInterval:
    low: float
    high: float
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """An aggregated measurement. ``value`` None means it was not made; ``reason`` then says why.

    ``flags`` are warnings a reader must see beside the number (for instance a low total option probability).
    ``design_effect`` is the variance inflation by clustering (1 = none).
    """

    suite: str
    name: str
    value: float | None
    ci: ConfidenceInterval | None = None
    group: str = "all"
    n: int = 0
    n_clusters: int = 0
    n_unscored: int = 0
    higher_is_better: bool | None = None
    unit: str = "proportion"
    design_effect: float | None = None
    judge_based: bool = False
    reason: str = ""
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.suite}.{self.name}" + ("" if self.group == "all" else f"[{self.group}]")

    @property
    def no_pass(self) -> str:
        """Why a pass may not rest on this metric, or "": the flag that begins with :data:`NO_PASS`."""
        return next((flag.removeprefix(NO_PASS) for flag in self.flags if flag.startswith(NO_PASS)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A paired difference candidate − baseline on the same samples."""

    metric: str
    baseline: str
    candidate: str
    difference: float
    ci: ConfidenceInterval
    p_value: float
    n_pairs: int
    p_adjusted: float | None = None
    minimum_detectable_effect: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A bound on a metric, written down before the run. ``direction`` is the good side of ``bound``."""

    metric: str
    bound: float
    direction: Direction
    source: str
    rationale: str
    group: str = "all"
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    criterion: Criterion
    outcome: Outcome
    metric: Metric | None
    reason: str
    n_needed: int | None = None
    p_value: float | None = None
    p_adjusted: float | None = None


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
        """False where the judge is the audited model itself, or its lineage names the judge among the judges and rewards that shaped it."""
        if self.judge is None:
            return True
        shapers = [item for key in ("judges", "rewards") for item in self.model.lineage.get(key, ())]
        named = {str(item.get("weights_hash", item.get("uri", ""))) if isinstance(item, Mapping) else str(item) for item in shapers} - {""}
        same = bool(self.judge.weights_hash) and self.judge.weights_hash == self.model.weights_hash
        return not same and not named & {self.judge.weights_hash, self.judge.uri}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    run_id: str
    spec: RunSpec
    created: str
    status: Literal["running", "interrupted", "failed", "done"] = "running"
    git_commit: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A preference pair; ``label`` is the probability (0..1) that ``chosen`` is better, ``margin`` by how much in the labeller's own unit (0: unknown).

    ``cluster_id`` is the topic: train and held-out parts never share one.
    """

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    cluster_id: str
    label: float = 1.0
    labeller: str = ""
    rationale: str = ""
    margin: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A prompt and the reply to imitate (supervised fine-tuning)."""

    id: str
    prompt: tuple[Message, ...]
    completion: str
    cluster_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """A prompt and one reply, marked as wanted or not (Kahneman-Tversky optimization)."""

    id: str
    prompt: tuple[Message, ...]
    completion: str
    desirable: bool
    cluster_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt alone, answered by the model in training (rollouts)."""

    id: str
    prompt: tuple[Message, ...]
    cluster_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    method: str
    config: Mapping[str, Any]
    parents: tuple[str, ...] = ()
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    hardware: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0


Embedder = Callable[[Sequence[str]], np.ndarray]  # texts -> (n, d) float32, rows of unit length


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """An earlier run's scores and completions on the same suite, for measurements against a baseline."""

    run_id: str
    scores: tuple[Score, ...]
    texts: Mapping[tuple[str, int, int, int], str]  # (sample_id, epoch, turn, slot) -> completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a suite needs from outside; the engine passes it in."""

    seed: int = 0
    has_judge: bool = False
    judge_name: str = ""
    embed: Embedder | None = None
    embed_name: str = ""
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteData:
    """All that a suite's ``aggregate`` sees."""

    samples: tuple[Sample, ...]
    replies: Mapping[tuple[str, int], Replies]  # (sample_id, epoch) -> replies[turn][slot]
    scores: tuple[Score, ...]
    context: Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite is a value; its name is its file's name.

    ``load(path)`` reads the shipped items (path None) or a user's file. ``solve(sample, context)`` yields lists of
    requests and is sent the list of their replies; ``score`` turns all replies of a sample into scores; ``aggregate``
    turns all scores into metrics. ``criteria`` are the defaults, each with its source and rationale.
    """

    name: str
    version: str
    title: str
    question: str
    method: str
    limits: str
    reference: str
    feedback_stage: str
    load: Callable[[Path | None], list[Sample]]
    solve: Callable[[Sample, Context], Generator[list[Request], list[Reply], None]]
    score: Callable[[Sample, Replies, Context], list[Score]]
    aggregate: Callable[[SuiteData], list[Metric]]
    criteria: tuple[Criterion, ...]
    headline: tuple[str, ...] = ()  # metrics shown first in summaries
    harmful: bool = False  # transcripts may hold harmful text: redactable
    stochastic: bool = False  # draws at temperature > 0, so that repeated epochs say something new
    needs_embedder: bool = False


class Model(Protocol):
    """An engine. ``plan`` splits requests into batches (a pure function of them); ``run`` answers one batch."""

    spec: ModelSpec

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]: ...

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]: ...


class Judge(Protocol):
    spec: ModelSpec

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]: ...

    def judge(self, requests: Sequence[Request]) -> Iterator[Judgment]: ...


def user(content: str) -> Message:
    return Message(role="user", content=content)


def assistant(content: str) -> Message:
    return Message(role="assistant", content=content)


def ask(messages: Sequence[Message], *, max_tokens: int = 64, temperature: float = 0.0, top_p: float = 1.0,
        stop: Sequence[str] = ()) -> Request:
    """A request for a completion."""
    sampling = SamplingParams(temperature=temperature, top_p=top_p, max_tokens=max_tokens, stop=tuple(stop))
    return Request(kind="generate", messages=tuple(messages), sampling=sampling)


def score_options(messages: Sequence[Message], options: Sequence[str]) -> Request:
    """A request for the log-probability of each option as the reply to ``messages``."""
    return Request(kind="logprobs", messages=tuple(messages), options=tuple(options))


def compare(messages: Sequence[Message], a: str, b: str) -> Request:
    """A request that the judge compares answers ``a`` and ``b`` to ``messages``."""
    return Request(kind="judge", messages=tuple(messages), options=(a, b))


def to_dict(value: Any) -> Any:
    """Plain JSON-ready data from any of the above (tuples become lists)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def canonical_json(value: Any) -> str:
    """Sorted keys, no spaces, NaN refused: equal values give equal text."""
    return json.dumps(to_dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_json(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()
