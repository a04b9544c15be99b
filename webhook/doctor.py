"""`forestall doctor`: one page of what is right and wrong with an installation, and what to do about it.

Each check is a function from a Survey to findings. What could not be read is "unknown", never "ok".
"""

from __future__ import annotations

import base64
import json
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from webhook.certs import Certificate, parse_certificate, read_certificates
from webhook.config import Config
from webhook.engine import decide, iter_expired
from webhook.errors import BadConfig, FactsUnavailable, ForestallError
from webhook.facts import ClusterFacts, LimitRange
from webhook.fixes import sets_of
from webhook.gaps import Gap
from webhook.hooks import DELETED, NAME, ON_PURPOSE, STAGES, Stage, configurations, read_state
from webhook.limitranger import read_items, refusals
from webhook.pods import read_workload
from webhook.policy import AdmissionRequest, Object, Verdict
from webhook.quantities import format_memory, parse_memory
from webhook.rotation import SECRET, service_names
from webhook.survey import CONFIG, RECENT, Survey, concerns, recent_gaps, seen

SCHEMA = "forestall.dev/doctor/v1"

Status = Literal["ok", "warn", "fail", "unknown"]
Style = Callable[[str, str], str]

REQUEST_SECONDS = 34
"""That the API server gives a write in all, admission included (apiserver pkg/endpoints/handlers/rest.go)."""
_OLDEST, _NEWEST = 29, 36
_FEATURES = {"pods/resize": 33, "pod-level resources": 34}
"""Since which minor version it is on unless switched off."""
_SKEW = timedelta(seconds=10)
_MUCH_SKEW = timedelta(minutes=5)
_FRESH = timedelta(days=1)
_LEASE_OVER = timedelta(minutes=1)
_SHOWN = 10


class Finding(NamedTuple):
    status: Status
    seen: str
    todo: str = ""


class Check(msgspec.Struct, frozen=True):
    """One finding under the name of its check, which may have several."""

    name: str
    status: Status
    seen: str
    todo: str


Findings = Iterator[Finding]


def diagnose(survey: Survey) -> list[Check]:
    """Every check, at least one entry each."""
    return [Check(name, *finding) for name, check in CHECKS.items() for finding in _run(check, survey)]


def _run(check: Callable[[Survey], Findings], survey: Survey) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check(survey))
    except ForestallError as error:
        found.append(_cannot_tell(error))
    if len(found) > _SHOWN:
        worst = max((each.status for each in found[_SHOWN:]), key=_STATUSES.index)
        found[_SHOWN:] = [Finding(worst, f"and {len(found) - _SHOWN} more", "see to the first ones, and ask again")]
    return found


_STATUSES: tuple[Status, ...] = ("ok", "unknown", "warn", "fail")


def _cannot_tell(error: ForestallError) -> Finding:
    advice = "see configuration" if isinstance(error, BadConfig) else "ask as somebody who may read that"
    return Finding("unknown", f"cannot tell: {error}", advice)


def exit_code(checks: Iterable[Check]) -> int:
    """1 when something needs doing, be it to have a look with more rights."""
    return int(any(check.status != "ok" for check in checks))


def check_configuration(survey: Survey) -> Findings:
    try:
        config = seen(survey.config)
    except BadConfig as error:
        yield Finding("fail", str(error), f"mend it: servers and controller go on with the last good one ({CONFIG})")
        return
    for index, exemption in iter_expired(config, survey.now.date()):
        text = f"exemptions[{index}] ({exemption.policy}, owner {exemption.owner}) expired on {exemption.until}"
        yield Finding("warn", text, "remove it, or agree on a new date with its owner")
    active = [f"{each.policy.id} {each.mode}" for each in config.policies.values() if each.mode != "off"]
    yield Finding("ok", f"mode {config.mode}; {', '.join(active) or 'no policy is on'}")


def check_hooks(survey: Survey) -> Findings:
    """Whether the API server asks us, and at the right door."""
    port = _port(survey)
    for stage, kind in STAGES.items():
        registered = _ours(survey, stage)
        if registered is None:
            yield _missing(survey, stage)
            continue
        service = {"namespace": survey.namespace, "name": NAME, "path": f"/{stage}", "port": port}
        wrong = [
            each["name"] for each in registered.get("webhooks") or () if each["clientConfig"].get("service") != service
        ]
        if wrong:
            text = f"{kind} {NAME}: {', '.join(wrong)} doesn't lead to Service {survey.namespace}/{NAME}, port {port}"
            yield Finding("fail", text, "see why the controller doesn't set it right: its log")
        else:
            yield Finding("ok", f"{kind} {NAME} leads to Service {survey.namespace}/{NAME}")


def _missing(survey: Survey, stage: Stage) -> Finding:
    off = read_state(seen(survey.state)).off.get(stage, "")
    text = f"{STAGES[stage]} {NAME} is not there"
    if off in (ON_PURPOSE, DELETED):
        return Finding("fail", f"{text}: it was {off}, nothing is asked", "switch it on: forestall hooks on")
    advice = f"see what the controller waits for: kubectl -n {survey.namespace} logs deploy/forestall-controller"
    return Finding("fail", f"{text}: nothing is asked", advice)


def _ours(survey: Survey, stage: Stage) -> Object | None:
    return next((each for each in seen(survey.hooks[stage]) if each["metadata"]["name"] == NAME), None)


def _port(survey: Survey) -> int:
    ports = ((seen(survey.service) or {}).get("spec") or {}).get("ports") or ({"port": 443},)
    return int(ports[0]["port"])


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


def check_certificate(survey: Survey) -> Findings:
    """Whether the API server's calls will trust what they meet."""
    leaves, between, source = _presented(survey)
    if not leaves:
        yield Finding("fail", f"{source}: no certificate", "see the controller's log; with certManager its Certificate")
        return
    names = set(service_names(survey.namespace)[:1])
    webhooks = [each for stage in STAGES if (one := _ours(survey, stage)) for each in one.get("webhooks") or ()]
    bundles: dict[str, list[str]] = defaultdict(list)
    for each in webhooks:
        bundles[each["clientConfig"].get("caBundle") or ""].append(each["name"])
    is_fine = True
    for leaf in dict.fromkeys(leaves):
        if not leaf.is_valid(survey.now) or not leaf.names >= names:
            is_fine = False
            what = f"valid {leaf.begins:%Y-%m-%d %H:%M} to {leaf.ends:%Y-%m-%d %H:%M} UTC for {_list(leaf.names)}"
            yield Finding("fail", f"{source}: a certificate {what}", f"renew it, for {_list(names)}")
        for bundle, whose in bundles.items():
            roots = [each for each in _decode(bundle) if each.is_valid(survey.now)]
            if not _is_trusted(leaf, roots, between):
                is_fine = False
                wrong = "doesn't trust" if bundle else "is empty: it can't trust"
                text = f"caBundle of {_list(whose)} {wrong} what is presented ({source})"
                yield Finding("fail", text, "see why the controller doesn't set it right: its log")
    if is_fine and not webhooks:
        yield Finding("unknown", f"cannot tell whom it is trusted by: no webhook is registered ({source})", "see hooks")
    elif is_fine:
        yield Finding("ok", f"{len(webhooks)} webhooks trust it ({source})")


def _presented(survey: Survey) -> tuple[list[Certificate], Sequence[Certificate], str]:
    """The certificates that servers present, what stands between them and a CA, and how we know."""
    replicas = seen(survey.replicas)
    chain = () if isinstance(survey.secret, ForestallError) else _chain(survey.secret)
    served = [each.served for each in replicas if each.served is not None]
    if served:
        leaves = [leaf for der in served if (leaf := parse_certificate(der)) is not None]
        return leaves, chain[1:], f"as {len(served)} of {len(replicas)} endpoints present it"
    chain = _chain(seen(survey.secret))
    return list(chain[:1]), chain[1:], f"by Secret {SECRET}, since no endpoint can be reached from here"


def _chain(secret: Mapping[str, bytes] | None) -> Sequence[Certificate]:
    return read_certificates((secret or {}).get("tls.crt", b""))


def _decode(bundle: str) -> tuple[Certificate, ...]:
    return read_certificates(base64.b64decode(bundle))


def _is_trusted(leaf: Certificate, roots: Collection[Certificate], between: Sequence[Certificate]) -> bool:
    # As Go has it, what is in the bundle itself is trusted, a CA or not.
    if leaf in roots or any(root.has_issued(leaf) for root in roots):
        return True
    return any(
        issuer.has_issued(leaf) and _is_trusted(issuer, roots, [each for each in between if each != issuer])
        for issuer in between
    )


def check_expiry(survey: Survey) -> Findings:
    """Days left; our own are renewed when a third of their life is left, so a quarter is late."""
    leaves, between, source = _presented(survey)
    bundles = {
        each["clientConfig"].get("caBundle") or ""
        for stage in STAGES
        if (one := _ours(survey, stage))
        for each in one.get("webhooks") or ()
    }
    roots = dict.fromkeys(root for bundle in bundles for root in _decode(bundle))
    # Of several only those that somebody relies on.
    used = [each for each in roots if any(_is_trusted(leaf, [each], between) for leaf in leaves)]
    if not leaves:
        yield Finding("fail", f"{source}: no certificate", "see certificate")
    for what, certificates in (("the serving certificate", dict.fromkeys(leaves)), ("its CA", dict.fromkeys(used))):
        for each in certificates:
            yield _expiry(what, each, survey)


def _expiry(what: str, certificate: Certificate, survey: Survey) -> Finding:
    left, life = certificate.ends - survey.now, certificate.ends - certificate.begins
    is_own = isinstance(survey.config, Config) and survey.config.certificates.mode == "selfManaged"
    late = life / 4 if is_own else min(life / 4, timedelta(days=30))
    text = f"{what} ends in {_show(left)}, on {certificate.ends:%Y-%m-%d}"
    if left <= timedelta(0):
        return Finding("fail", f"{what} ended on {certificate.ends:%Y-%m-%d}", _RENEW)
    if left < life / 20:
        return Finding("fail", text, _RENEW)
    return Finding("warn", text, _RENEW) if left < late else Finding("ok", text)


_RENEW = "see why it isn't renewed: the controller's log, cert-manager's Certificate, or whoever provides it"


def _show(span: timedelta) -> str:
    return f"{span.days} days" if span.days >= 2 else f"{span.total_seconds() / 3600:.3g} hours"


def check_timeouts(survey: Survey) -> Findings:
    """Mutating webhooks are called one after the other, and share the time that a request has."""
    calls = [
        each
        for config in seen(survey.hooks["mutate"])
        for each in config.get("webhooks") or ()
        # Which is asked about one labelled object of ours alone.
        if (config["metadata"]["name"], each["name"]) != (NAME, "probe.mutate.forestall.dev")
    ]
    total = sum(map(_timeout, calls))
    text = f"mutating webhooks in the cluster: {len(calls)}, which may take {total} s together"
    triples = {triple for each in calls for triple in _asked(each)}
    sums = {triple: sum(_timeout(each) for each in calls if _covers(_asked(each), triple)) for triple in triples}
    worst = max(sums, key=lambda triple: (sums[triple], triple), default=None)
    if worst is None or sums[worst] < REQUEST_SECONDS:
        most = f", {sums[worst]} s of one request's {REQUEST_SECONDS} s" if worst else ""
        yield Finding("ok", text + most)
        return
    asked = sorted((each for each in calls if _covers(_asked(each), worst)), key=_timeout, reverse=True)
    slowest = ", ".join(f"{each['name']} {_timeout(each)} s" for each in asked[:5])
    text += f", and {sums[worst]} s of the {REQUEST_SECONDS} s that one {worst[2]} of {_show_resource(worst)} has"
    advice = f"give the longest ones less than their timeoutSeconds, or fewer resources: {slowest}"
    yield Finding("warn", f"{text}: it fails if they hang, whatever their failurePolicy", advice)


def _timeout(webhook: Object) -> int:
    return int(webhook.get("timeoutSeconds") or 10)


_Asked = tuple[str, str, str]
"""Group, resource, operation; "*" is all."""


def _asked(webhook: Object) -> set[_Asked]:
    return {
        (group, resource, operation)
        for rule in webhook.get("rules") or ()
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for operation in rule.get("operations") or ()
    }


def _covers(asked: Iterable[_Asked], wanted: _Asked) -> bool:
    group, resource, operation = wanted
    return any(
        each[0] in ("*", group) and _covers_resource(each[1], resource) and each[2] in ("*", operation)
        for each in asked
    )


def _covers_resource(pattern: str, resource: str) -> bool:
    """ "pods/*" is the pod and its subresources, "*" no subresource, "*/*" everything (the API's reference, Rule)."""
    kind, _, part = resource.partition("/")
    wanted_kind, slash, wanted_part = pattern.partition("/")
    if wanted_kind not in ("*", kind):
        return False
    return wanted_part in ("*", part) if slash else not part


def _show_resource(asked: _Asked) -> str:
    group, resource, _ = asked
    return f"{resource}.{group}" if group else resource


def check_other_hooks(survey: Survey) -> Findings:
    """Webhooks of others that can hold up everything, us included."""
    found = 0
    for stage, kind in STAGES.items():
        for config in seen(survey.hooks[stage]):
            for each in config.get("webhooks") or ():
                if config["metadata"]["name"] != NAME and _holds_up_everything(each):
                    found += 1
                    text = f"{kind} {config['metadata']['name']}: {each['name']} is asked about everything and fails "
                    text += "closed" if _spares(each, "kube-system") else "closed, in kube-system as well"
                    advice = f"narrow its rules, or exclude kube-system and {survey.namespace} in its namespaceSelector"
                    yield Finding("warn", text, advice)
    if not found:
        yield Finding("ok", "no other webhook is asked about everything and fails closed")


def _holds_up_everything(webhook: Object) -> bool:
    if webhook.get("failurePolicy") == "Ignore" or webhook.get("matchConditions") or _selects(webhook):
        return False
    asked = _asked(webhook)
    return any(_covers(asked, ("*", "*", operation)) for operation in ("CREATE", "UPDATE"))


def _selects(webhook: Object) -> bool:
    """Whether objects have to carry something for it to be asked."""
    selectors = (webhook.get("objectSelector") or {}, webhook.get("namespaceSelector") or {})
    return any(
        bool(selector.get("matchLabels"))
        or any(each["operator"] in ("In", "Exists") for each in selector.get("matchExpressions") or ())
        for selector in selectors
    )


def _spares(webhook: Object, namespace: str) -> bool:
    return any(
        each["key"] == "kubernetes.io/metadata.name"
        and each["operator"] == "NotIn"
        and namespace in (each.get("values") or ())
        for each in (webhook.get("namespaceSelector") or {}).get("matchExpressions") or ()
    )


def check_rules(survey: Survey) -> Findings:
    """Whether the API server asks what the configuration needs, as it needs it."""
    wanted = configurations(seen(survey.config), "", namespace=survey.namespace, port=_port(survey))
    for stage, needed in zip(STAGES, wanted, strict=True):
        registered = _ours(survey, stage)
        if registered is None:
            yield Finding("fail", f"{STAGES[stage]} {NAME} is not there: nothing is asked", "see hooks")
        else:
            problems = list(_compare(needed["webhooks"], registered.get("webhooks") or [], STAGES[stage]))
            yield from problems or [Finding("ok", f"{STAGES[stage]} {NAME} asks what the configuration needs")]


def _compare(needed: Sequence[Object], registered: Sequence[Object], kind: str) -> Findings:
    there = {each["name"]: each for each in registered}
    wanted = {each["name"]: each for each in needed}
    for name in sorted({*there, *wanted}):
        has, needs = _asked(there.get(name, {})), _asked(wanted.get(name, {}))
        if missing := sorted(each for each in needs if not _covers(has, each)):
            text = f"{kind} {NAME}: {name} isn't asked about {_list(map(_show_asked, missing))}"
            yield Finding("fail", text, _FOLLOW)
        if further := sorted(each for each in has if not _covers(needs, each)):
            text = f"{kind} {NAME}: {name} is asked about {_list(map(_show_asked, further))}, which no policy judges"
            yield Finding("warn", text, _FOLLOW)
        if name in there and name in wanted and (fields := _differing(there[name], wanted[name])):
            yield Finding("fail", f"{kind} {NAME}: {name} differs in {_list(fields)}", _FOLLOW)


_FOLLOW = "see why the controller doesn't follow the configuration: its log, forestall_controller_errors_total"


def _show_asked(asked: _Asked) -> str:
    return f"{asked[2]} of {_show_resource(asked)}"


def _differing(registered: Object, wanted: Object) -> list[str]:
    """Fields other than those that are compared elsewhere; empty and absent are the same."""
    elsewhere = ("name", "clientConfig", "rules")
    # Nothing fails closed before it has a caBundle.
    has_bundle = bool(registered["clientConfig"].get("caBundle"))
    return [
        field
        for field in wanted
        if field not in elsewhere
        and (registered.get(field) or None) != (wanted[field] or None)
        and (field != "failurePolicy" or has_bundle)
    ]


def check_api_server(survey: Survey) -> Findings:
    version = seen(survey.version)
    text = str(version.get("gitVersion") or "an unknown version")
    minor = re.match(r"\d+", str(version.get("minor") or ""))
    if str(version.get("major")) != "1" or minor is None:
        yield Finding("unknown", f"cannot tell what {text} can do", f"Forestall is made for 1.{_OLDEST} to 1.{_NEWEST}")
        return
    number = int(minor.group())
    lacks = [f"{feature} (on from 1.{since})" for feature, since in _FEATURES.items() if number < since]
    text += f", without {' and '.join(lacks)}" if lacks else f", with {' and '.join(_FEATURES)}"
    if number < _OLDEST:
        yield Finding("fail", text, f"upgrade the cluster: Forestall needs 1.{_OLDEST}")
    elif number > _NEWEST:
        yield Finding("warn", text, f"look for a newer Forestall: this one is tested up to 1.{_NEWEST}")
    else:
        yield Finding("ok", text)


def check_clock(survey: Survey) -> Findings:
    # The Date says whole seconds, cut off.
    skew = survey.now - seen(survey.api_time) - timedelta(seconds=0.5)
    ahead = "ahead of" if skew > timedelta(0) else "behind"
    if abs(skew) <= _SKEW:
        yield Finding("ok", "this machine's clock and the API server's agree")
    else:
        text = f"this machine's clock is {_show_skew(abs(skew))} {ahead} the API server's"
        yield Finding(
            "fail" if abs(skew) > _MUCH_SKEW else "warn", text, "set the clock of the one that is wrong (NTP)"
        )


def _show_skew(skew: timedelta) -> str:
    return f"{skew.total_seconds():.0f} s"


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


def check_gaps(survey: Survey) -> Findings:
    """Times in which nothing was asked, and what came in meanwhile."""
    gaps = recent_gaps(seen(survey.state), survey.now)
    for gap in gaps:
        if gap.ended is None:
            advice = "see hooks" if gap.reason == "hooks off" else "see endpoints, certificate and hooks"
            yield Finding("fail", f"a gap is open: {gap}", advice)
    fresh = [gap for gap in gaps if gap.ended and gap.reason == "no answer" and survey.now - gap.ended < _FRESH]
    for gap in reversed(fresh):
        advice = f"find out why: kubectl -n {survey.namespace} get events, and the servers' logs of that time"
        yield Finding("warn", f"a gap of {_show_length(gap)} at least: {gap}", advice)
    slipped = seen(survey.slipped)
    for resource, why in slipped.unread.items():
        yield _cannot_tell(FactsUnavailable(f"which {resource} came in: {why}"))
    for each in slipped.violating:
        verdict = concerns(each.decision)[0]
        what = f"{each.request.kind} {'/'.join(filter(None, (each.request.namespace, each.request.name)))}"
        text = f"{what} was admitted unchecked ({each.how} {each.at:%Y-%m-%d %H:%M:%S} UTC): {verdict.policy}"
        yield Finding("warn", text, verdict.violation.message)
    if not gaps:
        yield Finding("ok", f"none in the last {RECENT.days} days")
    elif not slipped.violating and not slipped.unread:
        text = f"{len(gaps)} in the last {RECENT.days} days; of the {slipped.count} objects that were admitted "
        yield Finding("ok", f"{text}unchecked none violates a policy")


def _show_length(gap: Gap) -> str:
    assert gap.ended  # noqa: S101 - for types
    return f"{(gap.ended - gap.began).total_seconds():.0f} s"


def check_limit_ranges(survey: Survey) -> Findings:
    """LimitRanges that refuse every pod, or that stand against what policies ask for."""
    config, facts, templates = seen(survey.config), seen(survey.facts), seen(survey.templates)
    by_namespace: dict[str, list[Object]] = defaultdict(list)
    for each in seen(survey.limit_ranges):
        by_namespace[each["metadata"]["namespace"]].append(each)
    found = 0
    for resource, why in templates.unread.items():
        found += 1
        yield _cannot_tell(FactsUnavailable(f"whether LimitRanges suit {resource}: {why}"))
    for namespace, limit_ranges in sorted(by_namespace.items()):
        plain = _plain(namespace)
        names = _list(each["metadata"]["name"] for each in limit_ranges)
        items = [item for each in limit_ranges for item in read_items(each.get("spec") or {})]
        workload = read_workload(plain)
        for refusal in refusals(workload, items)[:1] if workload else ():
            found += 1
            text = (
                f"LimitRange {names} of {namespace}: pods without resources of their own are refused: {refusal.wrong}"
            )
            yield Finding("fail", text, f"change its default or its bounds of {refusal.resource}")
        requests = [plain, *(each for each in templates.requests if each.namespace == namespace)]
        for finding in _against_policies(requests, config, facts, survey.now.date()):
            found += 1
            yield finding
    if not found:
        yield Finding("ok", f"LimitRanges of {len(by_namespace)} namespaces contradict no policy")


def _plain(namespace: str) -> AdmissionRequest:
    """A workload of which nothing is said."""
    template = {"spec": {"containers": [{"name": "any", "image": "any:1"}]}}
    obj = {"metadata": {"name": "any", "namespace": namespace}, "spec": {"template": template}}
    return AdmissionRequest("CREATE", "apps", "v1", "Deployment", namespace, "any", obj)


def _against_policies(
    requests: Sequence[AdmissionRequest], config: Config, facts: ClusterFacts, today: date
) -> Findings:
    """Where a LimitRange gives or allows less memory than a policy would set if there were none; each once."""
    ranges = [each for each in facts.limit_ranges.get(requests[0].namespace, ()) if each.type == "Container"]
    without = replace(facts, limit_ranges={})
    told = set()
    for request in requests:
        for verdict in concerns(decide(request, without, config, today=today)):
            for path, wanted in _wanted_limits(verdict):
                if (against := _against(path, wanted, request, ranges)) and (verdict.policy, against) not in told:
                    told.add((verdict.policy, against))
                    advice = f"raise it in the LimitRange, or lower it in the parameters of {verdict.policy}"
                    yield Finding("warn", f"{against}, where {verdict.policy} asks for {format_memory(wanted)}", advice)


def _wanted_limits(verdict: Verdict) -> Iterator[tuple[str, int]]:
    for each in sets_of(verdict.violation):
        if each.path.endswith("limits.memory"):
            yield each.path, parse_memory(each.value)


def _against(path: str, wanted: int, request: AdmissionRequest, ranges: Sequence[LimitRange]) -> str:
    workload = read_workload(request)
    container = (
        next((each for each in workload.containers if each.memory_path("limits") == path), None) if workload else None
    )
    if container is None:
        return ""
    whom = "containers" if request.name == "any" else f"container {container.name!r} of {request.kind} {request.name}"
    for each in ranges:
        where = f"LimitRange {each.name} of {each.namespace}"
        if each.max is not None and each.max < wanted:
            return f"{where} allows {whom} {format_memory(each.max)} at most"
        if each.default and each.default < wanted and container.memory("limits") is None:
            return f"{where} gives {whom} {format_memory(each.default)}"
    return ""


def _list(texts: Iterable[str]) -> str:
    shown = sorted(texts)
    more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
    return ", ".join(shown[:6]) + more if shown else "nothing"


CHECKS: Mapping[str, Callable[[Survey], Findings]] = {
    "configuration": check_configuration,
    "controller": check_controller,
    "hooks": check_hooks,
    "rules": check_rules,
    "endpoints": check_endpoints,
    "spread": check_spread,
    "certificate": check_certificate,
    "expiry": check_expiry,
    "gaps": check_gaps,
    "timeouts": check_timeouts,
    "other-hooks": check_other_hooks,
    "limit-ranges": check_limit_ranges,
    "api-server": check_api_server,
    "clock": check_clock,
}


def render_json(checks: Sequence[Check]) -> str:
    """As docs/doctor.md has it."""
    counts = {status: sum(each.status == status for each in checks) for status in reversed(_STATUSES)}
    top = {"schema": SCHEMA, "summary": counts, "checks": msgspec.to_builtins(checks)}
    return json.dumps(top, indent=2, ensure_ascii=False) + "\n"


_COLOURS: Mapping[Status, str] = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "magenta"}


def render_text(checks: Sequence[Check], width: int, style: Style) -> str:
    widest = max(len(each.name) for each in checks)
    lines = []
    for each in checks:
        margin = " " * (11 + widest)
        wrapped = textwrap.wrap(each.seen, width - len(margin), break_on_hyphens=False) or [""]
        lines.append(f"{style(f'{each.status:<7}', _COLOURS[each.status])}  {each.name:<{widest}}  {wrapped[0]}")
        lines += [margin + line for line in wrapped[1:]]
        if each.todo:
            todo = textwrap.wrap(f"→ {each.todo}", width - len(margin), subsequent_indent="  ", break_on_hyphens=False)
            lines += [margin + line for line in todo]
    wrong = sum(each.status != "ok" for each in checks)
    lines.append(f"\n{wrong} of {len(checks)} findings need something done" if wrong else "\nNothing needs doing")
    return "\n".join(lines) + "\n"
