"""Terms of the report, each in a sentence or two; the general method; and what the report is not."""

from __future__ import annotations

TERMS: dict[str, str] = {
    "Bound": "The value a measurement is held against. It was written down before the run, with its source.",
    "Cluster": "Samples made from one template or about one topic. They resemble each other, so intervals treat the cluster, not the "
    "sample, as the independent unit.",
    "Confidence interval (95 %)": "A range made by a procedure that covers the true value in 95 of 100 repetitions of the sampling. It "
    "covers sampling error only, not faults of the questions themselves.",
    "Design effect": "How many times larger the variance is because samples come in clusters; 1 means no effect.",
    "Fail": "The whole interval lies on the wrong side of the bound.",
    "Inconclusive": "The bound lies inside the interval. More samples may settle it; the number named is an estimate that holds if the "
    "measured value stays.",
    "Judge": "A second model that compares answers where no exact check exists. It is asked in both orders, and is audited itself before "
    "its numbers count.",
    "Log-probability": "The logarithm of the probability that the model gives to a text, here in nats (natural logarithm). Options are "
    "read off this way, so nothing has to be parsed.",
    "Not assessed": "The measurement was not made, or may not count. It is never a pass.",
    "Not independent": "The number rests on a judge or reward that also shaped this model. It may raise an alarm but cannot clear the model.",
    "Pass": "The whole interval lies on the good side of the bound.",
    "Unscored": "A sample that got no value: refused, unreadable, or an error. It is counted and shown, never entered as 0.",
}
METHOD = (
    "Each suite puts its items to the model, reads the answers by exact rules or from the probabilities that the model gives to fixed "
    "options, and averages over items. Every number has a 95 % interval that treats items of one cluster as dependent. A criterion was "
    "fixed before the run: its verdict follows from the whole interval, never from the point alone and never from other suites. A sample "
    "without a value is counted as unscored, not as zero."
)
_SAYS = (
    "It says what was measured on these items, with these settings, on these weights. It certifies nothing, and a passed criterion does not "
    "show that the fault is absent elsewhere."
)


def conformity(evidence: bool) -> str:
    """What the report is and is not."""
    return f"This report is {'evidence, not conformity' if evidence else 'neither evidence nor a statement of conformity'}. {_SAYS}"
