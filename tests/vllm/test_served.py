"""Audits over vLLM's own server: the same numbers as the built-in engine's, on the command line too."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")

from auditor.engine.agreement import answers, questions
from auditor.models.resolve import EngineOptions

SUITES = ("sycophancy", "refusal", "confidence", "verbosity", "diversity", "judge_agreement")


def auditor(tmp_path, *arguments):
    environment = {**os.environ, "AUDITOR_CACHE": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1,localhost", "OPENAI_API_KEY": "sk-not-used"}
    return subprocess.run([sys.executable, "-m", "auditor", *arguments], capture_output=True, text=True, env=environment, check=False)


def test_every_shipped_suite_gets_the_numbers_of_the_built_in_engine(vllm_server):
    requests = questions(SUITES, 2)
    _, ours = answers("smollm2", EngineOptions(), requests)
    _, theirs = answers(f"openai:smollm2@{vllm_server}", EngineOptions(cache=False), requests)
    options = [(a.logprob, b.logprob) for request in requests if request.kind == "logprobs"
               for a, b in zip(ours[request.key].logprobs, theirs[request.key].logprobs, strict=True)]
    assert len(options) >= 10
    assert max(abs(a - b) for a, b in options) < 1e-3
    greedy = [request.key for request in requests if request.kind == "generate" and request.sampling.temperature == 0]
    assert len(greedy) >= 5
    assert sum(ours[key].text == theirs[key].text for key in greedy) >= 0.8 * len(greedy)


def test_an_audit_of_the_server_is_recorded_and_its_report_names_the_engine(vllm_server, tmp_path):
    database, page = str(tmp_path / "runs.duckdb"), tmp_path / "report.html"
    done = auditor(tmp_path, "run", f"openai:smollm2@{vllm_server}", "--suite", "confidence", "--limit", "8", "--db", database, "--format", "json")
    assert done.returncode in (0, 1, 4), done.stderr
    run = json.loads(done.stdout)
    assert "Traceback" not in done.stderr
    reported = auditor(tmp_path, "report", run["run_id"], "--db", database, "--out", str(page))
    assert reported.returncode == 0, reported.stderr
    assert "openai/vllm" in page.read_text()
    assert "sk-not-used" not in page.read_text() + done.stdout + done.stderr


def test_a_model_that_the_server_does_not_serve(vllm_server, tmp_path):
    done = auditor(tmp_path, "run", f"openai:another@{vllm_server}", "--suite", "confidence", "--limit", "2", "--db", str(tmp_path / "runs.duckdb"))
    assert done.returncode == 2
    assert "smollm2" in done.stderr
    assert "Traceback" not in done.stderr
