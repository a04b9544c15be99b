"""The running servers and controllers, and the nodes that they are on."""

from __future__ import annotations

from datetime import datetime, timedelta

from webhook.doctor.remark import Remark, Remarks
from webhook.doctor.survey import Survey, seen
from webhook.errors import ForestallError
from webhook.installation import NAME
from webhook.policy import Object

_LEASE_OVER = timedelta(minutes=1)


def check_controller(survey: Survey) -> Remarks:
    """Whether a controller leads: without one no certificate is renewed, no configuration followed, no probe sent."""
    lease = seen(survey.lease)
    advice = f"see why: kubectl -n {survey.namespace} logs deploy/forestall-controller"
    silent = silence_of(lease, survey)
    if lease is None or silent is None:
        yield Remark("fail", "no controller leads", advice)
    elif silent > _LEASE_OVER:
        yield Remark("fail", f"the controller has said nothing for {silent.total_seconds():.0f} s", advice)
    else:
        yield Remark("ok", f"{lease['spec']['holderIdentity'].partition('_')[0]} leads")


def silence_of(lease: Object | None, survey: Survey) -> timedelta | None:
    """How long ago the Lease's holder renewed it last; None if nobody holds it."""
    spec = (lease or {}).get("spec") or {}
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return None
    clock = survey.now if isinstance(survey.api_time, ForestallError) else survey.api_time
    return clock - datetime.fromisoformat(spec["renewTime"])


def check_endpoints(survey: Survey) -> Remarks:
    replicas = seen(survey.replicas)
    if seen(survey.service) is None:
        yield Remark("fail", f"there is no Service {survey.namespace}/{NAME}", "install the chart (again)")
        return
    ready = [endpoint for endpoint in replicas if endpoint.is_ready]
    text = f"{len(ready)} of {len(replicas)} endpoints of Service {NAME} are ready"
    pods = f"kubectl -n {survey.namespace} get pods,events"
    if not ready:
        yield Remark("fail", f"{text}: nobody answers", f"see why: {pods}")
    elif len(ready) < len(replicas):
        yield Remark("warn", text, f"see what keeps the others: {pods}")
    elif len(ready) == 1:
        yield Remark("warn", text, "run two replicas or more: nothing is judged while one restarts")
    else:
        yield Remark("ok", text)


def check_spread(survey: Survey) -> Remarks:
    ready = [endpoint for endpoint in seen(survey.replicas) if endpoint.is_ready]
    nodes = {endpoint.node for endpoint in ready}
    if not ready or "" in nodes:
        yield Remark("unknown", "cannot tell: no endpoint says on which node it is", "see whether replicas are ready")
    elif len(nodes) > 1:
        yield Remark("ok", f"{len(ready)} replicas on {len(nodes)} nodes")
    elif seen(survey.nodes) == 1:
        yield Remark("ok", f"{len(ready)} replicas on the only node")
    else:
        text = f"all ready replicas are on node {nodes.pop()}: they go when it goes"
        yield Remark("warn", text, "restart the Deployment, which spreads over nodes that have room")
