"""Reading a verdict that somebody wrote: "a", "Answer B", "[[A]]", "output_2", "a-is-slightly-better", "Tie (both bad)".

Only a whole text that is a verdict is read as one: a letter found somewhere inside a sentence is no verdict, so a judge
that explains, refuses or rambles is unscored rather than guessed at.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from auditor.schema import JudgmentStatus

Label = Literal["a", "b", "tie"]

_VERDICT = re.compile(
    r"(?:the )?(?:answer|response|output|model|assistant|option|completion|candidate)? ?(a|b|1|2|first|second)"
    r"(?: (?:one )?(?:is )?(?:(?:slightly|clearly|much|significantly) )?(?:better|wins))?"
)
_TIE = re.compile(
    r"(?:a )?(?:tie|draw)(?: (?:both ?)?(?:good|bad))?|tied|equal|equally (?:good|bad)|same|both|both (?:good|bad)|neither|no preference|c"
)
_MISSING = frozenset({"", "none", "null", "nan", "na", "n a", "unlabelled", "unlabeled", "missing", "skip", "skipped"})
_REFUSED = frozenset({"refused", "refusal", "refuse", "abstain", "abstained", "declined", "cannot judge"})
_SIDES: dict[str, Label] = {"a": "a", "1": "a", "first": "a", "b": "b", "2": "b", "second": "b"}


def read_label(value: Any) -> Label | Literal["missing", "refused"] | None:
    """The verdict that ``value`` (text, 1 or 2, or None) states, in terms of the two answers; None where it states none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "missing"
    text = " ".join(re.sub(r"[^0-9a-z]+", " ", str(value).lower()).split())
    if text in _MISSING:
        return "missing"
    if text in _REFUSED:
        return "refused"
    if _TIE.fullmatch(text):
        return "tie"
    found = _VERDICT.fullmatch(text)
    return _SIDES[found.group(1)] if found else None


def read_verdict(value: Any) -> tuple[float | None, JudgmentStatus]:
    """A recorded verdict as (probability that *a* is better, status).

    Text and the whole numbers 1 and 2 are labels ("a", "2", "tie", …); a number with a decimal point, and 0, is the
    probability itself. What is neither is ``unparseable``, and so is a null: the judge was asked and gave no verdict.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and (isinstance(value, float) or value == 0):
        return (float(value), "judged") if 0 <= value <= 1 else (None, "unparseable")
    label = read_label(value)
    if label == "refused":
        return None, "refused"
    if label is None or label == "missing":
        return None, "unparseable"
    return {"a": 1.0, "tie": 0.5, "b": 0.0}[label], "judged"


def majority(labels: Iterable[Label]) -> Label | None:
    """The label that most raters gave. Without a single most frequent one it is a tie: people do not agree on either answer.

    None where there is no label.
    """
    counts = Counter(labels).most_common(2)
    if not counts:
        return None
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        return "tie"
    return counts[0][0]
