"""A small SVG canvas: shapes by class name, colours for light and dark in one place, text escaped.

A figure is drawn as text, never by a plotting library, so that it is small, sharp in print, and follows the reader's colour scheme:
the style inside an SVG image sees ``prefers-color-scheme`` of the page that holds it.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field

from markupsafe import escape

from auditor.reports.text import visible

FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
CHARACTER = 0.58  # mean width of a character as a share of the font size; wide for most fonts, so that labels never collide
LIGHT = {
    "ink": "#1c2430",
    "muted": "#566072",
    "grid": "#dfe4ea",
    "line": "#98a3b1",
    "card": "#ffffff",
    "wrong": "#c0392b",
    "fail": "#b3261e",
    "pass": "#1b7a43",
    "unsure": "#8a5a00",
    "none": "#5d6878",
    "s0": "#2b62a8",
    "s1": "#a5541a",
    "s2": "#6b4fa0",
    "s3": "#2f7d76",
}
DARK = {
    "ink": "#e6eaf0",
    "muted": "#aab4c2",
    "grid": "#333d4a",
    "line": "#6f7c8d",
    "card": "#171d26",
    "wrong": "#ff8a7e",
    "fail": "#ff9187",
    "pass": "#77d39b",
    "unsure": "#f0c264",
    "none": "#a6b1bf",
    "s0": "#84b4f2",
    "s1": "#efa671",
    "s2": "#bfa8ec",
    "s3": "#74cbc2",
}


def _rules(colours: dict[str, str]) -> str:
    fills = "".join(f".f{k}{{fill:{colours[f's{k}']};fill-opacity:.32;stroke:none}}" for k in range(4))
    shapes = fills + "".join(f".{name}{{fill:{c};stroke:{c}}}.o-{name}{{fill:{colours['card']};stroke:{c}}}" for name, c in colours.items())
    return (
        f"{shapes}text{{fill:{colours['ink']};stroke:none}}text.muted{{fill:{colours['muted']};stroke:none}}text.halo{{stroke:{colours['card']};stroke-width:5px;paint-order:stroke;stroke-linejoin:round}}.zone{{fill:{colours['wrong']};opacity:.13;"
        f"stroke:none}}.band{{fill:{colours['s0']};opacity:.16;stroke:none}}.page{{fill:{colours['card']};stroke:{colours['line']}}}"
    )


STYLE = (
    f"text{{font-family:{FONT};font-size:13px;font-variant-numeric:tabular-nums}}.small{{font-size:11.5px}}.b{{font-weight:600}}"
    f".w2{{stroke-width:2}}.w3{{stroke-width:3}}.dash{{stroke-dasharray:4 3}}.nofill{{fill:none}}"
    + _rules(LIGHT)
    + "@media(prefers-color-scheme:dark){"
    + _rules(DARK)
    + "}.nofill,.glyph{fill:none!important}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A linear map from data to pixels."""

    low: float
    high: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        clipped = min(max(value, self.low), self.high)
        return self.left + (clipped - self.low) / (self.high - self.low) * (self.right - self.left)

    def ticks(self, most: int = 6) -> list[float]:
        """At most ``most`` round numbers inside the domain."""
        step = nice_step((self.high - self.low) / max(most - 1, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def nice_step(raw: float) -> float:
    """The least of 1, 2, 2.5, 5 × 10^k that is not below ``raw``."""
    if not (raw > 0 and math.isfinite(raw)):
        return 1.0
    base = 10.0 ** math.floor(math.log10(raw))
    return next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= raw * (1 - 1e-9))


def text_width(text: str, size: float = 13) -> float:
    return len(text) * size * CHARACTER


def wrap(text: str, width: float, size: float = 13, lines: int = 2) -> list[str]:
    """Break a label into at most ``lines`` lines of about ``width`` pixels; the last one ends in an ellipsis where it does not fit."""
    room = max(4, int(width / (size * CHARACTER)))
    result: list[str] = []
    current = ""
    for word in text.split():
        for piece in (word[i : i + room] for i in range(0, len(word), room)):
            if current and len(current) + 1 + len(piece) > room:
                result.append(current)
                current = piece
            else:
                current = f"{current} {piece}".strip()
    result.append(current)
    if len(result) > lines:
        result = [*result[: lines - 1], result[lines - 1][: room - 1].rstrip() + "…"]
    return result


@dataclass(slots=True)
class Canvas:
    """Collects shapes; ``width`` is fixed, the height is known only at the end."""

    width: float
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, content: str, css: str = "", anchor: str = "start") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(visible(content))}</text>')

    def line(self, start: tuple[float, float], end: tuple[float, float], css: str = "line") -> None:
        self.parts.append(f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" class="{css}"/>')

    def rect(self, corner: tuple[float, float], size: tuple[float, float], css: str, radius: float = 0) -> None:
        width, height = max(size[0], 0), max(size[1], 0)
        self.parts.append(
            f'<rect x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius}" class="{css}"/>'
        )

    def circle(self, x: float, y: float, radius: float, css: str) -> None:
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{css}"/>')

    def path(self, d: str, css: str) -> None:
        self.parts.append(f'<path d="{d}" class="{css}"/>')

    def render(self, height: float) -> str:
        size = f'width="{self.width:.0f}" height="{height:.0f}" viewBox="0 0 {self.width:.0f} {height:.0f}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{"".join(self.parts)}</svg>'


def data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("utf-8")).decode("ascii")
