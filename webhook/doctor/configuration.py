"""The configuration in use."""

from __future__ import annotations

from datetime import timedelta

from webhook.config import Config, capped_overrides, iter_expired
from webhook.doctor.remark import Remark, Remarks
from webhook.doctor.survey import Survey, seen
from webhook.errors import BadConfig, ForestallError
from webhook.installation import CONFIG
from webhook.sections import Exemption


def check_configuration(survey: Survey) -> Remarks:
    try:
        config = seen(survey.config)
    except BadConfig as error:
        yield Remark("fail", str(error), f"mend it: servers and controller go on with the last good one ({CONFIG})")
        return
    yield from _check_exemptions(config, survey)
    for path, mode in capped_overrides(config):
        text = f"{path} is {mode}, capped by mode: {config.mode}"
        yield Remark("warn", text, f"raise the configuration's own mode to {mode}, or say in the override what holds")
    active = [f"{policy.policy.id} {policy.mode}" for policy in config.policies.values() if policy.mode != "off"]
    yield Remark("ok", f"mode {config.mode}; {', '.join(active) or 'no policy is on'}")


_SOON = timedelta(days=14)


def _check_exemptions(config: Config, survey: Survey) -> Remarks:
    today, stored = survey.now.date(), survey.stored
    expired = dict(iter_expired(config, today))
    for index, exemption in enumerate(config.exemptions):
        name = f"exemptions[{index}] ({exemption.policy}, owner {exemption.owner})"
        if index in expired:
            text = f"{name} expired on {exemption.until}"
            yield Remark("warn", text, "remove it, or agree on a new date with its owner")
            continue
        if exemption.until - today <= _SOON:
            days = (exemption.until - today).days
            text = f"{name} ends {f'in {days} days' if days else 'today'}, on {exemption.until}"
            yield Remark("warn", text, "mend what it covers until then, or agree on a new date with its owner")
        # Stored objects don't show who asked for them, and pods aren't read: whether it covers anything isn't known.
        if exemption.match.groups or not _needs_no_pods(exemption):
            continue
        if isinstance(stored, ForestallError) or stored.unseen.resources:
            yield Remark(
                "unknown", f"cannot tell whether {name} is used", "ask as somebody who may list what is judged"
            )
        elif index not in stored.used_exemptions:
            yield Remark("warn", f"{name} covers nothing that is in the cluster", "remove it: it hides what comes next")


def _needs_no_pods(exemption: Exemption) -> bool:
    return not set(exemption.match.kinds) & {"Pod", "ReplicaSet"}
