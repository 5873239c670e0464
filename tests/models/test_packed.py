from __future__ import annotations

import pytest
import torch

from auditor.models.packed import PackedLinear, available, pack
from auditor.models.resolve import EngineOptions, open_model

pytestmark = pytest.mark.skipif(not available(), reason="this build of torch has no oneDNN linear kernels")


@pytest.mark.parametrize("rows", [1, 3, 64, 200])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_plain_layer(rows, bias):
    torch.manual_seed(rows)
    plain = torch.nn.Linear(96, 160, bias=bias)
    packed = PackedLinear(plain)
    values = torch.randn(2, rows, 96)
    with torch.inference_mode():
        assert torch.allclose(packed(values), plain(values), atol=1e-5)


def test_a_packed_model_gives_the_same_logits(tiny_checkpoint):
    plain, packed = (open_model(str(tiny_checkpoint), EngineOptions(pack=wanted)) for wanted in (False, True))
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        assert torch.allclose(plain.model(ids).logits, packed.model(ids).logits, atol=1e-4)
    assert any(isinstance(module, PackedLinear) for module in packed.model.modules())
    assert (plain.spec.engine, packed.spec.engine) == ("hf/cpu", "hf/cpu/packed")


def test_a_model_whose_weights_are_read_elsewhere_is_left_alone(tiny_checkpoint):
    model = open_model(str(tiny_checkpoint), EngineOptions(pack=False)).model
    forward = model.lm_head.forward
    model.model.norm.register_forward_hook(lambda module, inputs, output: output + 0 * model.lm_head.weight.sum())
    assert pack(model) is False
    assert type(model.lm_head) is torch.nn.Linear
    assert model.lm_head.forward == forward


def test_other_dtypes_are_left_alone(tiny_checkpoint):
    assert open_model(str(tiny_checkpoint), EngineOptions(dtype="bfloat16")).spec.engine == "hf/cpu"
