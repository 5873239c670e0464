"""Between the dataclasses of `auditor.schema` and columns of plain values, exactly, in both directions.

The functions named ``*_columns`` give one list per column; the writer puts them into the journal and the database.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from auditor.errors import StoreError
from auditor.schema import (
    Criterion,
    Generation,
    Judgment,
    Message,
    Metric,
    OptionLogprob,
    Reply,
    Request,
    RunRecord,
    RunSpec,
    Sample,
    SamplingParams,
    Score,
    Usage,
    Verdict,
    to_dict,
)

T = TypeVar("T")
Columns = dict[str, list[Any]]


def _plain(value: Any) -> Any:
    """What JSON has no form for: our dataclasses, numpy scalars, mappings that are no dict."""
    plain = to_dict(value)
    if plain is value:
        raise TypeError(f"{value!r} of type {type(value).__name__} cannot be stored; use str, int, float, bool, None, lists and mappings")
    return plain


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def dump(value: Any) -> str:
    """JSON text of any schema object. Raises ValueError on NaN or infinity, which JSON cannot hold."""
    return _JSON.encode(value)


def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
    """The inverse of `auditor.schema.to_dict`. Raises StoreError on a field that ``cls`` does not have."""
    hints = _hints(typing.cast(Any, cls))
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise StoreError(f"a stored {cls.__name__} has the unknown field {unknown[0]!r}: it was written by another version of auditor")
    return cls(**{name: _convert(hints[name], value) for name, value in data.items()})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_convert(one, item) for one, item in zip(each, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        return _convert(next(one for one in arguments if one is not type(None)), value)
    return value


def sample_columns(samples: Sequence[Sample], first_position: int) -> Columns:
    return {
        "sample_id": [sample.id for sample in samples],
        "position": list(range(first_position, first_position + len(samples))),
        "cluster_id": [sample.cluster_id for sample in samples],
        "messages": [dump_messages(sample.messages) for sample in samples],
        "target": [sample.target for sample in samples],
        "choices": [dump(sample.choices) for sample in samples],
        "source": [sample.source for sample in samples],
        "metadata": [dump(sample.metadata) for sample in samples],
    }


def score_columns(scores: Sequence[Score]) -> Columns:
    return {
        "sample_id": [score.sample_id for score in scores],
        "epoch": [score.epoch for score in scores],
        "scorer": [score.scorer for score in scores],
        "turn": [score.turn for score in scores],
        "slot": [score.slot for score in scores],
        "value": [None if score.value is None else float(score.value) for score in scores],
        "status": [score.status for score in scores],
        "answer": [score.answer for score in scores],
        "explanation": [score.explanation for score in scores],
    }


def score_from_row(row: Mapping[str, Any]) -> Score:
    return Score(**{field.name: row[field.name] for field in dataclasses.fields(Score)})


def reply_columns(pairs: Sequence[tuple[Request, Reply]]) -> Columns:
    """Columns of the generation table; a judgment fills ``judgment`` and leaves the generation's columns at their defaults."""
    requests = [request for request, _ in pairs]
    generations = [_as_generation(request, reply) for request, reply in pairs]
    return {
        "sample_id": [request.sample_id for request in requests],
        "epoch": [request.epoch for request in requests],
        "turn": [request.turn for request in requests],
        "slot": [request.slot for request in requests],
        "kind": [request.kind for request in requests],
        "messages": [dump_messages(request.messages) for request in requests],
        "options": [dump(request.options) for request in requests],
        "sampling": [_dump_sampling(request.sampling) for request in requests],
        "seed": [str(request.seed) for request in requests],
        "text": [reply.text for reply in generations],
        "reasoning": [reply.reasoning for reply in generations],
        "finish_reason": [reply.finish_reason for reply in generations],
        "logprobs": [_dump_logprobs(reply.logprobs) for reply in generations],
        "judgment": [dump(reply) if isinstance(reply, Judgment) else None for _, reply in pairs],
        "prompt_tokens": [reply.usage.prompt_tokens for reply in generations],
        "completion_tokens": [reply.usage.completion_tokens for reply in generations],
        "reasoning_tokens": [reply.usage.reasoning_tokens for reply in generations],
        "latency": [reply.latency for reply in generations],
        "model": [reply.model for reply in generations],
        "error": [reply.error for reply in generations],
    }


def asked(request: Request) -> tuple[str, ...]:
    """What a request asks, as its row in the generation table holds it in the columns ASKED."""
    return request.kind, dump_messages(request.messages), dump(request.options), _dump_sampling(request.sampling)


def reply_from_row(row: Mapping[str, Any]) -> Reply:
    """The Generation or Judgment of a row of the generation table."""
    if row["judgment"] is not None:
        return from_dict(Judgment, json.loads(row["judgment"]))
    usage = Usage(**{field.name: row[field.name] for field in dataclasses.fields(Usage)})
    logprobs = tuple(
        OptionLogprob(text=option["text"], logprob=option["logprob"], token_logprobs=tuple(option["token_logprobs"]))
        for option in json.loads(row["logprobs"])
    )
    plain = ("sample_id", "epoch", "turn", "slot", "model", "text", "reasoning", "finish_reason", "latency", "error")
    return Generation(logprobs=logprobs, usage=usage, **{name: row[name] for name in plain})


def _as_generation(request: Request, reply: Reply) -> Generation:
    if isinstance(reply, Generation):
        return reply
    return Generation(sample_id=request.sample_id)


def dump_messages(messages: Sequence[Message]) -> str:
    return dump([{"role": message.role, "content": message.content} for message in messages])


@functools.lru_cache(maxsize=1024)
def _dump_sampling(sampling: SamplingParams) -> str:
    return dump(sampling)


def _dump_logprobs(options: Sequence[OptionLogprob]) -> str:
    return dump([{"text": option.text, "logprob": option.logprob, "token_logprobs": option.token_logprobs} for option in options])


def metric_columns(metrics: Sequence[Metric]) -> Columns:
    rows = []
    for position, metric in enumerate(metrics):
        row = to_dict(metric)
        interval = row.pop("ci") or dict.fromkeys(("low", "high", "level", "method"))
        row |= {f"ci_{name}": value for name, value in interval.items()}
        rows.append(row | {"group_name": row.pop("group"), "position": position, "flags": dump(metric.flags)})
    return _transposed(rows)


def metric_from_row(row: Mapping[str, Any]) -> Metric:
    data = {field.name: row[field.name] for field in dataclasses.fields(Metric) if field.name in row}
    data |= {"group": row["group_name"], "flags": json.loads(row["flags"]), "ci": None}
    if row["ci_low"] is not None:
        data["ci"] = {name: row[f"ci_{name}"] for name in ("low", "high", "level", "method")}
    return from_dict(Metric, data)


def verdict_columns(verdicts: Sequence[Verdict]) -> Columns:
    rows = []
    for position, verdict in enumerate(verdicts):
        row = to_dict(verdict.criterion)
        row |= {name: getattr(verdict, name) for name in ("outcome", "reason", "n_needed", "p_value", "p_adjusted")}
        row |= {"group_name": row.pop("group"), "position": position}
        rows.append(row | {"metric_record": None if verdict.metric is None else dump(verdict.metric)})
    return _transposed(rows)


def verdict_from_row(row: Mapping[str, Any]) -> Verdict:
    criterion = {field.name: row[field.name] for field in dataclasses.fields(Criterion) if field.name in row}
    data = {name: row[name] for name in ("outcome", "reason", "n_needed", "p_value", "p_adjusted")}
    metric = None if row["metric_record"] is None else json.loads(row["metric_record"])
    return from_dict(Verdict, data | {"criterion": criterion | {"group": row["group_name"]}, "metric": metric})


def record_from_dict(data: Mapping[str, Any]) -> RunRecord:
    return from_dict(RunRecord, data)


def spec_from_json(text: str) -> RunSpec:
    return from_dict(RunSpec, json.loads(text))


def sample_from_row(row: Mapping[str, Any]) -> Sample:
    nested = {name: json.loads(row[name]) for name in ("messages", "choices", "metadata")}
    plain = {name: row[name] for name in ("cluster_id", "target", "source")}
    return from_dict(Sample, plain | nested | {"id": row["sample_id"]})


def _transposed(rows: Sequence[Mapping[str, Any]]) -> Columns:
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
