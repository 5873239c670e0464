"""Two pictures of the whole run: every verdict as a symbol, and the feedback loop with the findings at the stage where they enter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditor.reports.svg import Canvas, wrap
from auditor.schema import Outcome

STAGES = ("Prompt data", "Human labels", "Reward", "Optimisation", "Retraining on own output")


def symbol(canvas: Canvas, x: float, y: float, outcome: Outcome, size: float = 9) -> None:
    """Square with a cross (fail), disc with a tick (pass), diamond with a question mark (inconclusive), ring with a dash (not assessed)."""
    k = size / 9
    if outcome == "fail":
        canvas.rect((x - size, y - size), (2 * size, 2 * size), "fail", 3)
        canvas.path(f"M{x - 4 * k} {y - 4 * k}l{8 * k} {8 * k}m0 {-8 * k}l{-8 * k} {8 * k}", "o-card w2 glyph")
    elif outcome == "pass":
        canvas.circle(x, y, size, "pass")
        canvas.path(f"M{x - 4 * k} {y + 0.5 * k}l{3 * k} {3 * k}l{5 * k} {-6.5 * k}", "o-card w2 glyph")
    elif outcome == "inconclusive":
        r = size * 1.25
        canvas.path(f"M{x} {y - r}l{r} {r}l{-r} {r}l{-r} {-r}z", "o-unsure w2")
        canvas.text(x, y + 4.5 * k, "?", "small b", "middle")
    else:
        canvas.circle(x, y, size - 1, "o-none w2 dash")
        canvas.line((x - 3 * k, y), (x + 3 * k, y), "none w2")


def dots(rows: Sequence[tuple[str, Sequence[Outcome]]], width: float) -> str:
    """One row per suite, one symbol per criterion."""
    canvas = Canvas(width)
    narrow = width < 500
    room = 0.0 if narrow else 200.0
    per_line = max(1, int((width - room - 24) // 30))
    y = 18.0
    for name, outcomes in rows:
        canvas.text(0, y + 4, wrap(name, room or width, lines=1)[0])
        y += 28 if narrow else 0
        for k, outcome in enumerate(outcomes):
            symbol(canvas, room + 14 + 30 * (k % per_line), y + 30 * (k // per_line), outcome)
        y += 30 * ((max(len(outcomes), 1) - 1) // per_line) + 34
    return canvas.render(y - 8)


def loop(findings: Mapping[str, Sequence[tuple[str, Outcome]]], width: float) -> str:
    """The stages of learning from feedback, the way back from the last to the first, and at each stage its findings."""
    return _loop_tall(findings, width) if width < 500 else _loop_wide(findings, width)


def _arrow(canvas: Canvas, points: Sequence[tuple[float, float]], head: str) -> None:
    canvas.path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), "line w2 nofill")
    x, y = points[-1]
    canvas.path(f"M{x:.1f} {y:.1f}" + {"right": "l-7-4v8z", "up": "l-4 7h8z", "down": "l-4-7h8z"}[head], "line")


def _loop_wide(findings: Mapping[str, Sequence[tuple[str, Outcome]]], width: float) -> str:
    canvas = Canvas(width)
    gap = 22.0
    box = (width - gap * (len(STAGES) - 1) - 4) / len(STAGES)
    deepest = max((len(findings.get(stage, ())) for stage in STAGES), default=0)
    below = 64 + 26.0 * max(deepest, 1)
    for k, stage in enumerate(STAGES):
        x = 2 + k * (box + gap)
        canvas.rect((x, 2), (box, 46), "page", 8)
        lines = wrap(stage, box - 8)
        for j, line in enumerate(lines):
            canvas.text(x + box / 2, 30 + 15 * (j - (len(lines) - 1) / 2), line, "b", "middle")
        if k:
            _arrow(canvas, [(x - gap + 2, 25), (x - 2, 25)], "right")
        _findings(canvas, findings.get(stage, ()), (x + 10, 68), box - 24)
    last = 2 + (len(STAGES) - 1) * (box + gap) + box / 2
    _arrow(canvas, [(last, below), (last, below + 18), (box / 2, below + 18), (box / 2, below)], "up")
    canvas.text(width / 2, below + 36, "the model’s own words become the next round’s data", "small muted", "middle")
    return canvas.render(below + 46)


def _loop_tall(findings: Mapping[str, Sequence[tuple[str, Outcome]]], width: float) -> str:
    canvas = Canvas(width)
    left, y = 34.0, 2.0
    centres = []
    for k, stage in enumerate(STAGES):
        if k:
            _arrow(canvas, [(left + 30, y - 22), (left + 30, y - 2)], "down")
        canvas.rect((left, y), (width - left - 2, 30), "page", 8)
        canvas.text(left + 12, y + 20, stage, "b")
        centres.append(y + 15)
        found = findings.get(stage, ())
        _findings(canvas, found, (left + 62, y + 48), width - left - 84)
        y += 30 + 26 * len(found) + (14 if found else 0) + 24
    _arrow(canvas, [(left, centres[-1]), (14, centres[-1]), (14, centres[0]), (left - 2, centres[0])], "right")
    return canvas.render(y - 18)


def _findings(canvas: Canvas, found: Sequence[tuple[str, Outcome]], place: tuple[float, float], room: float) -> None:
    x, y = place
    for k, (name, outcome) in enumerate(found):
        symbol(canvas, x, y + 26 * k, outcome, 7)
        canvas.text(x + 15, y + 4 + 26 * k, wrap(name, room, 11.5, 1)[0], "small")
