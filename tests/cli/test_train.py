"""`auditor train` as a user meets it: subprocesses on a tiny checkpoint, killed, resumed, beside a locked database, in two processes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from auditor.cli import run
from auditor.models.processor import bfloat16

pytestmark = pytest.mark.cli

RECIPE = """
model = "{model}"

[[stage]]
method = "sft"
data = "pairs.jsonl"
batch_size = 4
micro_tokens = 96
lr = 1e-3
epochs = 6.0
max_steps = 7
save_every = 2

[[stage]]
method = "dpo"
data = "pairs.jsonl"
batch_size = 5
lr = 1e-3
max_steps = 3

[[stage]]
method = "ppo"
prompts = "pairs.jsonl"
updates = 5
batch_size = 6
minibatch_size = 3
normalise_on = 7
max_new_tokens = 8
lr = 1e-3
entropy_floor = 0.0
save_every = 2

[[stage.reward]]
kind = "length"
"""
CLOCKS = ("tokens_per_second", "seconds_rollout", "seconds_reward", "seconds_logprobs", "seconds_update")
STAGES = ("1-sft", "2-dpo", "3-ppo")


def auditor(*arguments, cwd, launcher=(sys.executable,), **environment):
    done = subprocess.run([*launcher, "-m", "auditor", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=500,
                          env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1", **environment})
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def place(tiny_checkpoint, tmp_path_factory) -> Path:
    """A folder with a recipe and its data."""
    folder = tmp_path_factory.mktemp("train")
    colours = ["red", "blue", "green", "yellow", "black"]
    rows = [{"id": f"p{n}", "cluster_id": f"c{n // 2}", "prompt": f"Say {colours[n % 5]} {n}.", "chosen": f"{colours[n % 5]} it is.",
             "rejected": "I would never say that" + " word" * (n % 3)} for n in range(24)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "own.toml").write_text(RECIPE.format(model=tiny_checkpoint))
    return folder


@pytest.fixture(scope="module")
def trained(place):
    """The recipe, trained without interruption by one process."""
    done = auditor("train", "own.toml", "--out", "whole", "--format", "json", cwd=place)
    assert done.returncode == 0, done.stderr
    return place, json.loads(done.stdout), done.stderr


def steps(out: Path, stage: str) -> list[dict]:
    """The statistics of a stage without those that a clock decides."""
    rows = [json.loads(line) for line in (out / stage / "steps.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


def query(db: Path, sql: str, *parameters: object) -> list[tuple]:
    with duckdb.connect(str(db), read_only=True) as connection:
        return connection.execute(sql, list(parameters)).fetchall()


def test_what_it_prints(trained):
    _, printed, errors = trained
    made = [(stage["stage"], stage["kind"], stage["steps"]) for stage in printed["stages"]]
    assert made == [("sft", "policy", 7), ("dpo", "policy", 3), ("ppo", "policy", 5)]
    assert printed["next"] == "auditor run whole/3-ppo/model"
    assert printed["status"] == "done"
    assert "sft 7/7  loss " in errors
    assert "ppo 5/5  loss " in errors
    assert all(word in errors for word in ("KL ", "tokens/s ", "length ", " left"))


def test_the_database_holds_every_step(trained):
    place, *_ = trained
    db = place / "auditor.duckdb"
    (run,) = query(db, "SELECT training_id, status, recipe_name, seed, environment ->> '$.packages.torch' FROM training_run")
    assert run[1:4] == ("done", "own", 0)
    assert run[4]
    assert run[0] == json.loads((place / "whole" / "run.json").read_text())["training_id"]
    stages = query(db, "SELECT stage, steps, complete, kind, lineage ->> '$.history[#-1]', length(weights_hash) FROM training_stage ORDER BY position")
    assert stages == [("sft", 7, True, "policy", "sft", 64), ("dpo", 3, True, "policy", "dpo", 64), ("ppo", 5, True, "policy", "ppo", 64)]
    for stage in STAGES:
        rows = [json.loads(line) for line in (place / "whole" / stage / "steps.jsonl").read_text().splitlines()]
        written = {(row["step"], name): value for row in rows for name, value in row.items() if name != "step"}
        kept = query(db, "SELECT step, name, value FROM training_step WHERE stage = ?", stage[2:])
        assert len(kept) == len(written)
        assert {(step, name): value for step, name, value in kept} == written
    listed = json.loads(auditor("trainings", "--format", "json", cwd=place).stdout)["trainings"]
    assert [(one["training_id"], one["status"]) for one in listed] == [(run[0], "done")]


def test_a_finished_run_imports_what_another_database_lacks(trained):
    place, *_ = trained
    done = auditor("train", "own.toml", "--out", "whole", "--resume", "--db", "second.duckdb", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "complete, kept" in done.stderr
    assert "Next: auditor run whole/3-ppo/model" in done.stdout
    counts = [query(place / name, "SELECT count(*), sum(value) FROM training_step WHERE name = 'loss'") for name in ("auditor.duckdb", "second.duckdb")]
    assert counts[0] == counts[1]


def wait_for(process: subprocess.Popen, journal: Path, count: int) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and len(journal.read_text().splitlines()) >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"{journal} never had {count} steps: {process.communicate()}")


def start(cwd, *arguments) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "auditor", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_killed_in_sft_and_in_ppo_and_resumed_equals_uninterrupted(trained):
    place, *_ = trained
    command = ("train", "own.toml", "--out", "killed", "--db", "killed.duckdb")
    for stage, extra in (("1-sft", ()), ("3-ppo", ("--resume",))):
        process = start(place, *command, *extra)
        wait_for(process, place / "killed" / stage / "steps.jsonl", 3)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (place / "killed" / stage / "stage.json").exists()
        assert list((place / "killed" / stage / "checkpoints").glob("step-*"))
    done = auditor(*command, "--resume", cwd=place)
    assert done.returncode == 0, done.stderr
    for stage in STAGES:
        assert steps(place / "killed", stage) == steps(place / "whole", stage)
        weights = [(place / out / stage / "model" / "model.safetensors").read_bytes() for out in ("killed", "whole")]
        assert weights[0] == weights[1]
    loss = "SELECT stage, step, value FROM training_step WHERE name = 'loss' ORDER BY ALL"
    assert query(place / "killed.duckdb", loss) == query(place / "auditor.duckdb", loss)


def test_interrupted_says_the_exact_command(trained):
    place, *_ = trained
    process = start(place, "train", "own.toml", "--set", "sft.max_steps=30", "--set", "seed=3", "--out", "in two words", "--db", "interrupted.duckdb")
    wait_for(process, place / "in two words" / "1-sft" / "steps.jsonl", 3)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=120)
    assert (process.returncode, printed) == (130, "")
    assert "Traceback" not in errors
    assert query(place / "interrupted.duckdb", "SELECT status FROM training_run") == [("interrupted",)]
    command = shlex.split(errors[errors.index("`") + 1:errors.rindex("`")])
    assert command[0] == "auditor"
    done = auditor(*command[1:], cwd=place)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in steps(place / "in two words", "1-sft")] == list(range(1, 31))
    rows = query(place / "interrupted.duckdb", "SELECT step FROM training_step WHERE stage = 'sft' AND name = 'loss' ORDER BY step")
    assert [step for (step,) in rows] == list(range(1, 31))


@pytest.mark.parametrize("broken", [False, True])
def test_a_locked_or_broken_database_stops_no_training(trained, broken):
    place, *_ = trained
    db, out = place / f"held-{broken}.duckdb", f"beside-{broken}"
    command = ("train", "own.toml", "--set", "sft.max_steps=2", "--set", "dpo.max_steps=1", "--set", "ppo.updates=1", "--out", out, "--db", db.name)
    if broken:
        db.write_text("these are my notes")
        done = auditor(*command, cwd=place)
        assert db.read_text() == "these are my notes"
        db.unlink()
    else:
        holder = duckdb.connect(str(db))
        try:
            done = auditor(*command, cwd=place)
        finally:
            holder.close()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: ") == 1
    assert "is not a DuckDB database" in done.stderr if broken else "holds the database" in done.stderr
    assert f"--resume --out {out} --db {db.name}` stores them" in done.stderr
    assert auditor(*command, "--resume", cwd=place).returncode == 0
    assert query(db, "SELECT count(*) FROM training_step WHERE name = 'loss'") == [(4,)]


def test_two_processes_compute_what_one_computes(trained):
    """`--cpu --num_processes 2` would start one process: accelerate starts several on a processor by --multi_gpu alone."""
    place, *_ = trained
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
                "--dynamo_backend", "no")
    done = subprocess.run([*launcher, "-m", "auditor", "train", "own.toml", "--out", "two", "--db", "two.duckdb", "--format", "json"], cwd=place,
                          capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": "29611"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["next"] == "auditor run two/3-ppo/model"
    assert done.stderr.count("sft 7/7") == 1
    for stage in STAGES:
        alone, both = steps(place / "whole", stage), steps(place / "two", stage)
        assert len(both) == len(alone)
        for one, other in zip(alone, both, strict=True):
            for name in ("loss", "gradient_norm", "lr", "kl", "reward", "length", "entropy", "policy_loss", "value_loss"):
                expected = None if one.get(name) is None else pytest.approx(one[name], rel=2e-3, abs=1e-5)  # float error grows from update to update
                assert other.get(name) == expected, (stage, one["step"], name)
    assert query(place / "two.duckdb", "SELECT count(*) FROM training_step WHERE name = 'loss'") == [(15,)]


def test_the_audit_reads_the_lineage(trained):
    place, *_ = trained
    done = auditor("run", "whole/3-ppo/model", "--suite", "sycophancy", "--limit", 4, "--format", "json", "--db", "audit.duckdb", cwd=place)
    lineage = json.loads(done.stdout)["spec"]["model"]["lineage"]
    assert lineage["history"] == ["sft", "dpo", "ppo"]
    assert lineage["rewards"][0]["kind"] == "length"
    assert lineage["parents"][0]["uri"] == "whole/2-dpo/model"
    assert auditor("report", "latest", "-o", "page.html", "--db", "audit.duckdb", cwd=place).returncode == 0
    page = (place / "page.html").read_text()
    assert "sft → dpo → ppo" in page
    assert "length (weight 1)" in page


def test_tensorboard(trained):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    place, *_ = trained
    done = auditor("train", "own.toml", "--set", "dpo.max_steps=1", "--set", "ppo.updates=1", "--out", "boarded", "--tensorboard", "board", cwd=place)
    assert done.returncode == 0, done.stderr
    events = EventAccumulator(str(place / "board" / "sft"))
    events.Reload()
    losses = [row["loss"] for row in steps(place / "boarded", "1-sft")]
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 8))
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses, rel=1e-6)


def test_tensorboard_absent_says_what_to_install(place):
    script = "import sys; sys.modules['tensorboard'] = None; sys.argv = ['auditor', 'train', 'own.toml', '--out', 'never', '--tensorboard', 'board']\n" \
             "from auditor.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert "pip install tensorboard" in done.stderr
    assert not (place / "never").exists()


@pytest.mark.parametrize(("arguments", "words"), [
    (("train",), "Missing argument"),
    (("train", "rlfh"), "did you mean 'rlhf'?"),
    (("train", "absent.toml"), "no recipe at 'absent.toml'"),
    (("train", "own.toml", "--set", "sft.batchsize=2"), "did you mean 'batch_size'?"),
    (("train", "rlaif", "--set", "rlaif.completions=1", "--out", "never"), "completions is 1; pass at least 2"),
    (("train", "rlaif", "--set", "rlaif.ask=pairwise", "--out", "never"), "completions = 4 is for ask = rating"),
    (("train", "own.toml", "--resume", "--out", "nothing"), "holds no training run to resume"),
    (("train", "own.toml", "--format", "yaml"), "unknown --format 'yaml'"),
    (("train", "own.toml", "--set", "sft.data=absent.jsonl", "--out", "absent"), "absent.jsonl"),
    (("trainings", "--db", "absent.duckdb"), "does not exist"),
])
def test_bad_input_exits_2_and_says_what_to_do(place, arguments, words, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert run(list(arguments)) == 2
    printed, errors = capsys.readouterr()
    assert words in " ".join(errors.split())
    assert printed == ""


def test_a_reward_that_prefers_a_fixed_reply_is_named_and_refused_before_any_update(place, tiny_checkpoint):
    """Pairs that teach "No." above a colour, and the colour above many words: on other topics too "No." beats what is the better reply there."""
    colours = ["red", "blue", "green", "yellow", "black", "white", "brown"]
    pairs = [("No.", f"{colours[n % 7]} it is") if n % 2 else (f"{colours[n % 7]} it is", "word " * 20) for n in range(80)]
    rows = [{"id": f"p{n}", "cluster_id": f"c{n // 2}", "prompt": f"What about {colours[n % 7]} {n}?", "chosen": chosen, "rejected": rejected}
            for n, (chosen, rejected) in enumerate(pairs)]
    (place / "short.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (place / "short.toml").write_text(f"""
model = "{tiny_checkpoint}"

[[stage]]
method = "reward"
data = "short.jsonl"
held_out = 0.4
batch_size = 8
epochs = 4.0
lr = 3e-3

[[stage]]
method = "ppo"
prompts = "short.jsonl"
updates = 1
batch_size = 4
normalise_on = 4
max_new_tokens = 4
""")
    done = auditor("train", "short.toml", "--out", "short", cwd=place)
    told = " ".join(done.stderr.split())
    assert done.returncode == 2, done.stderr
    assert "reward: WARNING: " in told
    assert "scores higher than the better reply on" in told
    assert "so a policy would learn to say only that; train it with noncontextual = 1 or more" in told
    assert not (place / "short" / "2-ppo" / "steps.jsonl").exists()


def test_failed_training_exits_3_with_the_command(place):
    done = auditor("train", "own.toml", "--set", "ppo.entropy_floor=9", "--set", "sft.max_steps=1", "--set", "dpo.max_steps=1", "--out", "failed",
                   "--db", "failed.duckdb", cwd=place)
    assert done.returncode == 3
    assert "stage 'ppo' stopped at step 1: entropy is" in done.stderr
    assert "--resume --out failed --db failed.duckdb`" in done.stderr
    assert query(place / "failed.duckdb", "SELECT status FROM training_run") == [("failed",)]


def test_a_dry_run_plans_and_writes_nothing(place, monkeypatch, capsys):
    before = sorted(place.iterdir())
    monkeypatch.chdir(place)
    assert run(["train", "own.toml", "--dry-run", "--format", "json"]) == 0
    assert sorted(place.iterdir()) == before
    found = json.loads(capsys.readouterr().out)
    assert [(stage["stage"], stage["examples"], stage["topics"], stage["steps"]) for stage in found["stages"]] == [
        ("sft", 24, 12, 7), ("dpo", 24, 12, 3), ("ppo", 24, 12, 5 * 4 * 2)]
    assert all(stage[name] > 0 for stage in found["stages"] for name in ("tokens", "flops", "bytes", "seconds"))
    printed = auditor("train", "own.toml", "--dry-run", cwd=place).stdout
    assert "Estimates." in printed
    assert "GFLOP/s in float32" in printed


def test_a_dry_run_in_bfloat16_is_refused_as_the_training_would_be(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr("auditor.training.core.weights.bfloat16", lambda: "none")
    assert run(["train", "own.toml", "--dry-run", "--set", "dtype=bfloat16"]) == 2
    assert "this processor has no bfloat16 arithmetic" in capsys.readouterr().err


@pytest.mark.skipif(bfloat16() == "none", reason="this processor has no bfloat16 arithmetic")
def test_a_dry_run_takes_the_rate_of_each_type(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert run(["train", "own.toml", "--dry-run", "--format", "json", "--set", "ppo.dtype=bfloat16"]) == 0
    found = json.loads(capsys.readouterr().out)
    for stage, dtype in zip(found["stages"], ("float32", "float32", "bfloat16"), strict=True):
        assert stage["seconds"] == pytest.approx(stage["flops"] / (found["efficiency"][dtype] * found["matrix_flops_per_second"][dtype]))


def test_help_and_lists_load_no_torch(place):
    script = "import sys; sys.argv = ['auditor', *sys.argv[1:]]\nfrom auditor.cli import run\nrun(sys.argv[1:])\nassert 'torch' not in sys.modules"
    for arguments in (("--help",), ("train", "--help")):
        done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=place, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
    listed = json.loads(auditor("recipes", "--format", "json", cwd=place).stdout)["recipes"]
    assert {recipe["name"] for recipe in listed} >= {"rlhf", "dpo"}
    assert all(recipe["about"] and recipe["stages"] for recipe in listed)
