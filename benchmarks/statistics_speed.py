"""How fast the clustered bootstrap is: 10,000 BCa resamples over 100,000 clustered scores. Target: 2 s.

    python benchmarks/statistics_speed.py

The same data go through scipy.stats.bootstrap (BCa as well; it knows no clusters, so it is given the cluster means, an easier task) and through a plain
loop over resamples of clusters. Both are timed on fewer resamples and scaled up, for the whole would take minutes; their ratio to ours is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from auditor.stats import Resampling, ratio_interval, sign_flip_p

ROWS, CLUSTERS, RESAMPLES, TARGET = 100_000, 20_000, 10_000, 2.0
PEER_RESAMPLES = 100


def data() -> tuple[np.ndarray, np.ndarray]:
    """Scores (ROWS,) and their clusters (ROWS,), of uneven size and correlated within."""
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, CLUSTERS, ROWS)
    return rng.normal(size=ROWS) + rng.normal(size=CLUSTERS)[clusters], clusters


def timed(work: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def plain_loop(values: np.ndarray, clusters: np.ndarray, resamples: int) -> np.ndarray:
    """Means of resamples of whole clusters, one after the other: percentile bounds, without BCa's jackknife."""
    rng = np.random.default_rng(1)
    order = np.argsort(clusters, kind="stable")
    members = np.split(values[order], np.flatnonzero(np.diff(clusters[order])) + 1)
    drawn = [np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))]).mean() for _ in range(resamples)]
    return np.quantile(drawn, (0.025, 0.975))


def main() -> None:
    values, clusters = data()
    seconds, found = timed(lambda: ratio_interval(values, None, clusters, Resampling(resamples=RESAMPLES)))
    print(f"{RESAMPLES:,} BCa resamples over {ROWS:,} scores in {len(np.unique(clusters)):,} clusters: {seconds:.2f} s "
          f"(target {TARGET:.0f} s {'met' if seconds <= TARGET else 'MISSED'}); interval {found.ci.low:.4f} to {found.ci.high:.4f}")  # type: ignore[attr-defined]
    means = np.bincount(clusters, weights=values) / np.maximum(np.bincount(clusters), 1)
    scale = RESAMPLES / PEER_RESAMPLES
    for name, work in (("plain loop", lambda: plain_loop(values, clusters, PEER_RESAMPLES)),
                       ("scipy.stats.bootstrap, percentile, on cluster means",
                        lambda: stats.bootstrap((means,), np.mean, n_resamples=PEER_RESAMPLES, method="percentile", rng=np.random.default_rng(1)))):
        spent = timed(work)[0] * scale
        print(f"{name}: about {spent:.0f} s for as many resamples, {spent / seconds:.0f} times as long")
    flips, p = timed(lambda: sign_flip_p(values, clusters))
    print(f"sign-flip test of the same, 10,000 patterns: {flips:.2f} s (p {p:.3f})")
    raise SystemExit(0 if seconds <= TARGET else 1)


if __name__ == "__main__":
    main()
