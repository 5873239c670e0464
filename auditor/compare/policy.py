"""The policy file: what a candidate must not lose, by how much, why, and who says so.

    title = "Gate for the assistant"

    [[criterion]]
    metric = "refusal.over_refusal_safe"   # suite.name, or suite.name[group]
    test = "no-worse"                      # or non-inferior, better, equivalent
    margin = 0.05                          # in the metric's unit; the house default of the unit where it is left out
    direction = "lower"                    # which way is better; needed only where the metric does not say
    why = "Users meet needless refusals daily."
    owner = "support team"
    required = true                        # false: reported, but it never decides
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditor.compare.result import DEFAULT_WHY, TESTS, Policy, Rule
from auditor.errors import InputError, UnknownNameError

KEYS = ("title", "criterion")
RULE_KEYS = ("metric", "test", "margin", "direction", "why", "owner", "required")
DIRECTIONS = {"higher": True, "lower": False}
TEMPLATE = Path(__file__).with_name("gate.toml")


def read_policy(path: Path) -> Policy:
    """The policy in a TOML file.

    Raises InputError for a file that cannot be read or is no TOML, for a missing, empty or wrong value (naming file, criterion and value), and
    UnknownNameError for an unknown key, test or direction (naming the nearest).
    """
    try:
        raw = path.read_bytes()
        table = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise InputError(f"--policy {path}: cannot be read ({error.strerror}); `auditor init {path}` writes one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no valid TOML: {error}") from None
    for key in table:
        if key not in KEYS:
            raise UnknownNameError(f"key in {path}", key, KEYS)
    listed = table.get("criterion")
    if not isinstance(listed, list) or not listed or not all(isinstance(one, dict) for one in listed):
        raise InputError(f"{path}: it holds no criterion; add at least one [[criterion]] with metric and why")
    rules = tuple(_rule(one, f"{path}: criterion {number}") for number, one in enumerate(listed, 1))
    twice = next((rule for k, rule in enumerate(rules) if any((rule.metric, rule.test) == (other.metric, other.test) for other in rules[:k])), None)
    if twice is not None:
        raise InputError(f"{path}: two criteria ask {twice.metric!r} for {twice.test!r}; keep one")
    return Policy(rules=rules, source=str(path), sha256=hashlib.sha256(raw).hexdigest(), title=_text(table, "title", str(path)))


def default_policy(metrics: Sequence[str]) -> Policy:
    """No worse on each of the metrics, by the house margins: what a comparison without a policy file is held against."""
    return Policy(rules=tuple(Rule(metric=metric, why=DEFAULT_WHY) for metric in dict.fromkeys(metrics)),
                  source="none given: no worse on any headline measurement, by the house margins")


def check_metrics(policy: Policy, measured: Collection[str], suites: Collection[str]) -> None:
    """That every metric of the policy exists: measured in one of the runs, or of a suite that none of them ran.

    ``measured`` are keys (suite.name, suite.name[group]), ``suites`` the names of all known suites. Raises UnknownNameError naming the nearest.
    """
    ran = {key.partition(".")[0] for key in measured}
    for rule in policy.rules:
        suite = rule.metric.partition(".")[0]
        if rule.metric not in measured and (suite in ran or suite not in suites or "." not in rule.metric):
            near = [key for key in measured if key.startswith(f"{suite}.")]
            raise UnknownNameError(f"metric in {policy.source}", rule.metric, near or measured)


def _rule(table: Mapping[str, Any], place: str) -> Rule:
    for key in table:
        if key not in RULE_KEYS:
            raise UnknownNameError(f"key in {place}", key, RULE_KEYS)
    metric = _text(table, "metric", place, needed=True)
    place = f"{place} ({metric})"
    test = _text(table, "test", place) or "no-worse"
    if test not in TESTS:
        raise UnknownNameError(f"test in {place}", test, TESTS)
    direction = _text(table, "direction", place)
    if direction and direction not in DIRECTIONS:
        raise UnknownNameError(f"direction in {place}", direction, DIRECTIONS)
    required = table.get("required", True)
    if not isinstance(required, bool):
        raise InputError(f"{place}: required is {required!r}; pass true or false")
    return Rule(metric=metric, why=_text(table, "why", place, needed=True), test=next(one for one in TESTS if one == test),
                margin=_margin(table, place, test), higher_is_better=DIRECTIONS.get(direction), owner=_text(table, "owner", place), required=required)


def _text(table: Mapping[str, Any], key: str, place: str, *, needed: bool = False) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise InputError(f"{place}: {key} is {value!r}; pass a text in quotes")
    if needed and not value.strip():
        what = "say why it matters, in a sentence that a reviewer can check" if key == "why" else "pass suite.name, as `auditor show RUN` prints it"
        raise InputError(f"{place}: {key} is missing or empty; {what}")
    return value.strip()


def _margin(table: Mapping[str, Any], place: str, test: str) -> float | None:
    value = table.get("margin")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InputError(f"{place}: margin is {value!r}; pass a number of 0 or more in the metric's unit (shares run from 0 to 1)")
    if value == 0 and test == "equivalent":
        raise InputError(f"{place}: margin is 0, within which nothing can be equivalent; pass a positive number")
    return float(value)
