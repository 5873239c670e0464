from __future__ import annotations

from collections import Counter

import pytest

from auditor.engine.plan import keyed, load_samples, placed, select
from auditor.errors import InputError
from auditor.schema import Sample, ask, user


def sample(index, task, cluster):
    return Sample(id=f"{task}-{index}", messages=(user("?"),), cluster_id=f"{task}-{cluster}", metadata={"task": task})


SAMPLES = [sample(i, "big", i // 5) for i in range(100)] + [sample(i, "small", i // 5) for i in range(20)] + [sample(i, "tiny", 0) for i in range(2)]


@pytest.mark.parametrize("limit", [3, 10, 40, 121])
def test_select_takes_exactly_the_limit_in_file_order(limit):
    chosen = select(SAMPLES, limit, 0)
    assert len(chosen) == limit
    places = [SAMPLES.index(item) for item in chosen]
    assert places == sorted(places)


def test_select_is_stratified_and_spreads_over_clusters():
    chosen = select(SAMPLES, 40, 0)
    tasks = Counter(item.metadata["task"] for item in chosen)
    assert tasks["big"] in (32, 33)
    assert tasks["small"] in (6, 7)
    assert tasks["tiny"] == 1
    clusters = Counter(item.cluster_id for item in chosen if item.metadata["task"] == "big")
    assert max(clusters.values()) - min(clusters.values()) <= 1


def test_select_depends_on_the_seed_and_on_nothing_else():
    assert select(SAMPLES, 40, 1) == select(SAMPLES, 40, 1)
    assert select(SAMPLES, 40, 1) != select(SAMPLES, 40, 2)
    assert {item.id for item in select(SAMPLES[::-1], 40, 1)} == {item.id for item in select(SAMPLES, 40, 1)}


def test_fewer_than_tasks():
    assert len(select(SAMPLES, 1, 0)) == 1
    assert len(select(SAMPLES, 2, 0)) == 2


def test_no_limit_takes_all():
    assert select(SAMPLES, None, 0) == SAMPLES
    assert select(SAMPLES, 1000, 0) == SAMPLES


def test_keyed_is_stable_across_processes():
    assert keyed(0, "a", 1) == 2567054096787269053
    assert keyed(0, "a", 1) != keyed(0, "a1") != keyed(1, "a", 1)
    assert 0 <= keyed(3, "x") < 2**63


def test_request_seed_depends_on_its_place():
    seeds = {placed(ask([user("?")]), "s", (name, epoch), (turn, slot), 0).seed
             for name in "ab" for epoch in (0, 1) for turn in (0, 1) for slot in (0, 1)}
    assert len(seeds) == 16


def test_items_with_one_id_twice():
    with pytest.raises(InputError, match="share the id 'big-0'"):
        load_samples(lambda path: [SAMPLES[0], SAMPLES[0]], None, "s")


def test_no_items():
    with pytest.raises(InputError, match="holds no items"):
        load_samples(lambda path: [], None, "s")
