"""Linear layers whose weights are laid out once for the processor's matrix kernels.

Decoding multiplies few rows by large matrices; the plain call rearranges the whole matrix each time, which costs as much as
the product itself. oneDNN can keep the rearranged matrix. Same float32 arithmetic, other order of summation.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

logger = logging.getLogger(__name__)

TOLERANCE = 1e-2  # logits of the check prompt; a wrong layout is off by whole units


class PackedLinear(torch.nn.Module):
    """Stands for an ``nn.Linear``: input (…, K), output (…, N). The packed weight is neither trained nor saved."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        flat = values.reshape(-1, self.in_features)
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(flat, self.packed, self.bias, "none", [], "")
        return made.view(*values.shape[:-1], self.out_features)


def available() -> bool:
    """Whether this build of torch has the oneDNN kernels (they are not public API: an update may drop them)."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


@torch.inference_mode()
def pack(model: Any) -> bool:
    """Replace every plain linear layer of a float32 model on the CPU; True where that worked.

    The logits of a short prompt are compared before and after; where they differ, or the architecture reads a layer's
    weight itself, the model is left as it was.
    """
    if not available() or model.dtype != torch.float32 or model.device.type != "cpu":
        return False
    prompt = torch.arange(min(16, model.config.get_text_config().vocab_size))[None]
    before = model(input_ids=prompt, use_cache=False).logits
    replaced = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children() if type(child) is torch.nn.Linear]
    try:
        for parent, name, child in replaced:
            setattr(parent, name, PackedLinear(child))
        after = model(input_ids=prompt, use_cache=False).logits
        if torch.allclose(before, after, atol=TOLERANCE, rtol=0, equal_nan=True):
            return True
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        logger.info("weights are not packed: %s", str(error).splitlines()[0])
    for parent, name, child in replaced:
        setattr(parent, name, child)
    return False
