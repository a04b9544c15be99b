"""Our own two webhook configurations: whether the API server asks us, and about what."""

from __future__ import annotations

from collections.abc import Sequence

from webhook.controller.hooks import DELETED, ON_PURPOSE, read_state
from webhook.controller.registration import STAGES, configurations
from webhook.doctor.asked import asked_about, covers, show_asked
from webhook.doctor.remark import Remark, Remarks, listed, or_ok
from webhook.doctor.survey import Survey, seen
from webhook.installation import NAME
from webhook.policy import Object, Stage


def check_hooks(survey: Survey) -> Remarks:
    """Whether both webhook configurations are there and lead to our Service's port."""
    port = survey.service_port()
    for stage, kind in STAGES.items():
        registered = survey.registered(stage)
        if registered is None:
            yield _missing(survey, stage)
            continue
        service = {"namespace": survey.namespace, "name": NAME, "path": f"/{stage}", "port": port}
        wrong = [
            webhook["name"]
            for webhook in registered.get("webhooks") or ()
            if webhook["clientConfig"].get("service") != service
        ]
        if wrong:
            text = f"{kind} {NAME}: {', '.join(wrong)} doesn't lead to Service {survey.namespace}/{NAME}, port {port}"
            yield Remark("fail", text, "see why the controller doesn't set it right: its log")
        else:
            yield Remark("ok", f"{kind} {NAME} leads to Service {survey.namespace}/{NAME}")


def _missing(survey: Survey, stage: Stage) -> Remark:
    off = read_state(seen(survey.state)).off.get(stage, "")
    text = f"{STAGES[stage]} {NAME} is not there"
    if off in (ON_PURPOSE, DELETED):
        return Remark("fail", f"{text}: it was {off}, nothing is asked", "switch it on: forestall hooks on")
    advice = f"see what the controller waits for: kubectl -n {survey.namespace} logs deploy/forestall-controller"
    return Remark("fail", f"{text}: nothing is asked", advice)


def check_rules(survey: Survey) -> Remarks:
    """Whether the API server asks what the configuration needs, as it needs it."""
    wanted = configurations(seen(survey.config), "", namespace=survey.namespace, port=survey.service_port())
    for stage, needed in zip(STAGES, wanted, strict=True):
        registered = survey.registered(stage)
        if registered is None:
            yield Remark("fail", f"{STAGES[stage]} {NAME} is not there: nothing is asked", "see hooks")
        else:
            differences = _compare(needed["webhooks"], registered.get("webhooks") or [], STAGES[stage])
            yield from or_ok(differences, f"{STAGES[stage]} {NAME} asks what the configuration needs")


def _compare(needed: Sequence[Object], registered: Sequence[Object], kind: str) -> Remarks:
    there = {webhook["name"]: webhook for webhook in registered}
    wanted = {webhook["name"]: webhook for webhook in needed}
    for name in sorted({*there, *wanted}):
        has, needs = asked_about(there.get(name, {})), asked_about(wanted.get(name, {}))
        if missing := sorted(asked for asked in needs if not covers(has, asked)):
            text = f"{kind} {NAME}: {name} isn't asked about {listed(map(show_asked, missing))}"
            yield Remark("fail", text, _FOLLOW)
        if further := sorted(asked for asked in has if not covers(needs, asked)):
            text = f"{kind} {NAME}: {name} is asked about {listed(map(show_asked, further))}, which no policy judges"
            yield Remark("warn", text, _FOLLOW)
        if name in there and name in wanted and (fields := _differing(there[name], wanted[name])):
            yield Remark("fail", f"{kind} {NAME}: {name} differs in {listed(fields)}", _FOLLOW)


_FOLLOW = "see why the controller doesn't follow the configuration: its log, forestall_controller_errors_total"


def _differing(registered: Object, wanted: Object) -> list[str]:
    """The fields that differ, without those that other checks compare; empty and absent count as the same."""
    elsewhere = ("name", "clientConfig", "rules")
    # A webhook without a caBundle always has failurePolicy Ignore.
    has_bundle = bool(registered["clientConfig"].get("caBundle"))
    return [
        field
        for field in wanted
        if field not in elsewhere
        and (registered.get(field) or None) != (wanted[field] or None)
        and (field != "failurePolicy" or has_bundle)
    ]
