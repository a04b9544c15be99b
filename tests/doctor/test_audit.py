"""The check of the audit that is kept current."""

from __future__ import annotations

import pytest

from tests.doctor.surveys import NOW, healthy, said
from webhook.auditor.status import Status
from webhook.policy import Object

FRESH = int(NOW.timestamp()) - 60
WELL = Status(whole_at=FRESH, objects=12, findings=3, broken=1)
TEXT = "3 findings on 12 objects, 1 things broken now; everything was audited last at 2026-11-21 11:59:00 UTC"

NEITHER = "the cluster serves neither PolicyReports nor Reports"


def lease(status: Status | None = WELL, holder: str = "a", renewed: str = "11:59:58") -> Object:
    annotations = status.annotation() if status else {}
    spec = {"holderIdentity": holder, "renewTime": f"2026-11-21T{renewed}.5Z"}
    return {"metadata": {"annotations": annotations}, "spec": spec}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(
            None,
            [("ok", "no auditor has run (audit.enabled): `forestall audit` asks the cluster anew")],
            id="none-has-run",
        ),
        pytest.param(lease(), [("ok", TEXT)], id="well"),
        pytest.param(lease(holder=""), [("warn", "no auditor leads")], id="given-back"),
        pytest.param(
            lease(renewed="11:50:00"),
            [("warn", "no auditor leads: it has said nothing for 600 s")],
            id="silent",
        ),
        pytest.param(lease(None), [("warn", "the auditor that leads says nothing of its audit")], id="without-a-word"),
        pytest.param(
            lease(Status()), [("warn", "the first audit of everything has not ended yet")], id="the-first-under-way"
        ),
        pytest.param(
            lease(Status(whole_at=FRESH - 7 * 3600)),
            [("warn", "everything was audited last at 2026-11-21 04:59:00 UTC")],
            id="old",
        ),
        pytest.param(
            lease(Status(whole_at=FRESH, objects=12, findings=3, broken=1, stopped="the auditor makes no calls")),
            [("warn", "the auditor makes no calls"), ("ok", TEXT)],
            id="stopped",
        ),
        pytest.param(
            lease(Status(whole_at=FRESH, objects=12, findings=3, broken=1, unread={"pods": "no (403)"})),
            [("warn", "the auditor doesn't see pods: no (403)"), ("ok", TEXT)],
            id="a-kind-unseen",
        ),
        pytest.param(
            lease(Status(whole_at=FRESH, objects=12, findings=3, broken=1, reports="ConfigMap")),
            [
                ("ok", f"reports are ConfigMaps in namespace forestall-system: {NEITHER}"),
                ("ok", TEXT),
            ],
            id="reports-in-config-maps",
        ),
        pytest.param(
            lease(Status(whole_at=FRESH, objects=12, findings=3, broken=1, reports="PolicyReport")),
            [("ok", TEXT)],
            id="reports-as-they-should-be",
        ),
        pytest.param(
            lease(Status(whole_at=FRESH, objects=12, findings=3, broken=1, unreadable=2)),
            [("ok", TEXT.replace("objects", "objects, 2 that can't be read"))],
            id="objects-unreadable",
        ),
    ],
)
def test_audit(found: Object | None, expected: list[tuple[str, str]]) -> None:
    assert said("audit", healthy(audit_lease=found)) == expected


@pytest.mark.parametrize("found", [lease(), lease(holder="")], ids=["led-a-moment-ago", "given-back"])
def test_an_auditor_that_is_turned_off_is_not_missed(found: Object) -> None:
    text = "the auditor is turned off (audit.enabled); what it wrote stays until somebody deletes it"
    assert said("audit", healthy(audit_lease=found, has_auditor=False)) == [("ok", text)]
