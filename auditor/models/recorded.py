"""A model that is a file: earlier completions, audited with nothing loaded.

Each line is one reply: ``{"sample_id": …, "completion": …}`` or ``{"prompt": …, "completion": …}``, with optional
``suite``, ``epoch``, ``turn``, ``slot`` (all 0 by default) and ``logprobs`` — an object from option to natural
log-probability. ``prompt`` is the text of the last user message; rows with the same prompt answer the
requests with that prompt in order, one each. A file of
judges' verdicts (rows with ``judges``) is no model's replies; it is accepted so that judge_agreement can audit those judges.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from auditor.errors import DataError
from auditor.items import file_sha256, read_jsonl
from auditor.models.chat import split_reasoning
from auditor.models.replies import place_of
from auditor.schema import Generation, ModelSpec, OptionLogprob, Request, Usage

BATCH = 256
MASS_TOLERANCE = 0.01  # rounding in the file


class RecordedModel:
    """Replies from a JSONL file. A request it has no line for gets a Generation with ``error`` set."""

    def __init__(self, path: Path) -> None:
        self.by_key: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.by_prompt: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.taken: dict[str, list[tuple[Any, ...]]] = defaultdict(list)  # which requests a prompt's rows went to, in order
        for line, row in read_jsonl(path):
            self._add(path, line, row)
        self.spec = ModelSpec(uri=f"recorded:{path}", weights_hash=file_sha256(path), engine="recorded", dtype="none")

    def _add(self, path: Path, line: int, row: dict[str, Any]) -> None:
        if "judges" in row and "completion" not in row and "logprobs" not in row:
            return
        if not isinstance(row.get("completion", ""), str) or ("completion" not in row and "logprobs" not in row):
            raise DataError(path, line, "a recorded reply needs a text field 'completion' or an object 'logprobs'")
        for name in ("epoch", "turn", "slot", "completion_tokens"):
            if type(row.get(name, 0)) is not int or row.get(name, 0) < 0:
                raise DataError(path, line, f"{name!r} is {row[name]!r}; a whole number from 0 is expected")
        if not isinstance(row.get("suite"), str | None):
            raise DataError(path, line, f"'suite' is {row['suite']!r}; a suite's name is expected")
        logprobs = row.get("logprobs", {})
        if not isinstance(logprobs, dict) or not all(_is_logprob(value) for value in logprobs.values()):
            raise DataError(path, line, "'logprobs' must map each option to a natural log-probability (a number ≤ 0)")
        total = sum(math.exp(value) for value in logprobs.values())
        if total > 1 + MASS_TOLERANCE:
            raise DataError(path, line, f"the options' probabilities sum to {total:.3f}, above 1; 'logprobs' are natural logarithms of probabilities")
        if isinstance(row.get("sample_id"), str):
            place = tuple(row.get(name, 0) for name in ("epoch", "turn", "slot"))
            key = (row.get("suite"), row["sample_id"], *place)
            if key in self.by_key:
                raise DataError(path, line, f"a second reply for sample {row['sample_id']!r} (epoch, turn, slot = {place}); keep one")
            self.by_key[key] = row
        elif isinstance(row.get("prompt"), str):
            self.by_prompt[row["prompt"]].append(row)
        else:
            raise DataError(path, line, "a recorded reply needs 'sample_id' or 'prompt'")

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        for request in requests:
            self._rank(request)
        return [list(requests[start:start + BATCH]) for start in range(0, len(requests), BATCH)]

    def _rank(self, request: Request) -> tuple[str, int]:
        """The text of the last user message, and the how-many-th request with that text this is; each row answers one request."""
        prompt = next((message.content for message in reversed(request.messages) if message.role == "user"), "")
        if request.key not in self.taken[prompt]:
            self.taken[prompt].append(request.key)
        return prompt, self.taken[prompt].index(request.key)

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]:
        for request in requests:
            yield self._reply(request)

    def _find(self, request: Request) -> dict[str, Any] | None:
        place = (request.sample_id, request.epoch, request.turn, request.slot)
        for suite in (request.suite, None):
            if (suite, *place) in self.by_key:
                return self.by_key[(suite, *place)]
        prompt, rank = self._rank(request)
        rows = self.by_prompt.get(prompt, [])
        return rows[rank] if rank < len(rows) else None

    def _reply(self, request: Request) -> Generation:
        place = place_of(request, self.spec.uri)
        row = self._find(request)
        if row is None:
            return Generation(**place, finish_reason="error", error="no recorded reply")
        if request.kind == "logprobs":
            return self._options(place, request, row.get("logprobs", {}))
        if "completion" not in row:
            return Generation(**place, finish_reason="error", error="the recorded reply has no completion")
        text, reasoning = split_reasoning(row["completion"])
        usage = Usage(completion_tokens=int(row.get("completion_tokens", 0)))
        return Generation(**place, text=text, reasoning=reasoning, usage=usage)

    def _options(self, place: dict[str, Any], request: Request, recorded: dict[str, float]) -> Generation:
        missing = [option for option in request.options if option not in recorded and option.strip() not in recorded]
        if missing:
            return Generation(**place, finish_reason="error", error=f"the recorded reply has no log-probability for option {missing[0]!r}")
        found = [float(recorded.get(option, recorded.get(option.strip(), math.nan))) for option in request.options]
        options = tuple(OptionLogprob(text=option, logprob=value, token_logprobs=(value,)) for option, value in zip(request.options, found, strict=True))
        best = max(options, key=lambda option: option.logprob)
        return Generation(**place, text=best.text, finish_reason="options", logprobs=options)


def _is_logprob(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e6 < value <= 0
