"""Is the candidate as good as the baseline, or not worse by more than a margin? Tests on paired differences, clustered.

Shapes: N pairs, G clusters. The error is cluster-robust (CR2) with its own degrees of freedom, as for a mean (see intervals.py).

A claim of equality needs its own test: a difference that is not significant shows nothing, since few pairs never show one. Each test
takes "too different" as its null hypothesis, so that the burden of proof lies with the claim. A test at level α is the same as a look at the
interval of level 1 − 2α: two one-sided tests at 2.5 % pass exactly where the 95 % interval of Student's t lies inside the margins.

Where several such claims must all hold, no adjustment for their number is due: each is tested at its full level [3]. Adjusting is for
claims of which one alone would be reported (Holm, multiplicity.py).

References
[1] Schuirmann (1987), A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence of average
    bioavailability. J. Pharmacokinetics and Biopharmaceutics 15. (TOST)
[2] Piaggio et al. (2012), Reporting of noninferiority and equivalence randomized trials: extension of the CONSORT 2010 statement. JAMA 308.
[3] Berger (1982), Multiparameter hypothesis testing and acceptance sampling. Technometrics 24. (intersection-union tests)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from auditor.errors import InputError
from auditor.stats.intervals import Floats, cluster_sums, cluster_variance, satterthwaite_df

CLAIM_LEVEL = 0.025  # one-sided, so that it agrees with 95 % intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginTest:
    """``p_value`` of "the difference lies beyond the margin"; small: it does not. ``p_below`` is of "below the lower margin" (None where there is
    no lower margin), ``p_above`` of "above the upper one"."""

    difference: float
    standard_error: float
    df: float
    p_value: float
    p_below: float | None = None
    p_above: float | None = None

    def shown(self, level: float = CLAIM_LEVEL) -> bool:
        """Whether the claim holds at this one-sided level."""
        return self.p_value <= level


def equivalence_test(differences: ArrayLike, margin: float, clusters: ArrayLike | None = None) -> MarginTest | None:
    """Two one-sided tests [1] that the mean of paired differences (N,) lies within ±``margin``; p is the larger of the two.

    None with fewer than two clusters, or where no pair varies (see ``no_variation`` in intervals.py for what can be said then). Raises
    InputError for a margin that is not above 0.
    """
    _check(margin > 0, margin, "above 0: nothing is equivalent within nothing")
    found = _moments(differences, clusters)
    if found is None:
        return None
    mean, error, df = found
    below, above = (float(p) for p in margin_p_values(*cluster_sums(differences, clusters), margin))
    return MarginTest(difference=mean, standard_error=error, df=df, p_value=max(below, above), p_below=below, p_above=above)


def non_inferiority_test(differences: ArrayLike, margin: float, clusters: ArrayLike | None = None, *,
                         higher_is_better: bool = True) -> MarginTest | None:
    """One-sided test [2] that the mean of candidate − baseline (N,) is not worse than ``margin`` in the bad direction.

    ``margin`` 0 asks for no loss at all, a negative one for a gain of at least that size (superiority by a margin). None as for
    :func:`equivalence_test`. Raises InputError for a margin that is not finite.
    """
    _check(np.isfinite(margin), margin, "a finite number")
    found = _moments(differences, clusters)
    if found is None:
        return None
    mean, error, df = found
    p = float(margin_p_values(*cluster_sums(differences, clusters), margin)[0 if higher_is_better else 1])
    return MarginTest(difference=mean, standard_error=error, df=df, p_value=p, p_below=p if higher_is_better else None,
                      p_above=None if higher_is_better else p)


def margin_p_values(sums_RG: Floats, sizes_G: Floats, margin: float) -> tuple[Floats, Floats]:
    """p of "below −margin" and of "above margin" from cluster sums, (R,) each; a leading axis serves many replications at once."""
    error_R, df = np.sqrt(cluster_variance(sums_RG, sizes_G)), max(satterthwaite_df(sizes_G), 1.0)
    mean_R = sums_RG.sum(-1) / sizes_G.sum()
    return _upper_tail((mean_R + margin) / error_R, df), _upper_tail((margin - mean_R) / error_R, df)


def _moments(differences: ArrayLike, clusters: ArrayLike | None) -> tuple[float, float, float] | None:
    """(mean, cluster-robust error, degrees of freedom), or None where there is no error to speak of."""
    difference_N = np.asarray(differences, dtype=float)
    if not len(difference_N):
        return None
    sums_G, sizes_G = cluster_sums(difference_N, clusters)
    mean = float(difference_N.mean())
    error = float(cluster_variance(sums_G, sizes_G)) ** 0.5 if len(sizes_G) > 1 else 0.0
    if error <= 1e-12 * max(1.0, abs(mean)):
        return None
    return mean, error, max(satterthwaite_df(sizes_G), 1.0)


def _upper_tail(t: Floats, df: float) -> Floats:
    return np.asarray(special.stdtr(df, -t))


def _check(right: bool | np.bool_, margin: float, wanted: str) -> None:
    if not right:
        raise InputError(f"margin={margin}: pass a number {wanted}")
