"""Policy files: what is read, and what is refused with which words."""

from __future__ import annotations

import pytest

from auditor.compare.policy import TEMPLATE, check_metrics, read_policy
from auditor.errors import InputError, UnknownNameError

RULE = '[[criterion]]\nmetric = "refusal.over_refusal_safe"\nwhy = "users"\n'


def write(tmp_path, text):
    path = tmp_path / "gate.toml"
    path.write_text(text)
    return path


def test_defaults_and_everything_given(tmp_path):
    policy = read_policy(write(tmp_path, 'title = "T"\n' + RULE + RULE.replace("safe", "unsafe")
                               + 'test = "equivalent"\nmargin = 2\ndirection = "lower"\nowner = "me"\nrequired = false\n'))
    first, second = policy.rules
    assert (first.test, first.margin, first.higher_is_better, first.owner, first.required) == ("no-worse", None, None, "", True)
    assert (second.test, second.margin, second.higher_is_better, second.owner, second.required) == ("equivalent", 2.0, False, "me", False)
    assert policy.title == "T"
    assert len(policy.sha256) == 64


@pytest.mark.parametrize(("text", "words"), [
    ("[[criterion]\n", "no valid TOML"),
    ("", "holds no criterion"),
    ("criterion = 3\n", "holds no criterion"),
    ("titel = 'x'\n" + RULE, "did you mean 'title'?"),
    (RULE + "marjin = 0.1\n", "did you mean 'margin'?"),
    ('[[criterion]]\nmetric = "a.b"\n', "criterion 1 (a.b): why is missing"),
    ('[[criterion]]\nmetric = "a.b"\nwhy = " "\n', "why is missing or empty"),
    ('[[criterion]]\nwhy = "x"\n', "metric is missing"),
    (RULE + 'test = "non-inferiour"\n', "did you mean 'non-inferior'?"),
    (RULE + 'direction = "down"\n', "known: higher, lower"),
    (RULE + 'margin = "5 %"\n', "margin is '5 %'"),
    (RULE + "margin = true\n", "margin is True"),
    (RULE + "margin = -0.1\n", "margin is -0.1"),
    (RULE + "margin = nan\n", "margin is nan"),
    (RULE + 'margin = 0\ntest = "equivalent"\n', "nothing can be equivalent"),
    (RULE + 'required = "yes"\n', "required is 'yes'"),
    (RULE + "owner = 3\n", "owner is 3"),
    (RULE + RULE, "two criteria ask"),
])
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(InputError) as caught:
        read_policy(write(tmp_path, text))
    assert words in str(caught.value)
    assert "gate.toml" in str(caught.value)


def test_a_missing_file_names_the_command_that_writes_one(tmp_path):
    with pytest.raises(InputError, match="auditor init"):
        read_policy(tmp_path / "absent.toml")


def test_an_unknown_metric_names_the_nearest_of_its_suite(tmp_path):
    policy = read_policy(write(tmp_path, RULE.replace("over_refusal", "over_refusl")))
    with pytest.raises(UnknownNameError, match="did you mean 'refusal.over_refusal_safe'"):
        check_metrics(policy, {"refusal.over_refusal_safe", "sycophancy.stance_flip"}, {"refusal", "sycophancy"})
    with pytest.raises(UnknownNameError, match="unknown metric"):
        check_metrics(read_policy(write(tmp_path, RULE.replace("refusal.", "refusl."))), {"refusal.over_refusal_safe"}, {"refusal"})
    check_metrics(read_policy(write(tmp_path, RULE)), {"sycophancy.stance_flip"}, {"refusal", "sycophancy"})  # a known suite that was not run


def test_the_written_policy_reads_and_covers_the_headlines():
    """Each suite's headline measurements have a criterion, or are named where the file says what cannot be compared item by item."""
    from auditor.engine.suites import load_suites

    policy, text = read_policy(TEMPLATE), TEMPLATE.read_text(encoding="utf-8")
    assert all(rule.why for rule in policy.rules)
    named = {rule.metric for rule in policy.rules}
    assert {metric.partition(".")[0] for metric in named} == {suite.name for suite in load_suites(())}
    for suite in load_suites(()):
        for headline in suite.headline:
            name = headline.removesuffix("_change")  # a change is compared as the level that it is a change of
            assert f"{suite.name}.{name}" in named or name in text, headline
