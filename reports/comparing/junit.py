"""A comparison as JUnit XML: one suite a candidate, one case a criterion; fails are failures, what is open is skipped (under --strict a failure).

The form is that of the JUnit reports which GitHub and GitLab read: testsuites / testsuite / testcase with failure or skipped.
"""

from __future__ import annotations

from xml.etree import ElementTree

from auditor.compare.result import PROOF, Against, Comparison, Decision
from auditor.reports.comparing import rows
from auditor.reports.text import visible


def junit(comparison: Comparison) -> str:
    """The XML document. Every text is made visible first, so that it holds no character that XML forbids."""
    root = ElementTree.Element("testsuites", name="auditor compare")
    for against in comparison.candidates:
        root.append(_suite(against, comparison))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(against: Against, comparison: Comparison) -> ElementTree.Element:
    cases = [_case(one, comparison.strict) for one in rows.decisions(against)] + _evidence(rows.part_only(comparison, against))
    counts = {kind: str(sum(case.find(kind) is not None for case in cases)) for kind in ("failure", "skipped")}
    letters = comparison.letters
    name = f"{letters[against.run.run_id]} against A: {against.run.run_id} on {against.run.model}"
    suite = ElementTree.Element("testsuite", name=visible(name), tests=str(len(cases)), failures=counts["failure"], skipped=counts["skipped"], errors="0")
    properties = ElementTree.SubElement(suite, "properties")
    facts = {"baseline": rows.run_line(comparison.baseline, "A"), "candidate": rows.run_line(against.run, letters[against.run.run_id]),
             "policy": rows.policy_line(comparison), **{f"note {k}": note for k, note in enumerate(against.notes, 1)}}
    for key, value in facts.items():
        ElementTree.SubElement(properties, "property", name=key, value=visible(value))
    suite.extend(cases)
    return suite


def _evidence(problem: str) -> list[ElementTree.Element]:
    """A failed case where a run asked only a part of the items: the exit code says no more than whoever reads this alone."""
    if not problem:
        return []
    case = ElementTree.Element("testcase", classname="runs", name="evidence", time="0")
    ElementTree.SubElement(case, "failure", message=problem, type="not_assessed").text = problem
    return [case]


def _case(one: Decision, strict: bool) -> ElementTree.Element:
    """Advisory criteria are never failures, as they never decide."""
    suite, _, metric = one.rule.metric.partition(".")
    case = ElementTree.Element("testcase", classname=visible(suite), name=visible(f"{metric} ({one.rule.test})"), time="0")
    cells = dict(zip(rows.DECISION_HEADERS, rows.decision_row(one), strict=True))
    message = f"{one.rule.metric}: {rows.DECIDED[one.decided]}: {one.reason}"
    body = "\n".join([*(f"{head}: {cell}" for head, cell in cells.items()), f"Why: {one.rule.why}", *([f"Owner: {one.rule.owner}"] if one.rule.owner else [])])
    unmet = one.rule.required and one.decided != "pass" and (strict or one.lost or one.decided == "fail" or one.rule.test in PROOF)
    if unmet or one.decided != "pass":
        found = ElementTree.SubElement(case, "failure" if unmet else "skipped", message=visible(message))
        found.text = visible(body)
        if unmet:
            found.set("type", one.decided)
    else:
        ElementTree.SubElement(case, "system-out").text = visible(body)
    return case
