"""Numbers as people read them."""

from __future__ import annotations

import pytest

from auditor.reports import numbers
from auditor.schema import ConfidenceInterval, Metric


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.3421, "proportion", "34.2 %"),
        (0.0, "proportion", "0 %"),
        (1.0, "proportion", "100 %"),
        (0.0034, "proportion", "0.34 %"),
        (0.00001, "proportion", "<0.01 %"),
        (-0.12, "proportion", "−12.0 %"),
        (0.12, "percentage points", "12.0 points"),
        (1.2345, "nats", "1.23 nats"),
        (0.78, "kappa", "0.780"),
        (1204.4, "tokens", "1,204 tokens"),
        (-0.5, "nats", "−0.500 nats"),
        (None, "proportion", "not assessed"),
        (float("nan"), "nats", "not a finite number"),
        (float("inf"), "proportion", "not a finite number"),
    ],
)
def test_number(value: float | None, unit: str, shown: str) -> None:
    assert numbers.number(value, unit).replace("\u00a0", " ") == shown


def test_a_unit_in_words_stands_once_in_an_interval() -> None:
    assert numbers.span(31.1, 43.3, "tokens").replace("\u00a0", " ") == "31.1 to 43.3 tokens"
    assert numbers.span(0.281, 0.406, "proportion").replace("\u00a0", " ") == "28.1 % to 40.6 %"


def test_value_with_interval() -> None:
    metric = Metric(suite="s", name="m", value=0.342, ci=ConfidenceInterval(low=0.28, high=0.404))
    assert numbers.value_with_interval(metric).replace("\u00a0", " ") == "34.2 % (95 % interval 28.0 % to 40.4 %)"
    assert numbers.value_with_interval(Metric(suite="s", name="m", value=None)) == "not assessed"
    assert numbers.interval(None, "proportion") == "–"


@pytest.mark.parametrize(
    ("value", "direction", "unit", "shown"),
    [
        (0.1, "below", "proportion", "below 10 %"),
        (0.125, "above", "proportion", "above 12.5 %"),
        (0.7, "above", "kappa", "above 0.7"),
        (20, "below", "tokens", "below 20 tokens"),
    ],
)
def test_bound(value: float, direction: str, unit: str, shown: str) -> None:
    assert numbers.bound(value, direction, unit).replace("\u00a0", " ") == shown


def test_plural() -> None:
    assert [numbers.plural(n, "criterion", "criteria") for n in (0, 1, 1200)] == ["0 criteria", "1 criterion", "1,200 criteria"]
