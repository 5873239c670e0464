"""Do two engines give the same numbers? The first questions of the shipped suites, asked of each; where the answers part, and by how much."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from auditor.engine.plan import placed, select
from auditor.engine.suites import load_suites
from auditor.errors import InputError
from auditor.models.ray_options import SCHEME as RAY
from auditor.models.ray_options import RayOptions
from auditor.models.resolve import EngineOptions, absolute, open_model
from auditor.schema import Context, Generation, Request

Replies = dict[tuple[str, str, int, int, int], Generation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Where two replies to one request differ most. For a text, ``place`` is the number of characters that both begin with."""

    suite: str
    sample_id: str
    prompt: str
    first: str
    second: str
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far engine ``other`` agrees with ``reference`` on one suite.

    ``options``: log-probabilities compared; ``largest_move``, ``mean_move``: |difference| in nats, None without options.
    ``texts``: greedy completions compared, ``same_texts`` of them equal. ``errors``: requests that one of the two could not answer.
    """

    suite: str
    reference: str
    other: str
    options: int
    largest_move: float | None
    mean_move: float | None
    texts: int
    same_texts: int
    errors: int
    partings: tuple[Parting, ...] = ()


def questions(names: Sequence[str], limit: int, seed: int = 0) -> list[Request]:
    """The first requests of ``limit`` samples of each suite, greedy or of options; requests that draw at random or ask a judge are left out."""
    found = []
    for suite in load_suites(tuple(names)):
        for sample in select(suite.load(None), limit, seed):
            asked = next(suite.solve(sample, Context(seed=seed)), None) or []
            found += [placed(request, suite.name, (sample.id, 0), (0, slot), seed) for slot, request in enumerate(asked)
                      if request.kind != "judge" and request.sampling.temperature == 0]
    return found


def answers(uri: str, options: EngineOptions, requests: Sequence[Request], tell: Callable[[int], None] = lambda done: None) -> tuple[str, Replies]:
    """The engine's name, and its reply to every request by the request's place."""
    model = open_model(absolute(uri), options)
    found: Replies = {}
    for batch in model.plan(requests):
        found.update({request.key: reply for request, reply in zip(batch, model.run(batch), strict=True)})
        tell(len(batch))
    return model.spec.engine, found


def agreement(requests: Sequence[Request], reference: tuple[str, Replies], other: tuple[str, Replies], most: int = 3) -> list[Agreement]:
    """A line a suite, with the ``most`` texts that part soonest."""
    by_suite: dict[str, list[Request]] = {}
    for request in requests:
        by_suite.setdefault(request.suite, []).append(request)
    return [_of_suite(suite, asked, (reference, other), most) for suite, asked in by_suite.items()]


def _of_suite(suite: str, requests: Sequence[Request], engines: tuple[tuple[str, Replies], tuple[str, Replies]], most: int) -> Agreement:
    (one_name, one), (other_name, other) = engines
    pairs = [(request, one[request.key], other[request.key]) for request in requests]
    answered = [(request, a, b) for request, a, b in pairs if not a.error and not b.error]
    moves = [abs(x.logprob - y.logprob) for request, a, b in answered if request.kind == "logprobs" for x, y in zip(a.logprobs, b.logprobs, strict=True)]
    texts = [(request, a.text, b.text) for request, a, b in answered if request.kind == "generate"]
    apart = [Parting(suite=suite, sample_id=request.sample_id, prompt=request.messages[-1].content, first=a, second=b, place=_common(a, b))
             for request, a, b in texts if a != b]
    return Agreement(suite=suite, reference=one_name, other=other_name, options=len(moves), largest_move=max(moves, default=None),
                     mean_move=sum(moves) / len(moves) if moves else None, texts=len(texts), same_texts=len(texts) - len(apart),
                     errors=len(pairs) - len(answered), partings=tuple(sorted(apart, key=lambda parting: parting.place)[:most]))


def _common(a: str, b: str) -> int:
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def compare_engines(uris: Sequence[str], names: Sequence[str], limit: int, options: EngineOptions,
                    tell: Callable[[str, int, int], None] = lambda uri, done, of: None) -> list[Agreement]:
    """Every engine against the first, suite by suite. ``tell(uri, answered, of)`` hears of progress. Each is loaded, asked and let go in turn.

    The response cache is left out: what an engine said earlier is not what it says.  Raises InputError for options that no engine takes.
    """
    if options.ray != RayOptions() and not any(uri.startswith(RAY) for uri in uris):
        raise InputError("--workers, --worker-gpus and --ray-address are for a model written ray:NAME, and none of these is; leave them out")
    requests, options = questions(names, limit), dataclasses.replace(options, cache=False)
    found: list[tuple[str, Replies]] = []
    for uri in uris:
        engine, replies = answers(uri, _of(uri, options), requests,
                                  lambda done, uri=uri: tell(uri, done, len(requests)))  # type: ignore[misc]
        found.append((f"{uri} ({engine})", replies))
    return [line for other in found[1:] for line in agreement(requests, found[0], other)]


def _of(uri: str, options: EngineOptions) -> EngineOptions:
    """Without what is for other engines."""
    options = options if uri.removeprefix("ray:").startswith("vllm:") else dataclasses.replace(options, engine_args=())
    return options if uri.startswith(RAY) else dataclasses.replace(options, ray=RayOptions())


def as_rows(lines: Sequence[Agreement]) -> list[Mapping[str, object]]:
    """Plain rows, for JSON."""
    return [dataclasses.asdict(line) for line in lines]

