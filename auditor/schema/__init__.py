"""The nouns of the product: frozen dataclasses that every layer shares, one module a theme.

Nothing here computes more than a key or a hash, and nothing imports another module of ours. Import from here.
"""

from __future__ import annotations

from auditor.schema.asking import (
    Generation,
    Judgment,
    JudgmentStatus,
    Message,
    OptionLogprob,
    Replies,
    Reply,
    Request,
    RequestKind,
    SamplingParams,
    Usage,
    ask,
    assistant,
    compare,
    score_options,
    user,
)
from auditor.schema.measuring import (
    NO_PASS,
    Comparison,
    ConfidenceInterval,
    Criterion,
    Direction,
    Metric,
    Outcome,
    Sample,
    Score,
    ScoreStatus,
    Verdict,
)
from auditor.schema.plain import (
    canonical_json,
    sha256_json,
    to_dict,
)
from auditor.schema.running import (
    Judge,
    Model,
    ModelSpec,
    RunRecord,
    RunSpec,
)
from auditor.schema.suites import (
    Baseline,
    Context,
    Embedder,
    Suite,
    SuiteData,
    TrainingSteps,
)
from auditor.schema.training import (
    Demonstration,
    Preference,
    Prompt,
    TrainingRecord,
    Unpaired,
)

__all__ = [
    "NO_PASS", "Baseline", "Comparison", "ConfidenceInterval", "Context", "Criterion", "Demonstration", "Direction", "Embedder", "Generation",
    "Judge", "Judgment", "JudgmentStatus", "Message", "Metric", "Model", "ModelSpec", "OptionLogprob", "Outcome", "Preference", "Prompt", "Replies",
    "Reply", "Request", "RequestKind", "RunRecord", "RunSpec", "Sample", "SamplingParams", "Score", "ScoreStatus", "Suite", "SuiteData",
    "TrainingRecord", "TrainingSteps", "Unpaired", "Usage", "Verdict", "ask", "assistant", "canonical_json", "compare", "score_options", "sha256_json",
    "to_dict", "user",
]
