"""`auditor run ray:…` as a user meets it: clean JSON, the same numbers, nothing left behind, Ctrl-C and then on with one worker of a cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.cli
RUN = ("--suite", "confidence", "--limit", "8", "--batch-size", "2", "--threads", "1", "--format", "json")
FINE = (0, 1, 4)


@pytest.fixture
def temporary():
    """A folder for temporary files with a name short enough for sockets; nothing of ours may be in it in the end."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        yield Path(folder)
        assert not list(Path(folder).glob("auditor-*"))


def start(*arguments, cwd, temporary):
    return subprocess.Popen([sys.executable, "-m", "auditor", *map(str, arguments)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "NO_COLOR": "1", "TMPDIR": str(temporary)}, start_new_session=True)


def finish(running):
    out, said = running.communicate(timeout=400)
    assert "Traceback" not in out + said, said
    assert "raylet" not in said
    return out, said


def values(found):
    return {(metric["suite"], metric["name"], metric["group"]): (metric["value"], metric["n"], metric["n_unscored"]) for metric in found["metrics"]}


def wait_for(condition, running):
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        assert running.poll() is None, running.stderr and running.stderr.read()
        time.sleep(0.02)


def asked(cwd):
    return any('"generation"' in path.read_text() for path in cwd.glob("auditor.duckdb.journal/*.jsonl"))


def all_gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def cluster():
    """The address of a cluster of its own on this machine's loopback address."""
    with socket.socket() as line, tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        line.bind(("127.0.0.1", 0))
        port = line.getsockname()[1]
        line.close()
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}
        head = subprocess.Popen([str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1",
                                 "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folder}"], env={**os.environ, **quiet},
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: list(Path(folder).glob("session_*/sockets/raylet")), head)
        yield f"127.0.0.1:{port}"
        below = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        head.wait(timeout=60)
        assert all_gone(below)


def test_interrupted_and_resumed_on_a_cluster_with_the_engine_s_own_numbers(tiny_checkpoint, cluster, tmp_path, temporary):
    running = start("run", f"ray:{tiny_checkpoint}", "--workers", "2", *RUN, cwd=tmp_path, temporary=temporary)
    wait_for(lambda: asked(tmp_path), running)
    assert list(temporary.glob("auditor-ray-*"))
    below = psutil.Process(running.pid).children(recursive=True)
    listening = {address.laddr.ip for process in below for address in process.net_connections("inet") if address.status == psutil.CONN_LISTEN}
    assert len([process for process in below if "Worker" in process.name() or "ray::Worker" in " ".join(process.cmdline())]) >= 2
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    out, said = finish(running)
    assert (running.returncode, out) == (130, ""), said
    assert "note: Ray " in said
    assert "2 workers on 1 machine" in said
    run_id = said.partition("--resume ")[2].split()[0]
    assert all_gone(below)
    assert not list(temporary.glob("auditor-*"))

    resumed = start("run", "--resume", run_id, "--workers", "1", "--ray-address", cluster, "--format", "json", cwd=tmp_path, temporary=temporary)
    out, said = finish(resumed)
    assert resumed.returncode in FINE, said
    assert "1 worker on 1 machine" in said
    found = json.loads(out)
    assert (found["run_id"], found["status"]) == (run_id, "done")
    assert found["spec"]["model"]["engine"] == "ray/hf/cpu/packed"
    assert found["environment"]["hardware"]["ray"]["workers_used"] == 2

    plain = start("run", tiny_checkpoint, *RUN, cwd=tmp_path, temporary=temporary)
    out, said = finish(plain)
    assert plain.returncode in FINE, said
    assert values(json.loads(out)) == values(found)
    assert any(value is not None for value, *_ in values(found).values())


def test_a_model_that_no_worker_can_open(own_checkpoint, tmp_path, temporary):
    weights = own_checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    running = start("run", f"ray:{own_checkpoint}", *RUN, cwd=tmp_path, temporary=temporary)
    out, said = finish(running)
    assert (running.returncode, out) == (2, "")
    assert said.startswith(f"error: cannot load {own_checkpoint}")
    assert not list(tmp_path.glob("auditor.duckdb*"))
