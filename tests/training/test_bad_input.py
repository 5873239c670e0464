"""What a user can get wrong in training, and what the machine can: each is a clear error, and nothing that was made before is lost."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.errors import DataError, InputError, ModelError, TrainingError, UnknownNameError
from auditor.training import ppo
from auditor.training.core.rewards import Part
from auditor.training.core.stage import StageRun
from auditor.training.core.world import World
from auditor.training.pipeline import Options, train
from auditor.training.recipe import Recipe, read_recipe

Make = Callable[..., Recipe]


def pairs(count: int = 6, **changed: object) -> list[dict]:
    return [{"id": f"p{n}", "cluster_id": f"c{n}", "prompt": f"Name colour {n}.", "chosen": f"Blue {n}.", "rejected": f"No {n}."} | changed
            for n in range(count)]


@pytest.fixture
def make(tmp_path: Path, tiny_checkpoint: Path) -> Make:
    """Writes a recipe of one stage and its data, and reads it."""

    def write(rows: list[dict] | None = None, method: str = "sft", *changes: str, **settings: object) -> Recipe:
        (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, pairs() if rows is None else rows)) + "\n", encoding="utf-8")
        lines = [f'model = "{tiny_checkpoint}"', "[[stage]]", f'method = "{method}"', "batch_size = 2", "save_every = 1"]
        data = "prompts" if method == "ppo" else "data"
        table = {data: str(tmp_path / "data.jsonl")} | settings
        (tmp_path / "own.toml").write_text("\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in table.items())]))
        return read_recipe(str(tmp_path / "own.toml"), changes)

    return write


def test_an_unknown_key_names_the_nearest(make, tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown key in stage 'sft' 'batchsize': did you mean 'batch_size'\?"):
        make(batchsize=4)
    with pytest.raises(UnknownNameError, match="unknown stage 'sff': did you mean 'sft'"):
        make(None, "sft", "sff.lr=1")
    (tmp_path / "top.toml").write_text('sead = 1\n[[stage]]\nmethod = "sft"\n')
    with pytest.raises(UnknownNameError, match="did you mean 'seed'"):
        read_recipe(str(tmp_path / "top.toml"))


@pytest.mark.parametrize(("change", "words"), [
    ("sft.lr=0", "lr is 0"), ("sft.lr=high", "lr is 'high'"), ("sft.epochs=-1", "epochs is -1"), ("sft.schedule=cosin", "did you mean 'cosine'"),
    ("seed=-1", "seed is -1"), ("seed", "write key=value"), ("model=", "model is ''"), ("sft.batch_size=1.5", "batch_size is 1.5"),
])
def test_a_value_that_cannot_be(make, change, words):
    with pytest.raises(InputError, match=words):
        make(None, "sft", change)


def test_missing_files(make, tmp_path):
    with pytest.raises(InputError, match=r"no recipe at .*absent\.toml"):
        read_recipe(str(tmp_path / "absent.toml"))
    with pytest.raises(UnknownNameError, match="did you mean 'rlhf'"):
        read_recipe("rlfh")
    with pytest.raises(InputError, match="absent"):
        train(make(data=str(tmp_path / "absent.jsonl")), tmp_path / "out")
    with pytest.raises(ModelError, match="no model at"):
        train(make(None, "sft", "model=./nowhere"), tmp_path / "out2")


@pytest.mark.parametrize(("rows", "words"), [
    ([], "holds no"),
    (pairs(label=0.5), "every label is 0.5"),
    (pairs(label=0.0), "every label is below 0.5"),
    (pairs(chosen="Yes."), "share one chosen text"),
])
@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_an_empty_or_one_sided_preference_set(make, tmp_path, rows, words, method):
    with pytest.raises(InputError, match=words):
        train(make(rows, method), tmp_path / "out")


def test_chosen_equals_rejected_names_the_line(make, tmp_path):
    with pytest.raises(DataError, match=r"data\.jsonl:3: .*(same|equal|identical)"):
        train(make([*pairs(2), *pairs(1, id="x", chosen="Same.", rejected="Same.")], "dpo"), tmp_path / "out")


def test_longer_than_the_context_names_the_example(make, tmp_path):
    long = pairs(1, id="long", prompt="word " * 600)
    with pytest.raises(InputError, match=r"example 'long' has \d+ tokens and the limit is 512"):
        train(make([*pairs(2), *long]), tmp_path / "sft")
    with pytest.raises(InputError, match=r"prompt 'long' has \d+ tokens: with max_new_tokens"):
        train(make([*pairs(2), *long], "ppo", 'ppo.reward=[{kind="length"}]'), tmp_path / "ppo")


@pytest.mark.parametrize(("reward", "words"), [
    (lambda episodes: [math.nan] * len(episodes), "returned nan"),
    (lambda episodes: [math.inf] * len(episodes), "returned inf"),
    (lambda episodes: [1.0], "returned 1 scores for 4 completions"),
    (lambda episodes: [None] * len(episodes), "could not score any"),
])
def test_a_reward_that_is_no_reward(make, tmp_path, tiny_checkpoint, reward, words):
    make()
    run = StageRun(name="ppo", folder=tmp_path / "stage", world=World(), inputs={"policy": str(tiny_checkpoint)})
    run.folder.mkdir()
    config = ppo.Config(prompts=str(tmp_path / "data.jsonl"), reward=(Part(kind="mine"),), updates=1, batch_size=4, minibatch_size=4, max_new_tokens=4,
                        normalise_on=4)
    with pytest.raises(TrainingError, match=words):
        ppo.train(config, run, {"mine": reward})


def test_no_reward_and_an_unvalidated_one(make, tmp_path):
    with pytest.raises(InputError, match="has no reward"):
        train(make(None, "ppo", reward=[]), tmp_path / "a")
    with pytest.raises(InputError, match="needs a reward"):
        train(make(None, "ppo"), tmp_path / "b")


def test_the_output_folder(make, tmp_path):
    recipe, out = make(max_steps=1), tmp_path / "out"
    with pytest.raises(InputError, match="holds no training run to resume"):
        train(recipe, out, Options(resume=True))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        train(recipe, tmp_path / "file")
    with pytest.raises(InputError, match="holds other files"):
        train(recipe, tmp_path)
    train(recipe, out)
    with pytest.raises(InputError, match="holds a training run already"):
        train(recipe, out)


def test_a_resume_under_a_changed_recipe_says_what_changed(make, tmp_path):
    train(make(max_steps=1), tmp_path / "out")
    with pytest.raises(InputError, match=r"changed: seed: 0 → 7, stages\.sft\.config\.lr: 2e-05 → 0\.001"):
        train(make(None, "sft", "seed=7", "sft.lr=1e-3", max_steps=1), tmp_path / "out", Options(resume=True))


def test_a_damaged_checkpoint_names_its_folder(make, tmp_path):
    out = tmp_path / "out"
    halted = Halt(2)
    with pytest.raises(KeyboardInterrupt):
        train(make(), out, Options(after_step=halted))
    tensors = max((out / "1-sft" / "checkpoints").glob("step-*")) / "tensors.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(TrainingError, match=r"step-000002 cannot be read.*remove that folder and resume from the one before"):
        train(make(), out, Options(resume=True))
    for path in sorted(tensors.parent.iterdir()):
        path.unlink()
    tensors.parent.rmdir()
    train(make(), out, Options(resume=True))  # as the message says
    (out / "1-sft" / "stage.json").write_text("{")
    with pytest.raises(TrainingError, match=r"stage\.json cannot be read"):
        train(make(), out, Options(resume=True))


class Halt:
    """Interrupts the run at the ``count``-th checkpoint."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self, folder: Path, stage: str, step: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


DISK = """
import resource, sys
from pathlib import Path
from auditor.errors import TrainingError
from auditor.training.pipeline import Options, train
from auditor.training.recipe import read_recipe
recipe, out = read_recipe(sys.argv[1]), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    train(recipe, out, Options(resume=out.exists()))
except TrainingError as error:
    print(error)
"""


@pytest.mark.parametrize(("steps", "place"), [(2, "checkpoints/step-000001"), (1, "1-sft/model")])
def test_a_full_disk_stops_with_a_message_and_can_be_resumed(make, tmp_path, steps, place):
    """No file may grow beyond a limit, as on a disk with so much space left."""
    recipe, out = make(max_steps=steps), tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", DISK, str(tmp_path / "own.toml"), str(out), "100000"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-1500:]
    assert f"{place} cannot be written" in done.stdout
    assert "free some space and go on with --resume" in done.stdout
    assert not list(out.rglob("*.partial"))
    assert [outcome.steps for outcome in train(recipe, out, Options(resume=True))] == [steps]
    assert (out / "1-sft" / "model" / "model.safetensors").is_file()
    assert [json.loads(line)["step"] for line in (out / "1-sft" / "steps.jsonl").read_text().splitlines()] == list(range(1, steps + 1))


HOLD = """
import sys
from pathlib import Path
from auditor.training.pipeline import Options, train
from auditor.training.recipe import read_recipe
train(read_recipe(sys.argv[1]), Path(sys.argv[2]), Options(claimed=lambda out: (print("on", flush=True), sys.stdin.read())))
"""


def test_two_trainers_on_one_folder(make, tmp_path):
    recipe, out = make(max_steps=1), tmp_path / "out"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "own.toml"), str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout
        assert first.stdout.readline() == "on\n"
        for resume in (False, True):
            with pytest.raises(TrainingError, match="another process is training in"):
                train(recipe, out, Options(resume=resume))
    finally:
        first.communicate("", timeout=120)
    assert first.returncode == 0
    assert [outcome.steps for outcome in train(recipe, out, Options(resume=True))] == [1]


def test_a_killed_trainer_leaves_no_lock(make, tmp_path):
    recipe, out = make(max_steps=1), tmp_path / "out"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "own.toml"), str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout
    assert first.stdout.readline() == "on\n"
    first.kill()
    first.communicate()
    deadline = time.monotonic() + 10
    while not os.path.exists(out / "run.json") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [outcome.steps for outcome in train(recipe, out, Options(resume=True))] == [1]
