"""`forestall audit --history`, and the line of an audit that compares with last week."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders import container, sized, workload
from tests.fake_api import FakeApi, Request
from webhook.audit.history import Day, write_history
from webhook.cli import main
from webhook.policy import Object

TODAY = datetime.now(UTC).date()
OLD = Day(date(2026, 11, 1), {("memory-limits", "denied"): 30}, {("shop", "denied"): 30})
DAYS = [OLD, Day(date(2026, 11, 8), {("memory-limits", "denied"): 12}, {("shop", "denied"): 12})]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    api.objects["deployments"], api.objects["configmaps"] = [], []

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["audit", "--kubeconfig", api.kubeconfig(tmp_path), *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def stored(text: str) -> Object:
    metadata = {"name": "forestall-audit-history", "namespace": "forestall-system"}
    return {"metadata": metadata, "binaryData": {"history": text}}


def test_text(api: FakeApi, run: Run) -> None:
    api.objects["configmaps"] = [stored(write_history(DAYS))]
    code, out, err = run("--history")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "2026-11-01      30 findings  30 denied",
        "2026-11-08      12 findings  12 denied",
        "by namespace on 2026-11-08",
        "  shop  12",
        "18 findings fewer than on 2026-11-01: 30 then, 12 now (memory-limits -18).",
    ]


def test_csv(api: FakeApi, run: Run) -> None:
    api.objects["configmaps"] = [stored(write_history(DAYS[:1]))]
    code, out, err = run("--history", "--output", "csv")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "cluster,day,policy,namespace,outcome,findings",
        ",2026-11-01,memory-limits,,denied,30",
        ",2026-11-01,,shop,denied,30",
    ]


def test_there_is_none(run: Run) -> None:
    assert run("--history") == (0, "no history yet: the auditor writes it once a day\n", "")


def test_one_that_cannot_be_read(api: FakeApi, run: Run) -> None:
    api.objects["configmaps"] = [stored("?")]
    code, _, err = run("--history")
    assert code == 2
    assert err.startswith("forestall: the history can't be read: ")


def test_it_has_two_formats(run: Run) -> None:
    code, out, err = run("--history", "--output", "json")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "Error: --history is printed as text or csv"


@pytest.mark.parametrize(
    "option", ["--namespace=shop", "--as-if=deny", "--group-by=team", "--strict", "--config=config.yaml"]
)
def test_it_judges_nothing(run: Run, option: str) -> None:
    code, out, err = run("--history", option)
    assert (code, out) == (2, "")
    assert "--history judges nothing: beside it --kubeconfig, --context and --output count alone" in err


def test_a_cluster_that_cannot_be_asked_is_named_and_the_others_are_shown(api: FakeApi, run: Run) -> None:
    api.objects["configmaps"] = [stored(write_history(DAYS[:1]))]
    code, out, err = run("--history", "--context=away", "--context=test")
    assert (code, out.splitlines()[:2]) == (2, ["Cluster test", "2026-11-01      30 findings  30 denied"])
    assert err.startswith("forestall: context away: cannot use kubeconfig ")
    assert err.endswith(": it has no context 'away'\n")


def test_an_audit_says_whether_it_is_better_than_a_week_ago(api: FakeApi, run: Run) -> None:
    then = TODAY - timedelta(days=7)
    api.objects["configmaps"] = [stored(write_history([OLD._replace(day=then)]))]
    web = workload("Deployment", container(**sized(None, None)))
    api.objects["deployments"] = [web | {"metadata": {**web["metadata"], "uid": "u"}}]
    line = f"29 findings fewer than on {then}: 30 then, 1 now (memory-limits -29)."
    assert line in run()[1].splitlines()
    api.objects["namespaces"] = [{"metadata": {"name": "shop"}}]
    assert line not in run("--namespace", "shop")[1].splitlines()


def test_an_audit_without_that_right_compares_nothing(api: FakeApi, run: Run) -> None:
    api.script("get", "configmaps", *[lambda request: Request.status(request, 403, "configmaps is forbidden")] * 9)
    _, out, _ = run()
    assert "than on" not in out
