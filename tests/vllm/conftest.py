"""vLLM's own server on the embedded model, started once for all tests of this folder; its adapters may be changed while it runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from auditor.models.resolve import resolve

SERVED = "smollm2"
START_SECONDS = 300
# Without the modules named, vLLM 0.32 on a CPU ends at the first request for prompt log-probabilities: it prepares the output layer for adapters too.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
OPTIONS = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--enable-lora", "--max-lora-rank", "16", "--lora-target-modules", *TARGETS)
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
               "NO_PROXY": "127.0.0.1,localhost"}


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory):
    """The address of a server, ``http://127.0.0.1:PORT/v1``; skipped where vLLM is not installed, failed where it does not start."""
    pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(resolve(SERVED).folder), "--served-model-name", SERVED,
               "--host", "127.0.0.1", "--port", str(port), *OPTIONS]
    with log.open("w") as lines, subprocess.Popen(command, stdout=lines, stderr=lines, env={**os.environ, **ENVIRONMENT}) as server:
        try:
            _await(server, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _await(server, url, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the server ended before it served: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not serve within {START_SECONDS} s: {log.read_text()[-2000:]}")
