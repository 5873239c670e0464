"""Sample sizes that settle, detectable effects, and adjusted p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval
from auditor.stats import benjamini_hochberg, benjamini_yekutieli, holm, mean_interval, minimum_detectable_effect, n_to_settle, proportion_interval


@pytest.mark.parametrize(("successes", "n", "bound"), [(30, 200, 0.2), (60, 100, 0.55), (84, 100, 0.8), (40, 80, 0.51)])
def test_n_to_settle_is_where_wilson_excludes_the_bound(successes, n, bound):
    found = proportion_interval([1.0] * successes + [0.0] * (n - successes))
    needed = n_to_settle(found.value, bound, n, found.ci)

    def settled(size):
        return abs(found.value - bound) > 1.959964 * (bound * (1 - bound) / size) ** 0.5

    assert needed > n
    assert settled(needed)
    assert not settled(needed - 1)


def test_n_to_settle_scales_with_the_design_effect():
    rng = np.random.default_rng(0)
    rows = (rng.random(300) < 0.3).astype(float)
    plain, copied = proportion_interval(rows), proportion_interval(np.repeat(rows, 4), np.repeat(np.arange(300), 4))
    ratio = n_to_settle(plain.value, 0.32, 1200, copied.ci) / n_to_settle(plain.value, 0.32, 300, plain.ci)
    assert ratio == pytest.approx(4, rel=0.03)


def test_n_to_settle_at_zero_and_for_means():
    none_seen = proportion_interval([0.0] * 30)
    needed = n_to_settle(0.0, 0.05, 30, none_seen.ci)
    assert needed == 72  # 0.025^(1/n) > 0.95 from n = 72
    assert 1 - 0.025 ** (1 / needed) < 0.05 < 1 - 0.025 ** (1 / (needed - 1))
    values = mean_interval(np.random.default_rng(0).normal(1, 2, 100))
    half = values.value - values.ci.low
    assert n_to_settle(values.value, values.value - half / 2, 100, values.ci) == pytest.approx(400, abs=1)


def test_n_to_settle_is_none_when_nothing_settles():
    ci = ConfidenceInterval(low=0.4, high=0.6, method="Student t")
    assert n_to_settle(0.5, 0.5, 100, ci) is None
    assert n_to_settle(0.5, 0.9, 0, ci) is None
    assert n_to_settle(0.5, 0.3, 100, ci) == 101  # already excluded


def test_minimum_detectable_effect():
    assert minimum_detectable_effect(1.0) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert minimum_detectable_effect(0.5, df=10) == pytest.approx(0.5 * (stats.t.ppf(0.975, 10) + stats.t.ppf(0.8, 10)))
    with pytest.raises(InputError, match="negative"):
        minimum_detectable_effect(-1)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.2])


@pytest.mark.parametrize(("adjust", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh"), (benjamini_yekutieli, "fdr_by")])
def test_adjusted_as_by_statsmodels(adjust, method):
    rng = np.random.default_rng(0)
    for p in (rng.random(37), np.round(rng.random(50), 1) ** 2, np.array([0.0, 1.0, 1.0]), np.array([0.3])):  # ties and both ends
        assert adjust(p.tolist()) == pytest.approx(multipletests(p, method=method)[1].tolist(), abs=1e-12)


def test_missing_p_values_stay_and_are_not_counted():
    assert holm([0.01, None, 0.04]) == pytest.approx([0.02, None, 0.04])
    assert holm([None]) == [None]
    assert holm([]) == []
    with pytest.raises(InputError, match=r"1\.5"):
        holm([1.5])
    with pytest.raises(InputError, match="nan is outside"):
        holm([0.1, float("nan")])
