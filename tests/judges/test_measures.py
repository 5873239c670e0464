"""From one judgment to scores and columns."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.judges.labels import majority
from auditor.judges.measures import GAP, advantage, advantage_columns, alpha, columns, label_of, recorded_judgment, same_model
from auditor.schema import Sample, user
from auditor.stats import alt_test


def item(name: str, humans: dict[str, str], judges: dict[str, dict[str, object]] | None = None, **extra: object) -> Sample:
    metadata = {"humans": humans, "judges": judges or {}, "authors": {}, "group": {}, "duplicates": 0, **extra}
    return Sample(id=name, messages=(user(f"question {name}"),), cluster_id=name, choices=("short", "somewhat longer"),
                  target=majority(humans.values()), source="x.jsonl", metadata=metadata)  # type: ignore[arg-type]


def test_a_missing_order_is_missing_and_a_null_is_a_judge_without_a_verdict() -> None:
    sample = item("i1", {"x": "a"}, {"half": {"ab": "a"}, "null": {"ab": "a", "ba": None}, "refuser": {"ab": "a", "ba": "refused"}})
    assert {name: recorded_judgment(sample, name).status for name in ("half", "null", "refuser", "absent")} == {
        "half": "error", "null": "unparseable", "refuser": "refused", "absent": "error"}


def test_names_of_models() -> None:
    assert same_model("hf:org/Tulu-7B", "tulu_7b")
    assert same_model("GPT-4/CoT", "gpt4")
    assert not same_model("GPT-4/CoT", "gpt")
    assert not same_model("", "")


def test_alpha_with_gaps_on_krippendorffs_own_example() -> None:
    """Krippendorff 2011, section C: four observers, twelve units, gaps; nominal alpha 0.743. Which observer labelled does not matter."""
    table = """1 2 3 3 2 1 4 1 2 . . .
               1 2 3 3 2 2 4 1 2 5 . 3
               . 3 3 3 2 3 4 2 2 5 1 .
               1 2 3 3 2 4 4 1 2 5 1 ."""
    units = list(zip(*(line.split() for line in table.splitlines()), strict=True))
    packed = [[float(label) for label in unit if label != "."] for unit in units]
    votes = tuple(np.array([labels[k] if k < len(labels) else GAP for labels in packed]) for k in range(4))
    assert alpha(votes, np.ones((1, 12)))[0] == pytest.approx(0.743, abs=5e-4)


def test_the_columns_of_one_item() -> None:
    sample = item("i1", {"x": "a", "y": "a", "z": "tie"})
    values = columns(sample, 0.2, "judge", 4)
    assert [values[f"vote_{k}"] for k in range(5)] == [0.0, 1.0, 1.0, 0.5, GAP]
    assert (values["judge"], values["human"], values["agreement_without_ties"]) == (0.0, 1.0, 0.0)
    assert (values["human_ceiling"], values["rater_agreement"]) == (pytest.approx(1 / 3), 0.0)
    assert (values["judge_longer"], values["human_longer"]) == (1.0, 0.0)  # b is longer: the judge prefers it, people do not
    assert "self_preference" not in values


def test_columns_that_do_not_exist_are_left_out() -> None:
    assert set(columns(item("i1", {}), 0.9, "judge", 2)) == {"judge"}
    assert "agreement_without_ties" not in columns(item("i1", {"x": "a"}), 0.5, "judge", 1)
    assert "human_ceiling" not in columns(item("i1", {"x": "a"}), 0.9, "judge", 1)


@pytest.mark.parametrize(("preference", "label"), [(0.5, "tie"), (0.5005, "tie"), (0.502, "a"), (0.498, "b"), (1.0, "a")])
def test_soft_labels_and_the_tie_band(preference: float, label: str) -> None:
    assert label_of(preference) == label


def test_the_advantage_is_that_of_the_alternative_annotator_test() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 120).astype(float)
    humans = np.array([np.where(rng.random(120) < noise, 1 - truth, truth) for noise in (0.1, 0.2, 0.3, 0.4)])
    humans[rng.random(humans.shape) < 0.3] = np.nan
    judge = np.where(rng.random(120) < 0.2, 1 - truth, truth)
    result = alt_test(judge, humans)
    assert result is not None
    assert advantage(advantage_columns(judge, humans), np.ones((1, 120)))[0] == pytest.approx(result.advantage)
