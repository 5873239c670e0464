"""`auditor merge`: the same model, one folder, its story kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from auditor.errors import InputError, ModelError, TrainingError
from auditor.models.identity import lineage, weights_hash
from auditor.models.resolve import EngineOptions, open_model, resolve
from auditor.schema import Message, ModelSpec, Request, RunSpec
from auditor.training.core.asking import Labeller
from auditor.training.merging import merge


@pytest.fixture(scope="module")
def adapter(tiny_checkpoint, tmp_path_factory):
    """A LoRA adapter with a lineage beside it, on the tiny checkpoint."""
    import peft
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("merging") / "adapter"
    torch.manual_seed(1)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_checkpoint),
                                peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model.peft_config["default"].base_model_name_or_path = str(tiny_checkpoint)
    model.save_pretrained(str(folder))
    (folder / "auditor_lineage.json").write_text(json.dumps({"method": "dpo", "judges": [{"uri": "judge", "weights_hash": "of the judge"}]}))
    return folder


def options(uri: str) -> list[float]:
    model = open_model(str(uri), EngineOptions(dtype="float32"))
    request = Request(sample_id="a", messages=(Message(role="user", content="Which answer is right, A or B?"),), kind="logprobs", options=("A", "B", "one two"))
    return [option.logprob for option in next(iter(model.run([request]))).logprobs]


def test_a_merged_adapter_is_the_same_model_in_one_folder(adapter, tiny_checkpoint, tmp_path):
    found = merge(str(adapter), tmp_path / "merged")
    assert options(tmp_path / "merged") == pytest.approx(options(adapter), abs=1e-6)
    assert options(tiny_checkpoint) != pytest.approx(options(adapter), abs=1e-2)
    whole = resolve(str(tmp_path / "merged"))
    assert whole.adapter is None
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert found["weights_hash"] == weights_hash(whole) != found["merged_from"] == weights_hash(resolve(str(adapter)))
    assert lineage(whole) == lineage(resolve(str(adapter))) | {"merged_from": {"uri": str(adapter), "weights_hash": found["merged_from"], "dtype": "float32"}}


def test_a_model_does_not_judge_what_it_was_merged_into_nor_the_other_way_round(adapter, tmp_path):
    merge(str(adapter), tmp_path / "merged", "bfloat16")
    one, two = (open_model(str(place)).spec for place in (adapter, tmp_path / "merged"))
    merge(str(tmp_path / "merged"), tmp_path / "again", "float16")
    again, other = open_model(str(tmp_path / "again")).spec, open_model("recorded:" + str(_recorded(tmp_path))).spec
    cases = ((one, two, False), (two, one, False), (one, again, False), (again, one, False), (one, other, True), (two, other, True), (again, other, True))
    for model, judge, independent in cases:
        assert RunSpec(suites=(), suite_versions=(), model=model, judge=judge).judge_is_independent is independent


def test_what_a_merged_labeller_shaped_is_not_judged_by_the_model_it_was_merged_from():
    merged = ModelSpec(uri="merged", weights_hash="m", lineage={"merged_from": {"weights_hash": "half", "merged_from": {"weights_hash": "adapter"}}})
    shaped = ModelSpec(uri="policy", weights_hash="p", lineage={"judges": [Labeller(SimpleNamespace(spec=merged)).described]})
    for judge, independent in (("m", False), ("half", False), ("adapter", False), ("other", True)):
        spec = RunSpec(suites=(), suite_versions=(), model=shaped, judge=ModelSpec(uri="judge", weights_hash=judge))
        assert spec.judge_is_independent is independent


def _recorded(folder):
    path = folder / "recorded.jsonl"
    path.write_text(json.dumps({"prompt": "Hi", "completion": "Hello"}) + "\n")
    return path


def test_rounded_once_to_a_smaller_type(adapter, tmp_path):
    from safetensors.torch import load_file

    merge(str(adapter), tmp_path / "whole")
    merge(str(adapter), tmp_path / "half", "bfloat16")
    whole, half = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(half[name], whole[name].to(torch.bfloat16)) for name in whole)


@pytest.mark.parametrize(("uri", "words"), [("openai:a@http://127.0.0.1:1/v1", "names no weights of its own"), ("vllm:smollm2", "names no weights"),
                                            ("recorded:a.jsonl", "names no weights"), ("nowhere", "no model at 'nowhere'")])
def test_what_has_no_weights_is_refused(uri, words, tmp_path):
    with pytest.raises(InputError, match=words):
        merge(uri, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_input_leaves_nothing(adapter, own_checkpoint, tmp_path):
    with pytest.raises(InputError, match="unknown dtype 'int4'; pass one of float32"):
        merge(str(adapter), tmp_path / "out", "int4")
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already; pass a folder that is not there yet"):
        merge(str(adapter), tmp_path / "there")
    (tmp_path / "there" / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"):
        merge(str(adapter), tmp_path / "there" / "link")
    with pytest.raises(InputError, match="is no usable path"):
        merge(str(adapter), tmp_path / ("long" * 100))
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="free some space and try again"):
        merge(str(adapter), tmp_path / "file" / "out")
    (own_checkpoint / "reward_head.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="is a reward model"):
        merge(str(own_checkpoint), tmp_path / "out")
    (own_checkpoint / "reward_head.safetensors").unlink()
    (own_checkpoint / "auditor_lineage.json").write_text("[1]")
    with pytest.raises(ModelError, match="lineage.json cannot be read"):
        merge(str(own_checkpoint), tmp_path / "out")
    (own_checkpoint / "auditor_lineage.json").unlink()
    (own_checkpoint / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError):
        merge(str(own_checkpoint), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "file", "there"]


@pytest.mark.cli
def test_the_command(adapter, tmp_path):
    def auditor(*arguments):
        return subprocess.run([sys.executable, "-m", "auditor", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=200,
                              env={**os.environ, "NO_COLOR": "1"}, check=False)

    done = auditor("merge", str(adapter), "my model", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["path"] == "my model"
    assert found["bytes"] > 0
    assert resolve(str(tmp_path / "my model")).adapter is None
    again = auditor("merge", str(adapter), "my model")
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert "Traceback" not in again.stderr
    text = auditor("merge", str(adapter), "other")
    assert text.returncode == 0
    assert f"weights {found['weights_hash']}" in text.stdout
    assert "auditor run other" in text.stdout
