"""The check of the configuration."""

from __future__ import annotations

from tests.builders import config
from tests.doctor.surveys import healthy, said
from webhook.errors import BadConfig
from webhook.loader import load_policies


class TestConfiguration:
    def test_mode_and_policies(self) -> None:
        modes = (f"{name} {loaded.policy.mode}" for name, loaded in load_policies().items())
        assert said("configuration", healthy()) == [("ok", f"mode deny; {', '.join(modes)}")]

    def test_one_that_cannot_be_used(self) -> None:
        assert said("configuration", healthy(config=BadConfig("config.yaml:3: no policy x"))) == [
            ("fail", "config.yaml:3: no policy x")
        ]
        assert said("rules", healthy(config=BadConfig("no policy x"))) == [("unknown", "cannot tell: no policy x")]

    def test_expired_exemptions(self) -> None:
        text = "exemptions: [{policy: zonal-volumes, match: {namespaces: [a]}, owner: sre, reason: x, until: %s}]"
        assert said("configuration", healthy(config=config(text % "2026-11-20")))[0] == (
            "warn",
            "exemptions[0] (zonal-volumes, owner sre) expired on 2026-11-20",
        )
        assert [status for status, _ in said("configuration", healthy(config=config(text % "2026-11-21")))] == ["ok"]
