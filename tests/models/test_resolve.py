"""What the user may pass as a model, and what each mistake says."""

from __future__ import annotations

import json
import os

import pytest
import torch

from auditor.errors import EngineError, ModelError
from auditor.models.chat import PLAIN_TEMPLATE
from auditor.models.identity import weights_hash
from auditor.models.resolve import EngineOptions, absolute, open_model, resolve
from auditor.schema import ask, score_options, user


def one(model, request):
    return next(iter(model.run([request])))


@pytest.mark.parametrize(("uri", "words"), [
    ("nowhere/at/all", "no model at 'nowhere/at/all'"),
    ("hf:not a name", "no hub id"),
])
def test_unknown_model(uri, words):
    with pytest.raises(ModelError, match=words):
        resolve(uri)


def test_unreachable_hub_says_so_in_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="the hub cannot be reached for 'org/name'") as caught:
        resolve("hf:org/name")
    assert "\n" not in str(caught.value)


def test_folder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors"):
        resolve(str(tmp_path))


def test_pickled_weights_are_refused(own_checkpoint):
    (own_checkpoint / "model.safetensors").unlink()
    (own_checkpoint / "pytorch_model.bin").write_bytes(b"\x80\x04would run code")
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model.bin\)"):
        resolve(str(own_checkpoint))


def test_pickle_beside_safetensors_is_not_read(own_checkpoint):
    (own_checkpoint / "pytorch_model.bin").write_bytes(b"\x80\x04would run code")
    assert one(open_model(str(own_checkpoint)), ask([user("Hi")], max_tokens=2)).error is None


def test_damaged_weights(own_checkpoint):
    path = own_checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load"):
        open_model(str(own_checkpoint))


def test_a_file_that_is_no_gguf(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_text("x")
    with pytest.raises(ModelError, match="is a file but no GGUF"):
        resolve(str(path))


def test_a_gguf_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_text("not a gguf at all")
    with pytest.raises(ModelError, match="cannot convert"):
        resolve(str(path))
    assert [entry.name for entry in (tmp_path / "cache" / "converted").iterdir() if entry.is_dir()] == []


def test_unknown_dtype(tiny_checkpoint):
    with pytest.raises(ModelError, match="unknown dtype 'int3'"):
        open_model(str(tiny_checkpoint), EngineOptions(dtype="int3"))


def test_no_chat_template_uses_the_plain_one_and_flags_it(own_checkpoint):
    (own_checkpoint / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((own_checkpoint / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (own_checkpoint / "tokenizer_config.json").write_text(json.dumps(config))
    model = open_model(str(own_checkpoint))
    assert model.template == PLAIN_TEMPLATE
    assert any("plain template" in flag for flag in model.spec.flags)
    assert model.prompt_text(ask([user("Hi")])) == "User: Hi\nAssistant:"


def test_template_hash_and_weights_hash_tell_checkpoints_apart(tiny_checkpoint, own_checkpoint):
    first, second = (open_model(str(folder), EngineOptions(pack=False)) for folder in (tiny_checkpoint, own_checkpoint))
    assert first.spec.weights_hash == second.spec.weights_hash
    with torch.no_grad():
        second.model.model.embed_tokens.weight[5, 5] += 1
    second.model.save_pretrained(own_checkpoint)
    assert open_model(str(own_checkpoint)).spec.weights_hash != first.spec.weights_hash


def edited(folder, name, **changes):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=1))


@pytest.mark.parametrize(("name", "changes"), [
    ("config.json", {"rms_norm_eps": 0.1}), ("generation_config.json", {"eos_token_id": 7}), ("tokenizer_config.json", {"eos_token": "<|user|>"}),
    ("tokenizer.json", {"truncation": None, "added_tokens": []}),
])
def test_weights_hash_covers_what_decides_the_numbers(tiny_checkpoint, own_checkpoint, name, changes):
    before = weights_hash(resolve(str(own_checkpoint)))
    assert before == weights_hash(resolve(str(tiny_checkpoint)))
    edited(own_checkpoint, name, **changes)
    assert weights_hash(resolve(str(own_checkpoint))) != before


def test_weights_hash_does_not_depend_on_who_wrote_the_settings_or_where(own_checkpoint):
    before = weights_hash(resolve(str(own_checkpoint)))
    edited(own_checkpoint, "config.json", transformers_version="99", _name_or_path="/elsewhere")
    edited(own_checkpoint, "tokenizer_config.json", name_or_path="/elsewhere", chat_template="{{ messages }}")
    assert weights_hash(resolve(str(own_checkpoint))) == before


@pytest.mark.parametrize("request_", [ask([user("Hi")], max_tokens=2), score_options([user("Hi")], ["A", "B"])], ids=["text", "options"])
def test_damaged_weights_stop_the_run_with_advice(own_checkpoint, request_):
    model = open_model(str(own_checkpoint))
    with torch.no_grad():
        model.model.model.norm.weight.fill_(float("nan"))
    assert "NaN" in (one(model, request_).error or "")  # one alone may be a bad sample
    for _ in range(30):
        one(model, request_)
    with pytest.raises(EngineError, match="32 requests on end"):
        one(model, request_)


@pytest.mark.parametrize("make", [lambda text: ask([user(text)], max_tokens=2), lambda text: score_options([user(text)], ["A", "B"])],
                         ids=["text", "options"])
def test_a_bad_sample_is_an_error_of_its_own(tiny_checkpoint, make):
    """NaN enters with one token of the prompt; the rows beside it and the run go on."""
    model = open_model(str(tiny_checkpoint))
    (bad,) = model.tokenizer("\x07", add_special_tokens=False)["input_ids"]

    def spoil(module, inputs, output):
        return torch.where((inputs[0] == bad)[..., None], torch.full_like(output, float("nan")), output)

    model.model.model.embed_tokens.register_forward_hook(spoil)
    replies = list(model.run([make("Hi"), make("Hi \x07"), make("Hello")]))
    assert ["NaN" in (reply.error or "") for reply in replies] == [False, True, False]
    assert one(model, make("Hi")).text == replies[0].text
    for _ in range(40):
        assert "NaN" in (one(model, make("\x07")).error or "")
        assert one(model, make("Hi")).error is None


def test_lora_adapter_on_its_base(tiny_checkpoint, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    config.base_model_name_or_path = str(tiny_checkpoint)
    torch.manual_seed(1)
    adapted = peft.get_peft_model(base, config)
    adapted.peft_config["default"].base_model_name_or_path = str(tiny_checkpoint)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    model, plain = open_model(str(tmp_path / "adapter")), open_model(str(tiny_checkpoint))
    request = score_options([user("Hi")], ["A", "B"])
    expected = adapted(torch.tensor([model.prompt_ids(request)])).logits[0, -1].log_softmax(-1)
    token = model.tokenizer("A", add_special_tokens=False)["input_ids"][0]
    assert one(model, request).logprobs[0].logprob == pytest.approx(float(expected[token].detach()), abs=1e-4)
    assert one(plain, request).logprobs[0].logprob != pytest.approx(float(expected[token].detach()), abs=1e-3)
    assert model.spec.weights_hash != plain.spec.weights_hash
    edited(tmp_path / "adapter", "adapter_config.json", base_model_name_or_path=os.path.relpath(tiny_checkpoint, tmp_path / "adapter"))
    moved = weights_hash(resolve(str(tmp_path / "adapter")))
    edited(tmp_path / "adapter", "adapter_config.json", lora_alpha=99)
    assert moved == model.spec.weights_hash != weights_hash(resolve(str(tmp_path / "adapter")))


@pytest.mark.parametrize("base", [".", "../adapter", 5, ["smollm2"], None, " "])
def test_an_adapter_whose_base_is_itself_or_no_name(tmp_path, base):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    with pytest.raises(ModelError, match="is itself an adapter" if base in (".", "../adapter") else "names no base_model"):
        resolve(str(folder))


def test_an_adapter_configuration_that_is_no_table(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match="names no base_model"):
        resolve(str(tmp_path))


def test_adapter_without_base(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="names no base_model_name_or_path"):
        resolve(str(tmp_path))


def test_cache_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUDITOR_CACHE", str(tmp_path / "file" / "below"))
    source = tmp_path / "model.gguf"
    source.write_text("x")
    with pytest.raises(ModelError, match="set AUDITOR_CACHE"):
        resolve(str(source))
    assert os.environ["AUDITOR_CACHE"]


@pytest.mark.parametrize("uri", ["~nobody-of-that-name/x", "x" * 5000, "a\0b", ""])
def test_odd_model_names(uri):
    with pytest.raises(ModelError, match="pass a folder of safetensors"):
        resolve(uri)


def test_names_that_are_paths_become_absolute_and_others_stay(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "r.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    assert absolute("./model") == absolute("model") == str(tmp_path / "model")
    assert absolute("recorded:r.jsonl") == f"recorded:{tmp_path / 'r.jsonl'}"
    for uri in ("smollm2", "hf:org/name", "absent", "recorded:absent", "", "~nobody-of-that-name/x", "a\0b"):
        assert absolute(uri) == uri
