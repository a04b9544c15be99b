"""The API server itself: its version and its clock."""

from __future__ import annotations

import re
from datetime import timedelta

from webhook.doctor.remark import Remark, Remarks
from webhook.doctor.survey import Survey, seen

_OLDEST, _NEWEST = 29, 36
_FEATURES = {"pods/resize": 33, "pod-level resources": 34}
"""Feature -> the minor version of Kubernetes 1 since which it is on by default."""
_SKEW = timedelta(seconds=10)
_MUCH_SKEW = timedelta(minutes=5)


def check_api_server(survey: Survey) -> Remarks:
    version = seen(survey.version)
    text = str(version.get("gitVersion") or "an unknown version")
    minor = re.match(r"\d+", str(version.get("minor") or ""))
    if str(version.get("major")) != "1" or minor is None:
        yield Remark("unknown", f"cannot tell what {text} can do", f"Forestall is made for 1.{_OLDEST} to 1.{_NEWEST}")
        return
    number = int(minor.group())
    lacks = [f"{feature} (on from 1.{since})" for feature, since in _FEATURES.items() if number < since]
    text += f", without {' and '.join(lacks)}" if lacks else f", with {' and '.join(_FEATURES)}"
    if number < _OLDEST:
        yield Remark("fail", text, f"upgrade the cluster: Forestall needs 1.{_OLDEST}")
    elif number > _NEWEST:
        yield Remark("warn", text, f"look for a newer Forestall: this one is tested up to 1.{_NEWEST}")
    else:
        yield Remark("ok", text)


def check_clock(survey: Survey) -> Remarks:
    # The Date header gives whole seconds, rounded down.
    skew = survey.now - seen(survey.api_time) - timedelta(seconds=0.5)
    ahead = "ahead of" if skew > timedelta(0) else "behind"
    if abs(skew) <= _SKEW:
        yield Remark("ok", "this machine's clock and the API server's agree")
    else:
        text = f"this machine's clock is {_show_skew(abs(skew))} {ahead} the API server's"
        yield Remark("fail" if abs(skew) > _MUCH_SKEW else "warn", text, "set the clock of the one that is wrong (NTP)")


def _show_skew(skew: timedelta) -> str:
    return f"{skew.total_seconds():.0f} s"
