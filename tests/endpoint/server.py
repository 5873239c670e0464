"""A small server with the OpenAI API and vLLM's additions, around a real model on this machine, that can be told to misbehave.

    python tests/endpoint/server.py FOLDER --port 8123 --name tiny --ready ready.txt

Its numbers are those of the engine's own forward pass, one prompt at a time. ``POST /faults`` with ``{"script": ["reset", …]}`` makes the next
calls fail in that order; ``{"every": N, "fault": NAME}`` every N-th. ``--without`` takes an ability away, as other servers lack it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from auditor.models.resolve import EngineOptions, resolve
from auditor.schema import Message, SamplingParams
from auditor.schema import Request as Asked

ABILITIES = ("tokenize", "echo", "by_id", "logprobs", "seed", "seeds", "continue", "vllm", "max_tokens", "chat", "usage")
HTML = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"
WORK = ("/v1/chat/completions", "/v1/completions")


class Refused(Exception):
    """An HTTP error of the API's kind."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


@dataclass(slots=True)
class State:
    """What a test may set and read. ``without``: abilities taken away. ``key``: the only one accepted. ``top``: most top_logprobs."""

    name: str = "tiny"
    without: frozenset[str] = frozenset()
    key: str = ""
    top: int = 20
    delay: float = 0.0
    script: deque[str] = field(default_factory=deque)
    every: int = 0
    fault: str = ""
    reported: str = ""
    calls: int = 0
    active: int = 0
    most_active: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)


class Engine:
    """The model, asked by one thread at a time."""

    def __init__(self, folder: str) -> None:
        from auditor.models.hf import HFModel

        self.model = HFModel(resolve(folder), EngineOptions(dtype="float32", pack=False))
        self.tokenizer, self.template, self.lock = self.model.tokenizer, self.model.template, threading.Lock()

    def encode(self, text: str, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def chat_ids(self, body: dict[str, Any], continues: bool) -> list[int]:
        """As vLLM renders: a last assistant message is left open only on demand, else closed and a new turn begun."""
        turns = body["messages"]
        goes_on = continues and body.get("continue_final_message") and turns[-1]["role"] == "assistant"
        begun = turns[-1]["content"] if goes_on else ""
        text = self.tokenizer.apply_chat_template(turns[:-1] if goes_on else turns, chat_template=self.template, tokenize=False,
                                                  add_generation_prompt=bool(goes_on or body.get("add_generation_prompt", True)))
        return self.encode(text + begun, False)

    def write(self, ids: list[int], body: dict[str, Any], limit: int, seed: int) -> Any:
        stop = body.get("stop") or []
        sampling = SamplingParams(temperature=body.get("temperature", 1.0), top_p=body.get("top_p", 1.0), max_tokens=limit,
                                  stop=tuple([stop] if isinstance(stop, str) else stop))
        asked = Asked(kind="generate", messages=(Message(role="user", content=""),), sampling=sampling, seed=seed)
        with self.lock:
            return self.model._generate([asked], [ids])[0]

    @torch.inference_mode()
    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """Log-probabilities (positions, vocabulary) of what follows each of ``ids``."""
        with self.lock:
            return torch.log_softmax(self.model.model(input_ids=torch.tensor([ids])).logits[0].float(), -1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        state = self.server.state
        if "get_html" in state.without:
            return self.send(200, HTML, kind="text/html")
        if self.path == "/v1/models":
            if not self.allowed():
                return None
            context = self.server.engine.model.context
            card = {"id": state.name, "object": "model", "owned_by": "vllm" if "vllm" not in state.without else "somebody", "max_model_len": context}
            return self.reply(200, {"object": "list", "data": [card, {"id": "another", "object": "model"}]})
        if self.path == "/version" and "vllm" not in state.without:
            return self.reply(200, {"version": "0.test"})
        if self.path == "/state":
            return self.reply(200, {"calls": state.calls, "faults": dict(state.faults), "most_active": state.most_active})
        return self.reply(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state = self.server.state
        if self.path == "/faults":
            state.script, state.every, state.fault = deque(body.get("script", ())), body.get("every", 0), body.get("fault", "")
            return self.reply(200, {})
        if not self.allowed():
            return None
        fault = self.next_fault() if self.path in WORK else ""
        with self.server.counting:
            state.active += 1
            state.most_active = max(state.most_active, state.active)
        try:
            time.sleep(state.delay)
            found = self.answer(body)
        except Refused as refused:
            return self.reply(refused.status, {"error": {"message": str(refused), "type": "BadRequestError", "code": refused.status}})
        finally:
            with self.server.counting:
                state.active -= 1
        return self.misbehave(fault, found) if fault else self.reply(200, found)

    def next_fault(self) -> str:
        state = self.server.state
        with self.server.counting:
            state.calls += 1
            state.times.append(time.monotonic())
            fault = state.script.popleft() if state.script else state.fault if state.every and state.calls % state.every == 0 else ""
            state.faults[fault] += bool(fault)
        return fault

    def allowed(self) -> bool:
        key = self.server.state.key
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self.reply(401, {"error": {"message": f"Incorrect API key provided: {self.headers.get('Authorization')}"}})
            return False
        return True

    def misbehave(self, fault: str, found: dict[str, Any]) -> None:
        name, _, value = fault.partition(":")
        whole = json.dumps(found).encode()
        if name == "hang":
            time.sleep(float(value or 30))
            self.close_connection = True
        elif name == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
            self.connection.close()
            self.close_connection = True
        elif name == "truncated":
            self.send(200, whole[:len(whole) // 2])
        elif name == "cut":
            self.send(200, whole[:len(whole) // 2], length=len(whole))
            self.close_connection = True
        elif name == "wrong_model":
            self.reply(200, {**found, "model": "another"})
        elif name == "empty_choices":
            self.reply(200, {**found, "choices": []})
        elif name == "null":
            self.send(200, b"null")
        elif name == "html":
            self.send(200, HTML, kind="text/html")
        elif name == "error_200":
            self.reply(200, {"error": {"message": "overloaded"}})
        else:
            headers = {"Retry-After": value} if value else {}
            self.reply(int(name), {"error": {"message": f"told to fail; you sent {self.headers.get('Authorization')}", "code": int(name)}}, **headers)

    # -- answers ------------------------------------------------------------------------------------------------------------

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        state, engine = self.server.state, self.server.engine
        if self.path in ("/tokenize", "/detokenize") and "tokenize" not in state.without:
            if self.path == "/detokenize":
                return {"prompt": engine.tokenizer.decode(body["tokens"])}
            ids = engine.chat_ids(body, True) if "messages" in body else engine.encode(body["prompt"], body.get("add_special_tokens", True))
            return {"tokens": ids, "count": len(ids), "max_model_len": engine.model.context}
        if body.get("model") != state.name and self.path in WORK:
            raise Refused(404, f"The model `{body.get('model')}` does not exist.")
        if self.path == "/v1/chat/completions" and "chat" not in state.without:
            return self.chat(body)
        if self.path == "/v1/completions":
            return self.complete(body)
        raise Refused(404, "Not Found")

    def limited(self, body: dict[str, Any], length: int) -> int:
        state = self.server.state
        if "max_tokens" in state.without and "max_tokens" in body:
            raise Refused(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
        limit = int(body.get("max_completion_tokens", body.get("max_tokens", 16)))
        context = self.server.engine.model.context
        if length + limit > context:
            raise Refused(400, f"This model's maximum context length is {context} tokens. However, you requested {length + limit} tokens.")
        return limit

    def seed(self, body: dict[str, Any]) -> int:
        if "seed" in body and "seed" in self.server.state.without:
            raise Refused(400, "Unrecognized request argument supplied: seed")
        ignored = "seeds" in self.server.state.without or "seed" not in body
        return random.getrandbits(31) if ignored else int(body["seed"])

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        state, engine = self.server.state, self.server.engine
        ids = engine.chat_ids(body, "continue" not in state.without)
        limit = self.limited(body, len(ids))
        written = engine.write(ids, body, limit, self.seed(body))
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": written.text}, "finish_reason": written.finish_reason}
        if body.get("logprobs"):
            if "logprobs" in state.without or body.get("top_logprobs", 0) > state.top:
                raise Refused(400, f"top_logprobs must be at most {state.top}" if state.top else "logprobs are not supported")
            best = torch.topk(engine.logprobs(ids)[-1], body["top_logprobs"])
            named = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            rows = [{"token": engine.tokenizer.decode([token]), "logprob": value} for value, token in named]
            choice["logprobs"] = {"content": [{**rows[0], "top_logprobs": rows}]}
        return self.whole("chat.completion", [choice], len(ids), written.usage.completion_tokens)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        engine, without = self.server.engine, self.server.state.without
        choices, read, wrote = [], 0, 0
        for index, ids in enumerate(body["prompt"]):
            limit = self.limited(body, len(ids))
            if body.get("echo") and "echo" not in without:
                follow = engine.logprobs(ids)
                values = [None, *(float(follow[place, token]) for place, token in enumerate(ids[1:]))]
                choices.append({"index": index, "text": "", "finish_reason": "length", "logprobs": {"token_logprobs": values}})
            else:
                written = engine.write(ids, body, max(1, limit), self.seed(body))
                logprobs: dict[str, Any] | None = None
                if body.get("logprobs"):
                    logprobs = {"token_logprobs": [-1.0]}  # as llama.cpp: of what was written, not of what was given
                if body.get("logprob_token_ids") and "by_id" not in without:
                    follow = engine.logprobs(ids)[-1]
                    logprobs = {"top_logprobs": [{f"token_id:{token}": float(follow[token]) for token in body["logprob_token_ids"]}]}
                choices.append({"index": index, "text": written.text, "finish_reason": written.finish_reason, "logprobs": logprobs})
                wrote += written.usage.completion_tokens
            read += len(ids)
        choices.reverse()  # their index tells their place, not their order
        return self.whole("text_completion", choices, read, wrote)

    def whole(self, kind: str, choices: list[dict[str, Any]], read: int, wrote: int) -> dict[str, Any]:
        state = self.server.state
        usage = {} if "usage" in state.without else {"usage": {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}}
        return {"id": "x", "object": kind, "model": state.reported or state.name, "choices": choices, **usage}

    def reply(self, status: int, found: dict[str, Any], **headers: str) -> None:
        self.send(status, json.dumps(found).encode(), headers=headers)

    def send(self, status: int, data: bytes, *, kind: str = "application/json", length: int | None = None, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length if length is not None else len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client has given up
            self.close_connection = True


class Server(ThreadingHTTPServer):
    """Serves in threads of this process. Use as a context manager, or :meth:`start` and :meth:`stop`."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, engine: Engine, state: State | None = None, port: int = 0) -> None:
        self.engine, self.state, self.counting = engine, state or State(), threading.Lock()
        self.live: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def start(self) -> Server:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Die: what is connected is cut off, as when the process is killed."""
        self.shutdown()
        self.server_close()
        for connection in list(self.live):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.live.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.live.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--name", default="tiny")
    parser.add_argument("--key", default="")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--ready", type=Path, help="this file is written, with the URL, once the server listens")
    said = parser.parse_args()
    torch.set_num_threads(1)
    state = State(name=said.name, key=said.key, delay=said.delay, without=frozenset(said.without))
    server = Server(Engine(said.folder), state, said.port)
    print(server.url, flush=True)
    if said.ready:
        said.ready.with_suffix(".new").write_text(server.url)
        said.ready.with_suffix(".new").rename(said.ready)
    server.serve_forever()


if __name__ == "__main__":
    main()
