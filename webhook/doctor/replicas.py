"""What runs of us, and where: servers and controllers."""

from __future__ import annotations

from datetime import datetime, timedelta

from webhook.controller.hooks import NAME
from webhook.doctor.finding import Finding, Findings
from webhook.doctor.survey import Survey, seen
from webhook.errors import ForestallError

_LEASE_OVER = timedelta(minutes=1)


def check_controller(survey: Survey) -> Findings:
    """Whether one leads: without, nothing is renewed, followed or probed."""
    lease = (seen(survey.lease) or {}).get("spec") or {}
    advice = f"see why: kubectl -n {survey.namespace} logs deploy/forestall-controller"
    if not lease.get("holderIdentity") or not lease.get("renewTime"):
        yield Finding("fail", "no controller leads", advice)
        return
    clock = survey.now if isinstance(survey.api_time, ForestallError) else survey.api_time
    silent = clock - datetime.fromisoformat(lease["renewTime"])
    if silent > _LEASE_OVER:
        yield Finding("fail", f"the controller has said nothing for {silent.total_seconds():.0f} s", advice)
    else:
        yield Finding("ok", f"{lease['holderIdentity'].partition('_')[0]} leads")


def check_endpoints(survey: Survey) -> Findings:
    replicas = seen(survey.replicas)
    if seen(survey.service) is None:
        yield Finding("fail", f"there is no Service {survey.namespace}/{NAME}", "install the chart (again)")
        return
    ready = [each for each in replicas if each.is_ready]
    text = f"{len(ready)} of {len(replicas)} endpoints of Service {NAME} are ready"
    pods = f"kubectl -n {survey.namespace} get pods,events"
    if not ready:
        yield Finding("fail", f"{text}: nobody answers", f"see why: {pods}")
    elif len(ready) < len(replicas):
        yield Finding("warn", text, f"see what keeps the others: {pods}")
    elif len(ready) == 1:
        yield Finding("warn", text, "run two replicas or more: nothing is judged while one restarts")
    else:
        yield Finding("ok", text)


def check_spread(survey: Survey) -> Findings:
    ready = [each for each in seen(survey.replicas) if each.is_ready]
    nodes = {each.node for each in ready}
    if not ready or "" in nodes:
        yield Finding("unknown", "cannot tell: no endpoint says on which node it is", "see whether replicas are ready")
    elif len(nodes) > 1:
        yield Finding("ok", f"{len(ready)} replicas on {len(nodes)} nodes")
    elif seen(survey.nodes) == 1:
        yield Finding("ok", f"{len(ready)} replicas on the only node")
    else:
        text = f"all ready replicas are on node {nodes.pop()}: they go when it goes"
        yield Finding("warn", text, "restart the Deployment, which spreads over nodes that have room")
