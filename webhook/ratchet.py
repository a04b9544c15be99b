"""The ratchet: an update is not refused for a violation that the object had before, unless it is worse now."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from webhook.errors import UNREADABLE
from webhook.objects.pods import read_workload
from webhook.objects.predecessors import predecessors
from webhook.policy import AdmissionRequest, Mode, Violation, is_weaker

_INDEX = re.compile(r"\[\d+\]")


def place_of(violation: Violation) -> tuple[str, str]:
    """Subject, and path without its indices: two violations of a policy are the same one if they share both."""
    return violation.subject, _INDEX.sub("[]", violation.path)


class OldViolations:
    """What one policy finds in an object as it was before the change."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self._by_place: dict[tuple[str, str], _Values] = {}
        for violation in violations:
            self._by_place.setdefault(place_of(violation), _Values()).add(violation)

    def excuse(self, violation: Violation, request: AdmissionRequest) -> bool:
        """Whether the object had the violation that the policy finds in the request's new object, and no less bad."""
        values = self._by_place.get(place_of(_before_change(violation, request)))
        return values is not None and values.cover(violation)


class _Values:
    """The values of old violations at one place, by the strongest mode that each might take."""

    def __init__(self) -> None:
        self._found: dict[Mode, set[int | str | None]] = {}
        self._least: dict[Mode, int] = {}
        """The lowest of the amounts that were found."""

    def add(self, violation: Violation) -> None:
        mode, value = violation.at_most, violation.value
        self._found.setdefault(mode, set()).add(value)
        if isinstance(value, int):
            self._least[mode] = min(value, self._least.get(mode, value))

    def cover(self, violation: Violation) -> bool:
        """Whether one of them is the same value as the violation's, or a lower amount."""
        value = violation.value
        for mode, found in self._found.items():
            # What was only noted before (a pod that bound itself to its volume's zone) excuses no denial.
            if is_weaker(mode, violation.at_most):
                continue
            if value in found:
                return True
            if isinstance(value, int) and (None in found or value >= self._least.get(mode, value + 1)):
                return True
        return False


def _before_change(violation: Violation, request: AdmissionRequest) -> Violation:
    """The violation with the subject and path that it would have in the old object, where its container may have had
    another name, or stood in another list."""
    try:
        workload, predecessor = read_workload(request), predecessors(request)
    except UNREADABLE:
        return violation
    container = workload.container_of(violation) if workload else None
    before = predecessor.get(container.path) if container else None
    if container is None or before is None:
        return violation
    places = (container.resources_path, before.resources_path), (container.path, before.path)
    moved = (then + violation.path.removeprefix(now) for now, then in places if violation.path.startswith(f"{now}."))
    path = next(moved, violation.path)
    return msgspec.structs.replace(violation, subject=before.name, path=path)
