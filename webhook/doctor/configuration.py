"""The configuration in use."""

from __future__ import annotations

from webhook.doctor.remark import Remark, Remarks
from webhook.doctor.survey import Survey, seen
from webhook.engine import iter_expired
from webhook.errors import BadConfig
from webhook.installation import CONFIG


def check_configuration(survey: Survey) -> Remarks:
    try:
        config = seen(survey.config)
    except BadConfig as error:
        yield Remark("fail", str(error), f"mend it: servers and controller go on with the last good one ({CONFIG})")
        return
    for index, exemption in iter_expired(config, survey.now.date()):
        text = f"exemptions[{index}] ({exemption.policy}, owner {exemption.owner}) expired on {exemption.until}"
        yield Remark("warn", text, "remove it, or agree on a new date with its owner")
    active = [f"{policy.policy.id} {policy.mode}" for policy in config.policies.values() if policy.mode != "off"]
    yield Remark("ok", f"mode {config.mode}; {', '.join(active) or 'no policy is on'}")
