"""The misbehaving server, in this process and as one of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

PLACE = Path(__file__).with_name("server.py")
spec = importlib.util.spec_from_file_location("endpoint_server", PLACE)
served = importlib.util.module_from_spec(spec)
sys.modules["endpoint_server"] = served
spec.loader.exec_module(served)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    """No key and no cache of the user's."""
    for name in ("AUDITOR_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(scope="session")
def engine(tiny_checkpoint):
    return served.Engine(str(tiny_checkpoint))


@pytest.fixture
def serve(engine):
    """Start a server with the given State's fields; all are stopped in the end."""
    started = []

    def start(port=0, **fields):
        server = served.Server(engine, served.State(**{name: frozenset(value) if name == "without" else value for name, value in fields.items()}), port)
        started.append(server.start())
        return server

    yield start
    for server in started:
        server.stop()


@contextmanager
def process(folder, port=0, *more):
    """The server as a process; yields (process, url)."""
    ready = Path(folder).parent / f"ready-{os.getpid()}-{time.monotonic_ns()}.txt"
    command = [sys.executable, str(PLACE), str(folder), "--port", str(port), "--ready", str(ready), *map(str, more)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 120
        while not ready.exists():
            assert running.poll() is None, "the server did not start"
            assert time.monotonic() < deadline, "the server takes too long to start"
            time.sleep(0.05)
        yield running, ready.read_text()
    finally:
        running.kill()
        running.wait()
        ready.unlink(missing_ok=True)


@pytest.fixture
def server_process():
    return process
