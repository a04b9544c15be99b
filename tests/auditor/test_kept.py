"""The findings that the auditor keeps: changed object by object, counted, and handed on as they were put in."""

from __future__ import annotations

import pytest

from tests.auditor.findings import finding
from webhook.auditor.kept import Counted, Kept
from webhook.findings import Finding
from webhook.policy import Reference

WEB = Reference("Deployment", "shop", "web")
NODE = Reference("Node", "", "a")


def kept(*findings: Finding) -> Kept:
    """The findings on Deployment shop/web of team red, not counted as changed."""
    found = Kept()
    found.put(WEB, "apps", "red", findings)
    found.clear_changed()
    return found


def contents(of: Kept) -> dict[str, dict[Reference, tuple[Finding, ...]]]:
    return {namespace: dict(findings) for namespace, findings in of.by_namespace.items()}


def test_findings_come_back_as_they_were_put_in() -> None:
    found = kept(finding(), finding(enforced="patch"))
    found.put(NODE, "", "blue", [finding()])
    assert contents(found) == {
        "shop": {WEB: (finding(), finding(enforced="patch"))},
        "": {NODE: (finding(),)},
    }
    assert found.teams("shop") == {WEB: "red"}
    assert found.teams("elsewhere") == {}
    assert found.counts == {
        Counted("memory-limits", "audited", "deny", "shop", "red"): 1,
        Counted("memory-limits", "audited", "patch", "shop", "red"): 1,
        Counted("memory-limits", "audited", "deny", "", "blue"): 1,
    }
    assert found.changed == {""}


def test_an_unchanged_verdict_is_no_change() -> None:
    found = kept(finding())
    found.put(WEB, "apps", "red", [finding()])
    assert found.changed == set()
    assert found.counts.total() == 1


@pytest.mark.parametrize(
    ("team", "after"),
    [
        pytest.param("red", [finding(message="another")], id="another-message"),
        pytest.param("blue", [finding()], id="another-team"),
        pytest.param("red", [finding(), finding(enforced="patch")], id="one-more"),
    ],
)
def test_another_verdict_replaces_the_one_before(team: str, after: list[Finding]) -> None:
    found = kept(finding())
    found.put(WEB, "apps", team, after)
    assert contents(found) == {"shop": {WEB: tuple(after)}}
    assert found.teams("shop") == {WEB: team}
    assert found.counts.total() == len(after)
    assert found.changed == {"shop"}


@pytest.mark.parametrize("is_put", [True, False], ids=["nothing-found", "dropped"])
def test_what_is_mended_or_gone_leaves_nothing(is_put: bool) -> None:
    found = kept(finding())
    if is_put:
        found.put(WEB, "apps", "red", [])
    else:
        found.drop(WEB, "apps")
    assert contents(found) == {}
    assert found.counts == {}
    assert found.changed == {"shop"}


def test_forgetting_what_is_not_known_changes_nothing() -> None:
    found = kept(finding())
    found.drop(WEB._replace(name="other"), "apps")
    found.drop(WEB, "apps.kruise.io")
    assert contents(found) == {"shop": {WEB: (finding(),)}}
    assert found.changed == set()


def test_two_groups_may_have_a_kind_of_one_name() -> None:
    found = kept(finding())
    found.put(WEB, "apps.kruise.io", "red", [finding(message="another")])
    assert contents(found) == {"shop": {WEB: (finding(), finding(message="another"))}}
    found.drop(WEB, "apps")
    assert contents(found) == {"shop": {WEB: (finding(message="another"),)}}


def test_of_an_object_the_worst_findings_are_kept_and_all_are_counted() -> None:
    found = kept(*(finding(enforced=None, message=f"{index}") for index in range(200)), finding(message="denied"))
    (of_object,) = found.by_namespace["shop"].values()
    assert (len(of_object), of_object[0].verdict.violation.message) == (100, "denied")
    assert found.counts.total() == found.counts_of("shop").total() == 201
    found.put(
        WEB,
        "apps",
        "red",
        [*(finding(enforced=None, message=f"{index}") for index in range(199)), finding(message="denied")],
    )
    assert found.counts.total() == 200
    assert found.changed == {"shop"}
    found.drop(WEB, "apps")
    assert (found.counts, found.counts_of("shop")) == ({}, {})
