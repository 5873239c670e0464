"""Constitutional AI's first stage: the turns of critique and revision, principles by name, what is left out, resume, and SFT on it."""

from __future__ import annotations

import json

import pytest

from auditor.errors import InputError, TrainingError
from auditor.schema import user
from auditor.training import constitutional, sft
from auditor.training.constitutional import Config, critique_turns, drawn, revision_turns
from auditor.training.core.constitution import SHIPPED, load_constitution
from auditor.training.core.stage import StageRun
from auditor.training.core.world import World
from auditor.training.data import load_demonstrations

PRINCIPLES = load_constitution(SHIPPED)


def stage(folder, inputs, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return StageRun(name="constitutional", folder=folder, world=World(), inputs={name: str(path) for name, path in inputs.items()}, **options)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": f"q{n}", "cluster_id": f"c{n}", "prompt": f"Ask {n}"}) + "\n" for n in range(5)), encoding="utf-8")
    return str(path)


def config(prompts, **changes):
    return Config(**{"prompts": prompts, "max_new_tokens": 5, "critique_tokens": 4, "rounds": 2, "chunk": 2, **changes})


def test_the_turns_of_a_round():
    asked, principle = (user("Why?"),), PRINCIPLES[0]
    turns = revision_turns(asked, "Because.", principle, "It is short.")
    assert [(turn.role, turn.content) for turn in turns] == [("user", "Why?"), ("assistant", "Because."), ("user", principle.critique),
                                                             ("assistant", "It is short."), ("user", principle.revision)]
    assert critique_turns(asked, "Because.", principle) == turns[:3]


def test_every_prompt_and_round_draws_its_own_principle():
    names = [[drawn(PRINCIPLES, seed, f"q{n}", number).id for n in range(100) for number in (0, 1)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert set(names[0]) == {principle.id for principle in PRINCIPLES}


def test_revisions_become_demonstrations_that_sft_learns_from(tiny_checkpoint, prompts, tmp_path):
    outcome = constitutional.train(config(prompts), stage(tmp_path / "run", {"policy": tiny_checkpoint}))
    assert outcome.kind == "demonstrations"
    assert outcome.measured["revised"] == 5 - sum(outcome.measured["left_out"].values())
    rows = [json.loads(line) for line in outcome.path.read_text().splitlines()]
    for row in rows:
        assert row["completion"] == row["rounds"][-1]["revision"]
        assert [part["principle"] for part in row["rounds"]] == [drawn(PRINCIPLES, 0, row["id"], number).id for number in (0, 1)]
        assert row["draft"]
    assert [item.completion for item in load_demonstrations(str(outcome.path))] == [row["completion"] for row in rows]
    learned = sft.train(sft.Config(data="stage:constitutional"), stage(tmp_path / "sft", {"policy": tiny_checkpoint, "stage:constitutional": outcome.path}))
    assert learned.steps == 1


def test_a_killed_run_writes_the_same_file(tiny_checkpoint, prompts, tmp_path):
    inputs = {"policy": tiny_checkpoint}
    whole = constitutional.train(config(prompts), stage(tmp_path / "whole", inputs))
    lines = (tmp_path / "whole" / "revisions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "revisions.jsonl").write_text(lines[0] + lines[1][:30], encoding="utf-8")
    resumed = constitutional.train(config(prompts), stage(tmp_path / "killed", inputs, resume=True))
    assert resumed.path.read_bytes() == whole.path.read_bytes()


def test_other_demonstrations_are_mixed_in(tiny_checkpoint, prompts, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"id": "d", "prompt": "Hello?", "completion": "Hi."}) + "\n", encoding="utf-8")
    outcome = constitutional.train(config(prompts, mix=str(other), rounds=1), stage(tmp_path / "run", {"policy": tiny_checkpoint}))
    assert outcome.measured["mixed_in"] == 1
    assert [item.completion for item in load_demonstrations(str(outcome.path)) if item.id == "mix-d"] == ["Hi."]


def test_an_earlier_stage_s_demonstrations_are_mixed_in(tiny_checkpoint, prompts, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"id": "d", "prompt": "Hello?", "completion": "Hi."}) + "\n", encoding="utf-8")
    run = stage(tmp_path / "run", {"policy": tiny_checkpoint, "stage:before": other})
    assert constitutional.train(config(prompts, mix="stage:before", rounds=1), run).measured["mixed_in"] == 1
    assert str(other) in run.used  # its lineage becomes part of this stage's


def test_prompts_that_do_not_fit_are_counted_and_none_at_all_is_an_error(tiny_checkpoint, prompts, tmp_path):
    long = tmp_path / "long.jsonl"
    text = " word" * 600
    rows = [{"id": "long", "prompt": f"Tell{text}"}, {"id": "short", "prompt": "Ask"}]
    long.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    outcome = constitutional.train(config(str(long), rounds=1), stage(tmp_path / "run", {"policy": tiny_checkpoint}))
    assert outcome.measured["left_out"]["error"] == 1
    long.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="none of 1 prompts"):
        constitutional.train(config(str(long)), stage(tmp_path / "none", {"policy": tiny_checkpoint}))


@pytest.mark.parametrize(("changes", "told"), [({"rounds": 0}, "rounds is 0"), ({"limit": -2}, "limit is -2"),
                                               ({"constitution": "absent.toml"}, "cannot be read"), ({"model": "recorded:x.jsonl"}, "is a recording")])
def test_bad_settings_are_refused(tiny_checkpoint, prompts, tmp_path, changes, told):
    with pytest.raises(InputError, match=told):
        constitutional.train(config(prompts, **changes), stage(tmp_path / "run", {"policy": tiny_checkpoint}))
