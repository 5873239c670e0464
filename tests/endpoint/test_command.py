"""`auditor run openai:…` as a user meets it: a subprocess, a server that is killed in the middle, the same numbers after resuming."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.cli
KEY = "sk-very-secret-0123456789"
RUN = ("--suite", "confidence", "--limit", "8")


def auditor(*arguments, cwd, **environment):
    done = subprocess.run([sys.executable, "-m", "auditor", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=400,
                          env={**os.environ, "NO_COLOR": "1", **environment})
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def shown(cwd, run="latest"):
    return json.loads(auditor("show", run, "--format", "json", cwd=cwd).stdout)


def values(found):
    return {(metric["suite"], metric["name"], metric["group"]): (metric["value"], metric["n"], metric["n_unscored"]) for metric in found["metrics"]}


def assert_equal_numbers(one, other):
    one, other = values(one), values(other)
    assert one.keys() == other.keys()
    for name, (value, *counts) in one.items():
        assert counts == list(other[name][1:]), name
        assert value == pytest.approx(other[name][0], abs=1e-4, nan_ok=False), name


def test_a_run_equals_the_engine_s_own_and_the_key_is_nowhere(serve, tiny_checkpoint, tmp_path):
    server = serve(key=KEY)
    done = auditor("run", f"openai:tiny@{server.url}", *RUN, "--price", "1.5,3", "--fail-on-error", "5%", "--no-cache", cwd=tmp_path,
                   OPENAI_API_KEY=KEY)
    assert done.returncode in (0, 1, 4), done.stderr
    assert "weights cannot be verified through an endpoint" in done.stderr
    assert "tokens and wrote" in done.stderr
    assert "; cost 0." in done.stderr
    endpoint = shown(tmp_path)
    assert endpoint["environment"]["hardware"]["endpoint"]["price"] == [1.5, 3.0]
    auditor("run", tiny_checkpoint, *RUN, cwd=tmp_path)
    assert_equal_numbers(endpoint, shown(tmp_path))
    assert any(value is not None for value, *_ in values(endpoint).values())
    assert KEY not in done.stdout + done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_server_killed_in_the_middle_and_the_run_resumed(tiny_checkpoint, server_process, tmp_path):
    with server_process(tiny_checkpoint, 0, "--key", KEY) as (_, url):
        whole = auditor("run", f"openai:tiny@{url}", *RUN, "--no-cache", "--batch-size", "4", cwd=tmp_path, AUDITOR_API_KEY=KEY)
        assert whole.returncode in (0, 1, 4), whole.stderr
        expected = shown(tmp_path)
    port = url.rpartition(":")[2].removesuffix("/v1")
    with server_process(tiny_checkpoint, port, "--key", KEY, "--delay", "0.15") as (server, url):
        command = [sys.executable, "-m", "auditor", "run", f"openai:tiny@{url}", *RUN, "--no-cache", "--batch-size", "4",
                   "--retries", "1", "--concurrency", "1"]
        with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "AUDITOR_API_KEY": KEY}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as running:
            journals = tmp_path / "auditor.duckdb.journal"
            deadline = time.monotonic() + 240
            while not any('"generation"' in path.read_text() for path in journals.glob("*.jsonl")):
                assert time.monotonic() < deadline
                assert running.poll() is None, running.stderr.read()
                time.sleep(0.02)
            server.kill()
            _, said = running.communicate(timeout=240)
        assert running.returncode == 3, said
        assert "go on with --resume" in said
        assert "Traceback" not in said
    journal = next(journals.glob("*.jsonl"))
    kept = journal.read_text()
    assert KEY not in kept + said
    assert kept.count('"table":"generation"') > 0
    assert '"error":"no connection' not in kept  # a batch with failures beyond the budget is asked again, whole
    stopped = shown(tmp_path)
    assert stopped["status"] == "failed"
    with server_process(tiny_checkpoint, port, "--key", KEY):
        resumed = auditor("run", "--resume", stopped["run_id"], "--concurrency", "8", cwd=tmp_path, AUDITOR_API_KEY=KEY)
    assert resumed.returncode in (0, 1, 4), resumed.stderr
    found = shown(tmp_path)
    assert found["run_id"] == stopped["run_id"]
    assert found["status"] == "done"
    assert_equal_numbers(found, expected)


def test_what_the_server_cannot_give_is_not_assessed(serve, tmp_path):
    server = serve(without=["tokenize", "logprobs", "continue"])
    done = auditor("run", f"openai:tiny@{server.url}", *RUN, "--no-cache", cwd=tmp_path)
    assert done.returncode in (0, 4), done.stderr
    assert "gives no log-probabilities" in done.stderr
    found = shown(tmp_path)
    verdicts = {verdict["criterion"]["metric"]: verdict["outcome"] for verdict in found["verdicts"]}
    assert verdicts["confidence.overconfidence"] == "not_assessed"
    metric = next(metric for metric in found["metrics"] if metric["name"] == "overconfidence" and metric["group"] == "all")
    assert (metric["value"], metric["n"]) == (None, 0)
    assert metric["n_unscored"] > 0
    free = next(metric for metric in found["metrics"] if metric["name"] == "free_abstention_rate")
    assert free["n"] > 0  # what the server can give is measured


def test_an_endpoint_as_judge_and_several_servers(serve, tiny_checkpoint, tmp_path):
    one, two = serve(), serve()
    done = auditor("run", f"openai:tiny@{one.url}", "--endpoint", two.url, "--judge", f"openai:tiny@{two.url}", *RUN, "--no-cache", cwd=tmp_path)
    assert done.returncode in (0, 1, 4), done.stderr
    assert "the judge read" in done.stderr
    auditor("run", tiny_checkpoint, "--judge", tiny_checkpoint, *RUN, cwd=tmp_path)
    runs = json.loads(auditor("runs", "--format", "json", cwd=tmp_path).stdout)["runs"]
    assert_equal_numbers(*(shown(tmp_path, run["run_id"]) for run in runs[:2]))


@pytest.mark.parametrize(("arguments", "says"), [
    (["openai:m@http://127.0.0.1:9/v1"], "no server answers"),
    (["openai:m@http://127.0.0.1:9/v1", "--fail-on-error", "2.5"], "--fail-on-error"),
    (["openai:m@http://127.0.0.1:9/v1", "--timeout", "0"], "--timeout"),
    (["openai:m@http://127.0.0.1:9/v1", "--price", "free"], "--price"),
    (["smollm2", "--endpoint", "http://127.0.0.1:9/v1"], "--endpoint is for"),
])
def test_bad_input(arguments, says, tmp_path, capsys):
    from auditor.cli import run

    assert run(["run", *arguments, "--suite", "confidence", "--limit", "2", "--db", str(Path(tmp_path) / "a.duckdb")]) == 2
    assert says in capsys.readouterr().err
