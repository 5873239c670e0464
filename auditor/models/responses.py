"""Replies kept from earlier runs, so that the same question to the same model is not paid for twice.

A reply is found by everything that decides it: the weights (or the endpoint and the model's name there), the template, the number format, the engine
with its flags (what a server can give, how many tokens a reasoning model may think), the messages, options and sampling, the seed and the epoch. A reply
with an error is never kept. The file is SQLite, safe for several processes.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from auditor.errors import EngineError
from auditor.models.cache import cache_folder
from auditor.schema import Generation, Model, ModelSpec, OptionLogprob, Request, Usage

NAME = "responses.sqlite"
FLAG = "a question that was asked before, of the same model in the same way, has the reply of then (response cache)"
WAIT = 30.0  # seconds for another process's write


def key_of(spec: ModelSpec, request: Request) -> str:
    """SHA-256 of what decides the reply."""
    decides = [spec.weights_hash or spec.uri, spec.revision, spec.template_hash, spec.dtype, spec.engine.removeprefix("ray/"), list(spec.flags), request.kind,
               [[message.role, message.content] for message in request.messages], list(request.options), asdict(request.sampling), request.seed, request.epoch]
    return hashlib.sha256(json.dumps(decides, ensure_ascii=True).encode()).hexdigest()


class CachedModel:
    """A model whose replies are looked up first. Implements ``schema.Model``; what is not known is asked in the model's own batches."""

    def __init__(self, model: Model, path: Path | None = None) -> None:
        self.model, self.spec = model, replace(model.spec, flags=(*model.spec.flags, FLAG))
        self.path = path or cache_folder() / NAME
        self.found = self.asked = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection, connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("CREATE TABLE IF NOT EXISTS response (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise EngineError(f"the response cache {self.path} cannot be used: {error}; set AUDITOR_CACHE to another folder, or pass --no-cache") from None

    def plan(self, requests: Sequence[Request]) -> list[list[Request]]:
        """The model's own batches; an engine that asks ahead is told what will really be asked of it."""
        batches = self.model.plan(requests)
        expect = getattr(self.model, "expect", None)
        if expect is not None:
            known = self._known(requests)
            expect([request for batch in batches for request in batch if request.key not in known])
        return batches

    def run(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Replies in the order of ``requests``."""
        known = self._known(requests)
        missing = [request for request in requests if request.key not in known]
        new = dict(zip([request.key for request in missing], self.model.run(missing), strict=True)) if missing else {}
        self.found, self.asked = self.found + len(known), self.asked + len(missing)
        self._keep([(key_of(self.spec, request), new[request.key]) for request in missing])
        for request in requests:
            yield known[request.key] if request.key in known else new[request.key]

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=WAIT)

    def _known(self, requests: Sequence[Request]) -> dict[tuple[str, str, int, int, int], Generation]:
        keys = {request.key: key_of(self.spec, request) for request in requests}
        try:
            with closing(self._connect()) as connection:
                rows = {key: row[0] for key in set(keys.values()) if (row := connection.execute("SELECT reply FROM response WHERE key = ?", [key]).fetchone())}
        except sqlite3.Error as error:
            raise EngineError(f"the response cache {self.path} cannot be read: {error}; remove it, or set AUDITOR_CACHE elsewhere, and resume") from None
        return {request.key: _placed(json.loads(rows[keys[request.key]]), request, self.spec) for request in requests if keys[request.key] in rows}

    def _keep(self, replies: Sequence[tuple[str, Generation]]) -> None:
        rows = [(key, json.dumps(_plain(reply))) for key, reply in replies if reply.error is None]
        try:
            with closing(self._connect()) as connection, connection:
                connection.executemany("INSERT OR IGNORE INTO response VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise EngineError(f"the response cache {self.path} cannot be written: {error}; pass --no-cache and resume") from None


def _plain(reply: Generation) -> dict[str, object]:
    """What of a reply does not depend on the place of its request."""
    kept = asdict(reply)
    return {name: kept[name] for name in ("text", "reasoning", "finish_reason", "logprobs", "usage", "latency")}


def _placed(kept: dict[str, object], request: Request, spec: ModelSpec) -> Generation:
    logprobs = tuple(OptionLogprob(**{**option, "token_logprobs": tuple(option["token_logprobs"])}) for option in kept.pop("logprobs"))  # type: ignore[attr-defined]
    usage = Usage(**kept.pop("usage"))  # type: ignore[arg-type]
    reply = Generation(sample_id=request.sample_id, logprobs=logprobs, usage=usage, **kept)  # type: ignore[arg-type]
    return replace(reply, epoch=request.epoch, turn=request.turn, slot=request.slot, model=spec.uri)
