"""How far a faster number format moves the answers: the same prompts in float32 and in the chosen dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from auditor.models.resolve import EngineOptions, open_model
from auditor.models.responses import CachedModel
from auditor.schema import Generation, Model, Request, Sample, ask, score_options

PROMPTS = 16
TOKENS = 24
OPTIONS = ("A", "B", "Yes", "No")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Difference of ``dtype`` from float32 on ``prompts`` prompts: greedy texts that agree, and the largest move of an
    option's log-probability in nats."""

    dtype: str
    prompts: int
    same_texts: int
    largest_logprob_move: float

    def __str__(self) -> str:
        return (f"{self.dtype} against float32 on {self.prompts} prompts: {self.same_texts} of {self.prompts} greedy texts agree, "
                f"option log-probabilities move by up to {self.largest_logprob_move:.3f} nats; float32 is for evidence")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_drift(model: Model, uri: str, options: EngineOptions, samples: Sequence[Sample]) -> Drift | None:
    """Load the model once more in float32 and compare; None where it already is float32, has no dtype (recorded), or no prompt could be answered."""
    if model.spec.dtype in ("float32", "none", ""):
        return None
    asked = [ask(sample.messages, max_tokens=TOKENS) for sample in samples[:PROMPTS]]
    scored = [score_options(sample.messages, OPTIONS) for sample in samples[:PROMPTS]]
    reference = _reference(model, uri, replace(options, dtype="float32"))
    (texts, moved), (expected, unmoved) = ((_answers(which, asked), _answers(which, scored)) for which in (model, reference))
    moves = [abs(a.logprob - b.logprob) for one, other in zip(moved, unmoved, strict=True) for a, b in zip(one.logprobs, other.logprobs, strict=False)]
    both = [(one, other) for one, other in zip(texts, expected, strict=True) if not one.error and not other.error]
    if not moves:
        return None
    same = sum(one.text == other.text for one, other in both)
    return Drift(dtype=model.spec.dtype, prompts=len(both), same_texts=same, largest_logprob_move=max(moves))


def _reference(model: Model, uri: str, options: EngineOptions) -> Model:
    """An engine that runs on other machines opens its reference there."""
    inner = model.model if isinstance(model, CachedModel) else model
    return open_model(uri, options) if not hasattr(inner, "beside") else inner.beside(options)


def _answers(model: Model, requests: Sequence[Request]) -> list[Generation]:
    placed = [replace(request, sample_id=str(index)) for index, request in enumerate(requests)]
    found = {generation.sample_id: generation for batch in model.plan(placed) for generation in model.run(batch)}
    return [found[request.sample_id] for request in placed]
