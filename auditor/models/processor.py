"""What the processor can compute in."""

from __future__ import annotations

import platform
from typing import Literal


def bfloat16() -> Literal["native", "emulated", "none"]:
    """Whether the processor multiplies bfloat16 matrices: itself, by way of float32 and no faster than that (AVX512 without its BF16 part), or not at all,
    which makes a backward pass 30 times slower."""
    import torch

    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "none"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "native"
    return "native" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "emulated"
