"""The demo on a tiny checkpoint, trainings cut to two steps: every part, an interrupt, and the comparison of its runs."""

from __future__ import annotations

import json

import pytest

from auditor.cli import Stopped, demo
from auditor.cli.demo import DemoArguments, demo_command
from auditor.compare.beside import compare_runs
from auditor.store import Store

SHORT = {"CANDIDATE": ("dpo", ("dpo.limit=16", "dpo.max_steps=2", "dpo.batch_size=4")), "ORGANISM": ("organism-refuser", ("dpo.max_steps=2",))}


@pytest.fixture
def short(monkeypatch, own_checkpoint):
    """The tiny checkpoint with room for the shipped pairs, and trainings of two steps."""
    config = json.loads((own_checkpoint / "config.json").read_text())
    (own_checkpoint / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    for name, recipe in SHORT.items():
        monkeypatch.setattr(demo, name, recipe)
    return own_checkpoint


def test_base_candidate_and_organism(short, tmp_path, monkeypatch, capsys):
    arguments, audit, asked = DemoArguments(out=tmp_path / "demo", model=str(short), limit=6), demo.audit, []

    def once(typed):
        asked.append(typed)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return audit(typed)

    monkeypatch.setattr(demo, "audit", once)
    with pytest.raises(Stopped, match="go on with `auditor demo -o"):
        demo_command(arguments)
    assert demo_command(arguments) == 0
    assert len(asked) == 4  # the base once, the candidate's audit again after the interrupt, the organism
    store = Store.open(arguments.db)
    runs = [run.run_id for run in store.runs()]
    assert len(runs) == 3
    assert [run.spec.baseline for run in store.runs()] == [None, runs[0], runs[0]]
    assert set(store.training()["status"]) == {"done"}
    printed = capsys.readouterr().out
    assert "Side by side" in printed
    assert "The organism against the base on the same items" in printed
    page = (arguments.out / "report.html").read_text(encoding="utf-8")
    assert "B − A on the same items" in page.replace("\u2212", "−")
    check_comparisons(store, *runs[:2])
    assert demo_command(arguments) == 0  # everything is there already
    assert len(Store.open(arguments.db).runs()) == 3


def check_comparisons(store, base, other):
    """A difference is that of the metrics where both runs scored the same items; of a run with itself it is 0."""
    values = [{metric.key: metric for metric in store.metrics(run)} for run in (base, other)]
    found = compare_runs(store, base, other)
    assert len(found) >= 10
    same = [one for one in found if values[0][one.metric].n == values[1][one.metric].n == one.n_pairs]
    assert len(same) >= 5
    for one in same:
        assert one.difference == pytest.approx(values[1][one.metric].value - values[0][one.metric].value, abs=1e-9), one.metric
    for one in found:
        assert one.ci.low <= one.difference <= one.ci.high
        assert one.p_value <= one.p_adjusted <= 1
    assert all(one.difference == 0 and one.p_value == 1 for one in compare_runs(store, base, base))


def test_without_training_only_the_base_is_audited(short, tmp_path, capsys):
    arguments = DemoArguments(out=tmp_path / "demo", train=False, model=str(short), limit=6)
    assert demo_command(arguments) == 0
    assert len(Store.open(arguments.db).runs()) == 1
    printed = capsys.readouterr().out
    assert "three most important findings" in printed
    assert "Side by side" not in printed
