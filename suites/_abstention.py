"""Does a free reply say that the answer cannot be known? Told by its wording, without a model.

What counts is that the reply declines to give the answer asked for. One that hedges and then answers is still told as an abstention
("I'm not sure, but …"); one that asks for the missing fact is one too.
"""

from __future__ import annotations

import re

ABSTAIN = "unknown"

_KNOW = (r"(?:know|tell|say|see|predict|determine|foresee|guess|answer|give|provide|calculate"
         r"|be (?:sure|certain|known|determined|predicted|answered))")
_STUFF = r"(?:access|information|info|data|details?|knowledge|way|enough|ability|capability|capacity|any idea|name|code|number|time|date)"
_SHARE = r"(?:tell|provide|share|give|clarify|specify|describe|let me know)"
_OPEN = (r"(?:unknown|unknowable|uncertain|unclear|a mystery|anyone's guess|undetermined|"
         r"(?:not|never) (?:known|stated|specified|given|mentioned|provided|recorded))")
_PATTERNS = (
    rf"\b(?:do|does|did|could|would|can|will|am|is|are)(?:n't| not) (?:\w+ly )?(?:able to )?{_KNOW}\b",
    rf"\b(?:can't|cannot) (?:\w+ly )?{_KNOW}\b",
    rf"\b(?:do|does)(?:n't| not) (?:have|provide|give|contain|include|specify|state|mention) (?:\w+ ){{0,3}}{_STUFF}\b",
    rf"\b(?:unable|impossible|no way|not able|not possible|(?:hard|difficult) (?:for \w+ )?)(?: for \w+)? ?to (?:\w+ly )?{_KNOW}\b",
    rf"\b(?:is|are|was|were|remains?|stays?|it's|that's) (?:\w+ )?{_OPEN}\b",
    r"\b(?:not|n't|in) ?(?:enough|sufficient) (?:information|details?|data|context)\b",
    r"\b(?:nobody|no one|no-one|none of us) (?:can |could |really |yet )*(?:knows?|knew|say|tell|predict)\b",
    r"\b(?:need|requires?) (?:\w+ ){0,2}more (?:information|details?|context|data)\b",
    rf"\b(?:could|can|would) you (?:please |kindly )?{_SHARE}\b|\bplease {_SHARE}\b",
    r"\b(?:it|that|this) (?:all )?depends\b",
    r"\byou (?:haven't|have not|didn't|did not) (?:tell|told|said?|given?|mention(?:ed)?|provided?)\b",
    r"\bno (?:records?|information|data|mention) (?:\w+ ){0,2}(?:of|about|on|exists?|in|is)\b",
    r"\bi have no (?:idea|way|access|information|knowledge)\b|\bi(?:'m| am) not (?:sure|certain)\b|\bnot enough is known\b",
    r"^\W*unknown\b",
)
_ABSTAINS = re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS), re.IGNORECASE)


def abstains(text: str) -> bool:
    """Whether ``text`` declines to answer because the answer cannot be known or a fact is missing."""
    return _ABSTAINS.search(text.replace("’", "'")) is not None
