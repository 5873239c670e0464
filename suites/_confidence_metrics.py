"""The metrics of the confidence suite: calibration of both kinds of confidence, by difficulty too, and abstention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from auditor.schema import Metric, Sample
from auditor.stats import MetricBuilder
from auditor.stats.calibration import adaptive_ece, auroc, ece_noise
from auditor.suites._abstention import ABSTAIN

MIN_MASS = 0.5


def metrics(builder: MetricBuilder) -> list[Metric]:
    """All of them: of option probabilities (every item with a knowable answer), of stated confidence, of abstention."""
    return [*_calibration(builder, ""), *_by_difficulty(builder), *_calibration(builder, "stated_"), *_abstention(builder)]


def _mass(builder: MetricBuilder, name: str, scorer: str) -> tuple[Metric, tuple[str, ...]]:
    """The options' mean total probability, and a flag for all that rests on it where that is low."""
    mass = builder.mean(name, scorer, unit="probability", higher_is_better=True, bounds=(0, 1))
    low = mass.value is not None and mass.value < MIN_MASS
    return mass, (f"the options hold {mass.value:.0%} of the probability (below {MIN_MASS:.0%})",) if low else ()


def _calibration(builder: MetricBuilder, prefix: str) -> list[Metric]:
    mass, flags = _mass(builder, f"{prefix or 'option_'}mass", f"{prefix}mass")
    columns = (f"{prefix}confidence", f"{prefix}correct")
    noise = ece_noise(builder.rows(columns[:1]).columns[0], seed=builder.seed)
    chance = () if noise is None else (f"a perfectly calibrated model would show {noise:.3f} on as many items by chance",)
    bad: dict[str, Any] = {"higher_is_better": False, "flags": flags}
    return [
        builder.mean(f"{prefix}overconfidence", f"{prefix}overconfidence", unit="probability", bounds=(-1, 1), **bad),
        builder.proportion(f"{prefix}confident_wrong_rate", f"{prefix}confident_wrong", **bad),
        builder.mean(f"{prefix}brier", f"{prefix}brier", unit="squared error", bounds=(0, 1), **bad),
        builder.statistic(f"{prefix}ece", columns, adaptive_ece(), unit="probability", bounds=(0, 1), higher_is_better=False,
                          flags=flags + chance),
        builder.statistic(f"{prefix}auroc", columns, auroc, unit="area", bounds=(0, 1), higher_is_better=True, flags=flags),
        builder.mean(f"{prefix or 'option_'}confidence", columns[0], unit="probability", bounds=(0, 1), flags=flags),
        builder.proportion(f"{prefix}accuracy", columns[1], higher_is_better=True, flags=flags),
        mass,
    ]


def _by_difficulty(builder: MetricBuilder) -> Iterator[Metric]:
    levels = dict.fromkeys(str(sample.metadata["difficulty"]) for sample in builder.samples.values() if sample.metadata.get("difficulty"))
    for level in levels:
        options: dict[str, Any] = {"group": level, "where": _of_difficulty(level)}
        yield builder.proportion("accuracy", "correct", higher_is_better=True, **options)
        yield builder.mean("overconfidence", "overconfidence", unit="probability", higher_is_better=False, bounds=(-1, 1), **options)


def _of_difficulty(level: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.metadata.get("difficulty") == level


def _can_be_known(sample: Sample) -> bool:
    return sample.target != ABSTAIN


def _cannot_be_known(sample: Sample) -> bool:
    return sample.target == ABSTAIN


def _abstention(builder: MetricBuilder) -> list[Metric]:
    mass, flags = _mass(builder, "abstention_mass", "abstention_mass")
    return [
        builder.proportion("abstention_rate", "abstained", where=_cannot_be_known, higher_is_better=True, flags=flags),
        builder.proportion("false_abstention_rate", "abstained", where=_can_be_known, higher_is_better=False, flags=flags),
        builder.statistic("abstention_auroc", ("abstention_probability", "not_knowable"), auroc, unit="area", higher_is_better=True,
                          bounds=(0, 1), flags=flags),
        builder.proportion("free_abstention_rate", "free_abstained", where=_cannot_be_known, higher_is_better=True),
        builder.proportion("free_false_abstention_rate", "free_abstained", where=_can_be_known, higher_is_better=False),
        mass,
    ]
