"""FSDP2 in two CPU processes: every rank holds half of the weights and of what the optimiser keeps, and the losses are those of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.cli

LAUNCHER = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
            "--dynamo_backend", "no", "--use_fsdp", "--fsdp_version")
IN_PARTS = (*LAUNCHER, "2")
RECIPE = """
model = "{model}"

[[stage]]
method = "sft"
data = "pairs.jsonl"
batch_size = 5
micro_tokens = 64
lr = 1e-3
epochs = 6.0
max_steps = 7
save_every = 2

[[stage]]
method = "dpo"
data = "pairs.jsonl"
batch_size = 5
lora_rank = 4
lr = 1e-3
max_steps = 3

[[stage]]
method = "reward"
data = "pairs.jsonl"
batch_size = 4
heads = 2
lr = 1e-3
max_steps = 3

[[stage]]
method = "ppo"
prompts = "pairs.jsonl"
updates = 6
batch_size = 7
minibatch_size = 3
ppo_epochs = 2
micro_tokens = 96
normalise_on = 7
max_new_tokens = 8
lr = 1e-3
entropy_floor = 0.0
save_every = 2
allow_unvalidated_reward = true

[[stage.reward]]
kind = "model"

[[stage.reward]]
kind = "length"

[[stage]]
name = "adapted"
method = "ppo"
prompts = "pairs.jsonl"
updates = 2
batch_size = 5
minibatch_size = 2
ppo_epochs = 2
lora_rank = 4
gradient_checkpointing = true
normalise_on = 7
max_new_tokens = 8
lr = 1e-3
entropy_floor = 0.0

[[stage.reward]]
kind = "length"

[[stage]]
name = "shared"
method = "ppo"
prompts = "pairs.jsonl"
value = "shared"
updates = 1
batch_size = 4
ppo_epochs = 2
normalise_on = 4
max_new_tokens = 8
lr = 1e-3
entropy_floor = 0.0

[[stage.reward]]
kind = "length"
"""
CLOCKS = ("tokens_per_second", "seconds_rollout", "seconds_reward", "seconds_logprobs", "seconds_update")
STAGES = {"1-sft": 7, "2-dpo": 3, "3-reward": 3, "4-ppo": 6, "5-adapted": 2, "6-shared": 1}
# What each rank holds of policy and value network, of what AdamW keeps, and of the plain networks outside and inside `whole`.
PARTS = """
import json, sys
from pathlib import Path
import torch
from auditor.training import ppo
from auditor.training.core.on_policy import ActorCritic, Reference
from auditor.training.core.optimise import Stepper
from auditor.training.core.stage import StageRun
from auditor.training.core.weights import policy_net, scalar_net
from auditor.training.core.world import World

def numbers(tensors):
    return sum(getattr(tensor, "to_local", lambda tensor=tensor: tensor)().numel() for tensor in tensors)

world = World()
run = StageRun(name="x", folder=Path("x"), world=world)
policy = policy_net(run.open(sys.argv[1]), ppo.Config(), 0)
reference = Reference(policy, world)
net = ActorCritic(policy, scalar_net(run.open(sys.argv[1]), ppo.Config(), 1, zero=True))
before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
stepper = Stepper(net, ppo.Config(), 3, world)
for parameter in stepper.parameters.values():
    parameter.grad = torch.zeros_like(parameter)
stepper.step()
kept = [value for state in stepper.optimiser.state.values() for name, value in state.items() if name != "step"]
found = {"all": numbers(before.values()), "parts": numbers(stepper.net.parameters()), "moments": numbers(kept), "outside": numbers(net.parameters()),
         "reference outside": numbers(reference.net.parameters())}
with stepper.whole(), reference.whole():
    found["equal"] = all(torch.equal(before[name], parameter) for name, parameter in net.named_parameters())
    found["reference equal"] = all(torch.equal(before["policy." + name], parameter) for name, parameter in reference.net.named_parameters())
found["after"] = numbers(net.parameters())
Path(f"rank-{world.rank}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def place(tiny_checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    colours = ["red", "blue", "green", "yellow", "black"]
    rows = [{"id": f"p{n}", "cluster_id": f"c{n // 2}", "prompt": f"Say {colours[n % 5]} {n}.", "chosen": f"{colours[n % 5]} it is.",
             "rejected": "I would never say that" + " word" * (n % 3)} for n in range(24)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "own.toml").write_text(RECIPE.format(model=tiny_checkpoint))
    (folder / "parts.py").write_text(PARTS)
    return folder


def environment(port: int) -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "MASTER_PORT": str(port)}


def auditor(place: Path, *arguments: str, launcher: tuple[str, ...] = (sys.executable,), port: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([*launcher, "-m", "auditor", *arguments], cwd=place, capture_output=True, text=True, timeout=500, env=environment(port))
    assert "Warning" not in done.stderr, done.stderr
    return done


def steps(out: Path, stage: str) -> list[dict]:
    rows = [json.loads(line) for line in (out / stage / "steps.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


def assert_alike(one: Path, other: Path, stage: str) -> None:
    left, right = steps(one, stage), steps(other, stage)
    assert len(left) == len(right) == STAGES[stage]
    for expected, row in zip(left, right, strict=True):
        assert set(row) == set(expected)
        for name in ("loss", "gradient_norm", "lr", "kl", "reward", "length", "entropy", "policy_loss", "value_loss", "gap"):
            if expected.get(name) is not None:
                assert row[name] == pytest.approx(expected[name], rel=2e-3, abs=1e-5), (stage, row["step"], name)  # float error grows from step to step


@pytest.fixture(scope="module")
def trained(place):
    """The recipe trained by one process, and by two that hold half of the weights each."""
    alone = auditor(place, "train", "own.toml", "--out", "whole", "--db", "whole.duckdb")
    assert alone.returncode == 0, alone.stderr
    both = auditor(place, "train", "own.toml", "--out", "two", "--db", "two.duckdb", "--format", "json", launcher=IN_PARTS, port=29621)
    assert both.returncode == 0, both.stderr
    assert json.loads(both.stdout)["next"] == "auditor run two/6-shared/model"
    return place


def test_each_rank_holds_half(place, tiny_checkpoint):
    done = subprocess.run([*IN_PARTS, "parts.py", str(tiny_checkpoint)], cwd=place, capture_output=True, text=True, timeout=300,
                          env=environment(29622))
    assert done.returncode == 0, done.stderr
    found = [json.loads((place / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    total = found[0]["all"]
    assert [sum(one[name] for one in found) for name in ("parts", "moments")] == [total, 2 * total]
    for one in found:
        assert one["parts"] == pytest.approx(total / 2, rel=0.01)
        assert (one["outside"], one["after"], one["reference outside"]) == (0, 0, 0)
        assert one["equal"]
        assert one["reference equal"]


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_with_weights_in_parts_compute_what_one_computes(trained, stage):
    assert_alike(trained / "whole", trained / "two", stage)


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_written_is_what_one_process_writes(trained, stage):
    from safetensors.torch import load_file

    folders = [trained / out / stage / "model" for out in ("whole", "two")]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    for name in (name for name in names[0] if name.endswith(".safetensors")):
        one, other = (load_file(folder / name) for folder in folders)
        assert {key: tensor.shape for key, tensor in one.items()} == {key: tensor.shape for key, tensor in other.items()}
        for key, tensor in one.items():
            # By the norm: Adam makes a whole step of a gradient that is all float error, so that single weights may part.
            assert float((tensor - other[key]).norm()) <= 2e-3 * float(tensor.norm()), key


def kill_after(place: Path, journal: Path, count: int, command: tuple[str, ...]) -> None:
    """Start two processes and kill them, with their launcher, after so many steps."""
    process = subprocess.Popen([*IN_PARTS, "-m", "auditor", *command], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=environment(29623))
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline and not (journal.exists() and len(journal.read_text().splitlines()) >= count):
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()
    for one in (process, *psutil.Process(process.pid).children(recursive=True)):  # the launcher first: it would end the others politely
        one.send_signal(signal.SIGKILL)
    process.communicate()


def test_killed_and_resumed_equals_uninterrupted_also_in_one_process(trained):
    """By two processes to the very same numbers; the checkpoint holds whole tensors, so that one process can go on with it."""
    place, out = trained, trained / "killed"
    command = ("train", "own.toml", "--out", "killed", "--db", "killed.duckdb")
    kill_after(place, out / "4-ppo" / "steps.jsonl", 3, command)
    assert list((out / "4-ppo" / "checkpoints").glob("step-*"))
    for stage in ("1-sft", "2-dpo", "3-reward"):
        assert steps(out, stage) == steps(place / "two", stage)
    assert not (out / "4-ppo" / "stage.json").exists()
    kill_after(place, out / "4-ppo" / "steps.jsonl", 5, (*command, "--resume"))
    assert steps(out, "4-ppo") == steps(place / "two", "4-ppo")[:len(steps(out, "4-ppo"))]
    done = auditor(place, *command, "--resume")
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in steps(out, "4-ppo")] == list(range(1, 7))
    for stage in STAGES:
        assert_alike(place / "whole", out, stage)


@pytest.mark.parametrize(("options", "words"), [
    (("1",), "pass --fsdp_version 2"), (("2", "--fsdp_offload_params", "true"), "--fsdp_offload_params true is not supported")])
def test_another_kind_of_sharding_is_refused(place, options, words):
    done = auditor(place, "train", "own.toml", "--out", "never", launcher=(*LAUNCHER, *options), port=29624)
    assert done.returncode != 0
    assert done.stderr.count(words) == 1
    assert not (place / "never").exists()
