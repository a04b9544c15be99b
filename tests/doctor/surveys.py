"""A healthy installation, as doctor sees it; a test changes one thing."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.builders import config, facts_of, workload
from webhook.certs import make_authority, read_certificates
from webhook.cluster.stored import request_of
from webhook.controller.endpoints import Endpoint, ServerEndpoint
from webhook.controller.registration import STAGES, configurations
from webhook.controller.rotation import service_names
from webhook.doctor.checks import diagnose
from webhook.doctor.survey import Slipped, StoredObjects, Survey, Templates
from webhook.errors import ClusterRefused
from webhook.objects.pods import POD_SPEC_PATHS
from webhook.policy import AdmissionRequest, Object, Stage

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SYSTEM = "forestall-system"
NAMES = service_names(SYSTEM)
DAY = timedelta(days=1)
CA = make_authority(3650 * DAY, NOW)
CHAIN, KEY = CA.issue(NAMES, 90 * DAY, NOW)
OTHER_CA = make_authority(3650 * DAY, NOW)
DEPLOYMENT = next(kind for kind in POD_SPEC_PATHS if kind.kind == "Deployment")
FORBIDDEN = ClusterRefused(403, "Forbidden", "it is forbidden")


def der(chain: bytes) -> bytes:
    return read_certificates(chain)[0].der


def encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


def registered(text: str = "", pem: bytes = CA.certificate.pem) -> dict[Stage, list[Object]]:
    made = configurations(config(text), encoded(pem), namespace=SYSTEM)
    return {stage: [json.loads(json.dumps(configuration))] for stage, configuration in zip(STAGES, made, strict=True)}


def replica(
    host: str = "10.0.0.1", node: str = "a", served: bytes | None = der(CHAIN), is_ready: bool = True
) -> ServerEndpoint:
    return ServerEndpoint(Endpoint(host, 8443), is_ready, node, served)


def healthy(**changed: Any) -> Survey:
    lease = {"spec": {"holderIdentity": "forestall-controller-1_uuid", "renewTime": "2026-11-21T11:59:58.5Z"}}
    survey = Survey(
        namespace=SYSTEM,
        now=NOW,
        api_time=NOW,
        version={"major": "1", "minor": "36", "gitVersion": "v1.36.3"},
        config=config(""),
        hooks=registered(),
        state=None,
        service={"spec": {"ports": [{"port": 443}]}},
        replicas=[replica(), replica("10.0.0.2", "b")],
        secret={"tls.crt": CHAIN, "tls.key": KEY},
        lease=lease,
        audit_lease=None,
        has_auditor=True,
        nodes=3,
        facts=facts_of([]),
        limit_ranges=[],
        templates=Templates(),
        slipped=Slipped(),
        missing_rights=[],
        bindings=[],
        limit_ranges_record=None,
        stored=StoredObjects(),
    )
    return replace(survey, **changed)


def said(name: str, survey: Survey) -> list[tuple[str, str]]:
    """Status and what was seen."""
    return [(check.status, check.seen) for check in diagnose(survey) if check.name == name]


def template(name: str, namespace: str, *containers: Object) -> AdmissionRequest:
    obj = workload("Deployment", *containers, name=name)
    return request_of(DEPLOYMENT, "v1", {**obj, "metadata": {"name": name, "namespace": namespace}})
