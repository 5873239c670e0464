"""What a launcher says and the recipe does not: refused, or without effect."""

from __future__ import annotations

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
