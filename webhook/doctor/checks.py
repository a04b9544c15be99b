"""All checks, in the order of the page. Each is a function from a Survey to remarks.

What could not be read is "unknown", never "ok".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from webhook.doctor.api_server import check_api_server, check_clock
from webhook.doctor.audit import check_audit
from webhook.doctor.certificates import check_certificate, check_expiry
from webhook.doctor.configuration import check_configuration
from webhook.doctor.gaps import check_gaps
from webhook.doctor.hooks import check_hooks, check_rules
from webhook.doctor.limit_ranges import check_limit_ranges
from webhook.doctor.objects import check_objects
from webhook.doctor.operators import check_operators
from webhook.doctor.other_hooks import check_order, check_other_hooks, check_timeouts
from webhook.doctor.remark import STATUSES, Check, Remark, Remarks, cannot_tell
from webhook.doctor.replicas import check_controller, check_endpoints, check_spread
from webhook.doctor.rights import check_rights
from webhook.doctor.survey import Survey
from webhook.errors import ForestallError

_SHOWN = 10

CHECKS: Mapping[str, Callable[[Survey], Remarks]] = {
    "configuration": check_configuration,
    "controller": check_controller,
    "rights": check_rights,
    "hooks": check_hooks,
    "rules": check_rules,
    "endpoints": check_endpoints,
    "spread": check_spread,
    "certificate": check_certificate,
    "expiry": check_expiry,
    "gaps": check_gaps,
    "timeouts": check_timeouts,
    "other-hooks": check_other_hooks,
    "order": check_order,
    "limit-ranges": check_limit_ranges,
    "operators": check_operators,
    "objects": check_objects,
    "audit": check_audit,
    "api-server": check_api_server,
    "clock": check_clock,
}


def diagnose(survey: Survey) -> list[Check]:
    """Every check's entries, at least one for each; a single one where nothing of Forestall is installed."""
    if not survey.is_installed():
        text = f"nothing of Forestall is in namespace {survey.namespace}"
        return [Check("installation", "fail", text, "install it, or name its namespace: --namespace")]
    return [Check(name, *finding) for name, check in CHECKS.items() for finding in _run(check, survey)]


def _run(check: Callable[[Survey], Remarks], survey: Survey) -> list[Remark]:
    found: list[Remark] = []
    try:
        found.extend(check(survey))
    except ForestallError as error:
        found.append(cannot_tell(error))
    if len(found) > _SHOWN:
        worst = max((remark.status for remark in found[_SHOWN:]), key=STATUSES.index)
        found[_SHOWN:] = [Remark(worst, f"and {len(found) - _SHOWN} more", "see to the first ones, and ask again")]
    return found


def exit_code(checks: Iterable[Check]) -> int:
    """1 when something needs doing, be it to have a look with more rights."""
    return int(any(check.status != "ok" for check in checks))
