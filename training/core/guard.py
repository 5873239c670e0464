"""When training has gone wrong: what is watched, and what is said."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median

from auditor.errors import TrainingError

HISTORY = 50
EXPLODED = 20.0  # times the median of the last losses, and at least this much above it


class Guard:
    """Stops a run, or counts and goes on, as ``on_divergence`` says. ``limits`` maps a statistic to (lowest, highest).

    ``losses`` are the last ones; they go into checkpoints, so that a resumed run is watched as one that never stopped.
    """

    def __init__(self, name: str, on_divergence: str, limits: Mapping[str, tuple[float, float]] | None = None) -> None:
        self.name, self.stops = name, on_divergence == "stop"
        self.limits = limits or {}
        self.losses: deque[float] = deque(maxlen=HISTORY)
        self.events = 0

    def check(self, step: int, values: Mapping[str, float | None]) -> str:
        """What is wrong with step ``step`` (1-based), or "". Raises TrainingError where the run is to stop."""
        problem = self._problem(values)
        loss = values.get("loss")
        if loss is not None and math.isfinite(loss):
            self.losses.append(loss)
        if problem:
            self.events += 1
            if self.stops:
                raise TrainingError(f"stage {self.name!r} stopped at step {step}: {problem}. The last good checkpoint stays; lower lr (or raise beta), "
                                    "and start again, or set on_divergence = \"continue\" and go on with --resume")
        return problem

    def _problem(self, values: Mapping[str, float | None]) -> str:
        for name in ("loss", "gradient_norm"):
            value = values.get(name)
            if value is not None and not math.isfinite(value):
                return f"{name} is {value}"
        loss = values.get("loss")
        if loss is not None and len(self.losses) >= 5:
            usual = median(abs(past) for past in self.losses)
            if abs(loss) > EXPLODED * max(usual, 1.0):
                return f"loss is {loss:.4g} after a median of {usual:.4g}"
        for name, (low, high) in self.limits.items():
            value = values.get(name)
            if value is not None and not low <= value <= high:
                return f"{name} is {value:.4g}, outside {low:g} to {high:g}"
        return ""
