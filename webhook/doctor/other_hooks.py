"""The cluster's other webhooks: the time that all of them may take, and what they can hold up."""

from __future__ import annotations

from webhook.controller.registration import STAGES
from webhook.doctor.asked import asked_about, covers, show_resource
from webhook.doctor.remark import Remark, Remarks, listed, or_ok
from webhook.doctor.survey import Survey, seen
from webhook.installation import NAME
from webhook.policy import Object

REQUEST_SECONDS = 34
"""Seconds that the API server gives a write in all, admission included (apiserver pkg/endpoints/handlers/rest.go)."""


def check_timeouts(survey: Survey) -> Remarks:
    """Mutating webhooks are called one after the other, and share the time that a request has."""
    calls = [
        webhook
        for config in seen(survey.hooks["mutate"])
        for webhook in config.get("webhooks") or ()
        # The probe's webhook is called about one labelled ConfigMap of ours alone.
        if (config["metadata"]["name"], webhook["name"]) != (NAME, "probe.mutate.forestall.dev")
    ]
    total = sum(map(_timeout, calls))
    text = f"mutating webhooks in the cluster: {len(calls)}, which may take {total} s together"
    triples = {triple for webhook in calls for triple in asked_about(webhook)}
    sums = {
        triple: sum(_timeout(webhook) for webhook in calls if covers(asked_about(webhook), triple))
        for triple in triples
    }
    worst = max(sums, key=lambda triple: (sums[triple], triple), default=None)
    if worst is None or sums[worst] < REQUEST_SECONDS:
        most = f", {sums[worst]} s of one request's {REQUEST_SECONDS} s" if worst else ""
        yield Remark("ok", text + most)
        return
    asked = sorted((webhook for webhook in calls if covers(asked_about(webhook), worst)), key=_timeout, reverse=True)
    slowest = ", ".join(f"{webhook['name']} {_timeout(webhook)} s" for webhook in asked[:5])
    text += f", and {sums[worst]} s of the {REQUEST_SECONDS} s that one {worst[2]} of {show_resource(worst)} has"
    advice = f"give the longest ones less than their timeoutSeconds, or fewer resources: {slowest}"
    yield Remark("warn", f"{text}: it fails if they hang, whatever their failurePolicy", advice)


def _timeout(webhook: Object) -> int:
    return int(webhook.get("timeoutSeconds") or 10)


def check_other_hooks(survey: Survey) -> Remarks:
    """Webhooks of others that can hold up everything, us included."""
    return or_ok(_holding_up_everything(survey), "no other webhook is asked about everything and fails closed")


def _holding_up_everything(survey: Survey) -> Remarks:
    advice = f"narrow its rules, or exclude kube-system and {survey.namespace} in its namespaceSelector"
    for stage, kind in STAGES.items():
        for config in seen(survey.hooks[stage]):
            for webhook in config.get("webhooks") or ():
                if config["metadata"]["name"] != NAME and _holds_up_everything(webhook):
                    where = "" if _spares(webhook, "kube-system") else ", in kube-system as well"
                    name = f"{kind} {config['metadata']['name']}: {webhook['name']}"
                    yield Remark("warn", f"{name} is asked about everything and fails closed{where}", advice)


def _holds_up_everything(webhook: Object) -> bool:
    if webhook.get("failurePolicy") == "Ignore" or webhook.get("matchConditions") or _selects(webhook):
        return False
    asked = asked_about(webhook)
    return any(covers(asked, ("*", "*", operation)) for operation in ("CREATE", "UPDATE"))


def _selects(webhook: Object) -> bool:
    """Whether the webhook is called only about objects with certain labels."""
    selectors = (webhook.get("objectSelector") or {}, webhook.get("namespaceSelector") or {})
    return any(
        bool(selector.get("matchLabels"))
        or any(expression["operator"] in ("In", "Exists") for expression in selector.get("matchExpressions") or ())
        for selector in selectors
    )


def _spares(webhook: Object, namespace: str) -> bool:
    return any(
        expression["key"] == "kubernetes.io/metadata.name"
        and expression["operator"] == "NotIn"
        and namespace in (expression.get("values") or ())
        for expression in (webhook.get("namespaceSelector") or {}).get("matchExpressions") or ()
    )


def check_order(survey: Survey) -> Remarks:
    """Webhooks that change objects after ours has patched them, without ours being asked once more.

    Mutating webhooks are called in the order of their configurations' names, and once again after a change by another
    one where reinvocationPolicy is IfNeeded, as ours is: of those, too, the last in that order has the last word.
    """
    return or_ok(_changing_after_us(survey), "no other webhook changes objects after ours")


def _changing_after_us(survey: Survey) -> Remarks:
    advice = "see that it leaves what policies ask for: what it undoes is refused or warned of at /validate"
    ours = survey.registered("mutate")
    patched = {asked for webhook in (ours or {}).get("webhooks") or () for asked in asked_about(webhook)}
    for config in seen(survey.hooks["mutate"]):
        name = config["metadata"]["name"]
        for webhook in config.get("webhooks") or ():
            asked = asked_about(webhook)
            shared = sorted(triple for triple in patched if triple[1] != "configmaps" and covers(asked, triple))
            if name > NAME and webhook.get("reinvocationPolicy") == "IfNeeded" and shared:
                about = listed(set(map(show_resource, shared)))
                text = f"{STAGES['mutate']} {name}: {webhook['name']} has the last word on {about}, after our patches"
                yield Remark("warn", text, advice)
