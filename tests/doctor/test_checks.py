"""The remarks of doctor on a healthy installation and on an unreadable one, and their number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders import kubeconfig
from tests.doctor.surveys import FORBIDDEN, healthy, said
from webhook.cli import main
from webhook.controller.registration import STAGES
from webhook.doctor.checks import CHECKS, _run, diagnose, exit_code
from webhook.doctor.remark import Check, Remark
from webhook.doctor.survey import Survey
from webhook.errors import BadConfig, FactsUnavailable


def test_a_healthy_installation_needs_nothing() -> None:
    checks = diagnose(healthy())
    assert [check for check in checks if check.status != "ok"] == []
    assert {check.name for check in checks} == set(CHECKS)
    assert exit_code(checks) == 0


# What each check cannot do without.
NEEDS = {
    "configuration": ["config"],
    "controller": ["lease"],
    "rights": ["missing_rights"],
    "hooks": ["hooks", "service"],
    "rules": ["config", "hooks", "service"],
    "endpoints": ["replicas", "service"],
    "spread": ["replicas"],
    "certificate": ["replicas", "hooks"],
    "expiry": ["replicas", "hooks"],
    "gaps": ["state", "slipped"],
    "timeouts": ["hooks"],
    "other-hooks": ["hooks"],
    "order": ["hooks"],
    "limit-ranges": ["config", "facts", "limit_ranges", "limit_ranges_record", "templates"],
    "operators": ["config", "stored"],
    "objects": ["config", "facts"],
    "audit": ["audit_lease"],
    "api-server": ["version"],
    "clock": ["api_time"],
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in NEEDS.items() for field in fields])
def test_what_cannot_be_read_is_never_ok(name: str, field: str) -> None:
    unread: Any = dict.fromkeys(STAGES, FORBIDDEN) if field == "hooks" else FORBIDDEN
    assert said(name, healthy(**{field: unread})) == [("unknown", "cannot tell: it is forbidden (403)")]
    assert exit_code([Check("x", "unknown", "", "")]) == 1


def test_every_check_needs_something() -> None:
    assert NEEDS.keys() == CHECKS.keys()


def test_what_is_not_installed_is_told_in_one_line() -> None:
    nothing: Any = dict.fromkeys(("service", "lease", "state", "secret"))
    survey = healthy(hooks={stage: [] for stage in STAGES}, config=BadConfig("there is no ConfigMap"), **nothing)
    text = "nothing of Forestall is in namespace forestall-system"
    assert diagnose(survey) == [Check("installation", "fail", text, "install it, or name its namespace: --namespace")]
    assert len(diagnose(replace(survey, lease=FORBIDDEN))) > 1


def test_the_page_is_bounded() -> None:
    def check(_: Survey) -> Any:
        yield from [Remark("warn", str(number)) for number in range(11)]
        yield Remark("fail", "the worst")

    found = _run(check, healthy())
    assert len(found) == 11
    assert found[-1] == Remark("fail", "and 2 more", "see to the first ones, and ask again")


def test_what_was_found_before_a_check_failed_stays() -> None:
    def check(_: Survey) -> Any:
        yield Remark("fail", "found")
        raise FactsUnavailable("then nothing")

    assert [remark.status for remark in _run(check, healthy())] == ["fail", "unknown"]


def test_no_cluster_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig({"server": "http://127.0.0.1:1"}))
    assert main(["doctor", "--kubeconfig", str(file)]) == 2
    assert "no answer from http://127.0.0.1:1" in capsys.readouterr().err
