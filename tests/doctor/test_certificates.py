"""The checks of what is presented: certificate, expiry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders import config
from tests.doctor.surveys import (
    CA,
    CHAIN,
    DAY,
    FORBIDDEN,
    NAMES,
    NOW,
    OTHER_CA,
    der,
    healthy,
    registered,
    replica,
    said,
)
from webhook.certs import make_authority, read_certificates
from webhook.controller.registration import STAGES

DIALLED = "as 2 of 2 endpoints present it"
BY_SECRET = "by Secret forestall-tls, since no endpoint can be reached from here"
ALL = "mutate.forestall.dev, probe.mutate.forestall.dev, probe.validate.forestall.dev, validate.forestall.dev"
UNREACHABLE = [replica(served=None), replica(served=None)]


class TestCertificate:
    def test_dialled(self) -> None:
        assert said("certificate", healthy()) == [("ok", f"4 webhooks trust it ({DIALLED})")]
        assert said("certificate", healthy(secret=FORBIDDEN)) == [("ok", f"4 webhooks trust it ({DIALLED})")]

    def test_by_the_secret_where_nobody_can_be_reached(self) -> None:
        assert said("certificate", healthy(replicas=UNREACHABLE)) == [("ok", f"4 webhooks trust it ({BY_SECRET})")]
        assert said("certificate", healthy(replicas=UNREACHABLE, secret=FORBIDDEN))[0][0] == "unknown"
        assert said("certificate", healthy(replicas=UNREACHABLE, secret=None)) == [
            ("fail", f"{BY_SECRET}: no certificate")
        ]

    def test_some_can_be_reached(self) -> None:
        replicas = [replica(), replica("b", served=None)]
        assert said("certificate", healthy(replicas=replicas)) == [
            ("ok", "4 webhooks trust it (as 1 of 2 endpoints present it)")
        ]

    def test_another_ca(self) -> None:
        hooks = registered(pem=OTHER_CA.certificate.pem)
        text = f"caBundle of {ALL} doesn't trust what is presented ({DIALLED})"
        assert said("certificate", healthy(hooks=hooks)) == [("fail", text)]

    def test_both_cas_while_rotating(self) -> None:
        hooks = registered(pem=OTHER_CA.certificate.pem + CA.certificate.pem)
        replicas = [replica(), replica("b", served=der(OTHER_CA.issue(NAMES, DAY, NOW)[0]))]
        assert [status for status, _ in said("certificate", healthy(hooks=hooks, replicas=replicas))] == ["ok"]

    def test_one_replica_has_another(self) -> None:
        replicas = [replica(), replica("b", served=der(OTHER_CA.issue(NAMES, DAY, NOW)[0]))]
        assert [status for status, _ in said("certificate", healthy(replicas=replicas))] == ["fail"]

    def test_no_bundle(self) -> None:
        hooks = registered()
        del hooks["validate"][0]["webhooks"][0]["clientConfig"]["caBundle"]
        text = f"caBundle of validate.forestall.dev is empty: it can't trust what is presented ({DIALLED})"
        assert said("certificate", healthy(hooks=hooks)) == [("fail", text)]

    def test_another_name(self) -> None:
        served = der(CA.issue(["forestall.elsewhere.svc"], DAY, NOW)[0])
        text = f"{DIALLED}: a certificate valid 2026-11-21 11:00 to 2026-11-22 12:00 UTC for forestall.elsewhere.svc"
        assert said("certificate", healthy(replicas=[replica(served=served)] * 2)) == [("fail", text)]

    def test_expired(self) -> None:
        assert [status for status, _ in said("certificate", healthy(now=NOW + 91 * DAY))] == ["fail"]

    def test_the_very_certificate_in_the_bundle(self) -> None:
        hooks = registered(pem=read_certificates(CHAIN)[0].pem)
        assert [status for status, _ in said("certificate", healthy(hooks=hooks))] == ["ok"]

    def test_a_ca_that_has_ended(self) -> None:
        old = make_authority(DAY, NOW)
        # The API server looks at the whole chain.
        served = der(old.issue(NAMES, DAY, NOW)[0])
        survey = healthy(hooks=registered(pem=old.certificate.pem), replicas=[replica(served=served)] * 2)
        assert [status for status, _ in said("certificate", survey)] == ["ok"]
        later = replace(survey, now=NOW + 2 * DAY)
        assert [text.partition(" ")[0] for _, text in said("certificate", later)] == ["as", "caBundle"]

    def test_nobody_to_trust_it(self) -> None:
        text = f"cannot tell whom it is trusted by: no webhook is registered ({DIALLED})"
        assert said("certificate", healthy(hooks={key: [] for key in STAGES})) == [("unknown", text)]


class TestExpiry:
    @pytest.mark.parametrize(
        ("days", "serving"),
        [
            (0, ("ok", "the serving certificate ends in 90 days, on 2027-02-19")),
            (67, ("ok", "the serving certificate ends in 23 days, on 2027-02-19")),
            (68, ("warn", "the serving certificate ends in 22 days, on 2027-02-19")),
            (86, ("fail", "the serving certificate ends in 4 days, on 2027-02-19")),
            (89, ("fail", "the serving certificate ends in 24 hours, on 2027-02-19")),
            (90, ("fail", "the serving certificate ended on 2027-02-19")),
        ],
    )
    def test_days_left(self, days: int, serving: tuple[str, str]) -> None:
        assert said("expiry", healthy(now=NOW + days * DAY))[0] == serving

    def test_the_ca(self) -> None:
        assert said("expiry", healthy())[1] == ("ok", "its CA ends in 3650 days, on 2036-11-18")

    def test_a_ca_that_nobody_relies_on_may_end(self) -> None:
        old = make_authority(DAY, NOW)
        hooks = registered(pem=old.certificate.pem + CA.certificate.pem)
        assert [status for status, _ in said("expiry", healthy(hooks=hooks, now=NOW + 2 * DAY))] == ["ok", "ok"]

    def test_who_provides_a_certificate_renews_it_when_he_likes(self) -> None:
        survey = healthy(now=NOW + 2800 * DAY, replicas=[replica(served=der(CA.issue(NAMES, 3650 * DAY, NOW)[0]))] * 2)
        assert [status for status, _ in said("expiry", survey)] == ["warn", "warn"]
        provided = replace(survey, config=config("certificates: {mode: provided}"))
        assert [status for status, _ in said("expiry", provided)] == ["ok", "ok"]
