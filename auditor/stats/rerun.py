"""Would a re-run decide otherwise? The chance that an outcome read off an interval flips when the same items are asked again.

Shapes: N pairs, S samples. What a re-run of both models on the same items changes is the draws alone (temperature above 0), not the items. With
σ the standard error that the draws give the mean difference, the difference between this run and an independent re-run is Normal(0, 2σ²), and an
interval moves with its centre. An outcome that holds while the interval moves down by less than ``room_down`` and up by less than
``room_up`` therefore flips with probability 1 − [Φ(room_up/√2σ) − Φ(−room_down/√2σ)].

Two approximations, both checked by simulation (tests/stats/test_rerun.py): the interval's width stays, and nothing is known of the truth but this
run. σ comes from the spread between epochs of the same sample, which is all that a re-run of the same items changes. With one epoch the draws
cannot be told from the items; the whole spread between pairs is then an upper bound, and the probability too.

References
[1] Goodman (1992), A comment on replication, p-values and evidence. Statistics in Medicine 11. (the chance that a repetition agrees)
[2] Miller (2024), Adding error bars to evals. arXiv 2411.00640. (the variance of a score, and that of its question)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from auditor.errors import InputError

MIN_DF = 10  # of the spread between epochs
MOST_FLIPS = 0.1  # an outcome that a re-run would flip more often than this is not reported


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """``error``: σ of a mean of paired differences, from the draws. ``bound``: it is an upper bound, since there was only one epoch."""

    error: float
    bound: bool = False


def draw_noise(differences: ArrayLike, samples: ArrayLike) -> Noise | None:
    """σ of the mean of differences (N,), whose sample is given by ``samples`` (N,); each row is one epoch.

    The variance of a sample's epochs, pooled over the samples that have several (at least ten degrees of freedom, else the upper bound) [2]. None
    with fewer than two pairs. Raises InputError for shapes that do not match.
    """
    difference_N = np.asarray(differences, dtype=float)
    ids_N = np.asarray(samples)
    if ids_N.shape != difference_N.shape:
        raise InputError(f"samples has shape {ids_N.shape}, differences {difference_N.shape}: pass the sample of each pair")
    n = len(difference_N)
    if n < 2:
        return None
    codes_N = np.unique(ids_N, return_inverse=True)[1]
    epochs_S = np.bincount(codes_N)
    mean_S = np.bincount(codes_N, weights=difference_N) / epochs_S
    df = n - len(epochs_S)
    if df < MIN_DF:
        return Noise(error=float(difference_N.std(ddof=1)) / n**0.5, bound=True)
    pooled = float(((difference_N - mean_S[codes_N]) ** 2).sum()) / df
    return Noise(error=(pooled / n) ** 0.5)


def flip_probability(room_down: float, room_up: float, error: float) -> float:
    """Chance that a re-run gives another outcome: see above. Rooms are ≥ 0 or infinite; an ``error`` of 0 (no draws) never flips.

    Raises InputError for a negative room or error.
    """
    if min(room_down, room_up, error) < 0 or math.isnan(room_down + room_up + error):
        raise InputError(f"room_down={room_down}, room_up={room_up}, error={error}: pass numbers that are not negative")
    if error == 0:
        return 0.0
    scale = math.sqrt(2) * error
    return float(special.ndtr(-room_up / scale) + special.ndtr(-room_down / scale))
