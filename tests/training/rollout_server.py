"""A small server that writes completions as vLLM does, adapters loaded while it runs included, and that can be told to misbehave.

It is a real network: the checkpoint it is given with the adapter it was handed, and its log-probabilities are its own forward pass's.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from auditor.models.decode import Clock, Row, decode, uniforms


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class State:
    """``without``: runtime (its environment variable), lora (--enable-lora), token_ids, reloading (what is loaded later changes nothing).
    ``shift`` is added to the log-probabilities it reports; ``processed`` has the temperature in them. ``script``: what befalls the next completions."""

    without: frozenset[str] = frozenset()
    rank: int = 64
    context: int = 512
    key: str = ""
    shift: float = 0.0
    processed: bool = False
    script: deque[str] = field(default_factory=deque)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RolloutServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.allowed():
            if self.path not in ("/version", "/v1/models"):
                return self.reply(404, {"detail": "Not Found"})
            card = {"id": "tiny", "object": "model", "owned_by": "vllm", "max_model_len": self.server.state.context}
            self.reply(200, {"version": "0.test"} if self.path == "/version" else {"object": "list", "data": [card]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        if self.path == "/v1/completions" and self.server.state.script:
            fault = self.server.state.script.popleft()
            if fault == "reset":
                self.close_connection = True
                return self.connection.close()
            if fault == "forget":
                self.server.adapters.clear()
            elif fault:
                return self.reply(int(fault), {"error": {"message": "told to fail"}})
        try:
            with self.server.lock:
                found = self.server.answer(self.path, body)
        except Refused as refused:
            return self.reply(refused.status, {"detail": str(refused)} if refused.status == 405 else {"error": {"message": str(refused)}})
        return self.reply(200, found)

    def allowed(self) -> bool:
        key = self.server.state.key
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self.reply(401, {"error": {"message": f"no such key: {self.headers.get('Authorization')}"}})
            return False
        return True

    def reply(self, status: int, found: dict[str, Any] | str) -> None:
        data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
        self.send_response(status)
        if not isinstance(found, str):  # vLLM names no type for its lines of text
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class RolloutServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0, **state: Any) -> None:
        self.folder, self.state, self.lock = folder, State(**state), threading.Lock()
        self.adapters: dict[str, Any] = {}
        super().__init__(("127.0.0.1", port), Handler)
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> RolloutServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that has gone
            super().handle_error(request, client_address)

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any] | str:
        if path == "/v1/load_lora_adapter" and "runtime" not in self.state.without:
            return self.load(body["lora_name"], Path(body["lora_path"]))
        if path == "/v1/unload_lora_adapter" and "runtime" not in self.state.without:
            return "Success" if self.adapters.pop(body["lora_name"], None) else "none"
        if path != "/v1/completions":
            raise Refused(404, "Not Found")
        if body["model"] not in self.adapters:
            raise Refused(404, f"The model `{body['model']}` does not exist.")
        self.state.bodies.append(body)
        return {"model": body["model"], "choices": [self.write(self.adapters[body["model"]], body)]}

    def load(self, name: str, path: Path) -> str:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        if "lora" in self.state.without:
            raise Refused(500, "Call to add_lora method failed: LoRA is not enabled. Use --enable-lora to enable LoRA.")
        if not (path / "adapter_config.json").is_file():
            raise Refused(404, f"Loading lora {name} failed: No adapter found for <path>")
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        if rank > self.state.rank:
            raise Refused(500, f"LoRA rank {rank} is greater than max_lora_rank {self.state.rank}.")
        stale = next(iter(self.adapters.values()), None) if "reloading" in self.state.without else None
        model = stale or PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32), str(path)).eval()
        self.adapters[name] = model
        self.state.loads.append(name)
        return f"Success: LoRA adapter '{name}' added successfully."

    @torch.inference_mode()
    def write(self, model: Any, body: dict[str, Any]) -> dict[str, Any]:
        (ids,), temperature, stops = body["prompt"], body["temperature"], frozenset(body["stop_token_ids"])
        row = Row(prompt=ids, max_tokens=body["max_tokens"], temperature=temperature, uniforms=uniforms(body.get("seed", 0), body["max_tokens"] + 1))
        decode(model.get_base_model(), [row], stops, Clock())
        tokens = [*row.tokens, *([] if row.stopped_by is None else [row.stopped_by])]
        logits = model(input_ids=torch.tensor([ids + tokens])).logits[0, len(ids) - 1:-1].float()
        values = torch.log_softmax(logits / (temperature if self.state.processed else 1.0), -1)
        chosen = values.gather(-1, torch.tensor(tokens)[:, None])[:, 0] + self.state.shift
        best = values[0].topk(body["logprobs"])
        top = {f"token_id:{token}": value for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)}
        choice = {"index": 0, "finish_reason": "length" if row.stopped_by is None else "stop", "text": "",
                  "logprobs": {"token_logprobs": chosen.tolist(), "top_logprobs": [top] * len(tokens)}}
        return choice if "token_ids" in self.state.without else choice | {"token_ids": tokens, "prompt_token_ids": ids}
