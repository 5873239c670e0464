"""Agreement of engines: the same weights agree to the last bit, other weights do not, and what one cannot answer is counted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from auditor.engine.agreement import compare_engines, questions
from auditor.models.resolve import EngineOptions


@pytest.fixture(scope="module")
def moved(tiny_checkpoint, tmp_path_factory):
    """The tiny checkpoint with its weights a little larger."""
    folder = tmp_path_factory.mktemp("moved") / "model"
    shutil.copytree(tiny_checkpoint, folder)
    for path in folder.glob("*.safetensors"):
        save_file({name: value * 1.3 for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    return folder


def test_questions_are_of_two_kinds_and_draw_nothing():
    found = questions(("confidence", "verbosity", "diversity"), 10)
    assert {request.kind for request in found} == {"generate", "logprobs"}
    assert all(request.sampling.temperature == 0 for request in found)
    assert len({request.key for request in found}) == len(found)


def test_the_same_weights_agree_and_others_do_not(tiny_checkpoint, moved, tmp_path):
    (tmp_path / "empty.jsonl").write_text(json.dumps({"sample_id": "none", "completion": "x"}) + "\n")
    uris = [str(tiny_checkpoint), str(tiny_checkpoint), str(moved), f"recorded:{tmp_path / 'empty.jsonl'}"]
    same, other, silent = compare_engines(uris, ("confidence",), 6, EngineOptions())
    assert same.options > 0
    assert (same.largest_move, same.same_texts, same.errors, same.partings) == (0.0, same.texts, 0, ())
    assert other.largest_move > 1e-3
    assert silent.errors == len(questions(("confidence",), 6))
    assert (silent.options, silent.largest_move, silent.texts) == (0, None, 0)


def test_the_command(tiny_checkpoint, moved):
    done = subprocess.run([sys.executable, "-m", "auditor", "engines", str(tiny_checkpoint), str(moved), "-s", "verbosity", "--limit", "6", "--format", "json"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)["agreement"][0]
    assert line["same_texts"] < line["texts"]
    assert line["partings"][0]["first"] != line["partings"][0]["second"]


@pytest.mark.parametrize(("arguments", "message"), [(["smollm2"], "pass at least two"), (["smollm2", "none/there"], "no model at"),
                                                    (["smollm2", "smollm2", "--engine-arg", "x"], "write NAME=VALUE")])
def test_bad_input(arguments, message):
    command = [sys.executable, "-m", "auditor", "engines", *arguments, "--limit", "1", "-s", "confidence"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
