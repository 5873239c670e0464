"""What a launcher says and the recipe does not: refused, or without effect."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from accelerate.state import AcceleratorState

from auditor.errors import InputError
from auditor.training.core.world import World


def test_the_launcher_s_number_format_is_not_the_recipe_s(monkeypatch):
    """Under DDP accelerate would run every forward pass in it."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        assert World().accelerator.mixed_precision == "no"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("name", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"])
def test_a_launcher_of_another_kind_is_refused(monkeypatch, name):
    monkeypatch.setenv(name, "true")
    with pytest.raises(InputError, match="--fsdp_version 2"):
        World()


SCRIPT = """
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from auditor.errors import AuditorError, TrainingError
from auditor.training.core.on_policy import Collector
from auditor.training.core.world import World

world = World()
world.agree(None)
try:
    world.agree(TrainingError("the server is gone") if world.rank == 1 else None)
except AuditorError as error:
    Path(f"rank-{world.rank}.txt").write_text(f"{type(error).__name__}: {error}")


def sampler(prompts, sampling, seed):
    if world.rank == 1:
        raise TrainingError("logits are not finite")
    return []


collector = object.__new__(Collector)  # without a model, which has no say here
collector.world, collector.rewards, collector.rules, collector.computing = world, {}, SimpleNamespace(sampling=None, seed=0), nullcontext
try:
    collector._written([], sampler)
except AuditorError as error:
    Path(f"written-{world.rank}.txt").write_text(str(error))
world.wait()
"""


def test_what_one_process_meets_is_raised_in_all(tmp_path):
    (tmp_path / "meet.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "meet.py"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"rank-{rank}.txt").read_text() for rank in range(2)] == ["TrainingError: the server is gone"] * 2
    assert [(tmp_path / f"written-{rank}.txt").read_text() for rank in range(2)] == ["logits are not finite"] * 2  # sampling and scoring, too
