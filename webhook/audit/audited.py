"""The result of an audit of one cluster: what was found, what could not be seen, and how to see it."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from webhook.audit.history import Day
from webhook.audit.judge import Audit
from webhook.config import Config
from webhook.observing.run import Observing

_USER = re.compile(r'User "([^"]+)" cannot ')
"""How the API server names whom it refuses."""
_ACCOUNT = re.compile("system:serviceaccount:([^:]+):([^:]+)")


@dataclass(frozen=True)
class Audited:
    """A cluster that was audited: `name` is its context, `configuration` says which one was used."""

    name: str
    configuration: str
    config: Config
    is_whole: bool
    """Whether all namespaces were looked at, so that what was not found is not there."""
    found: Audit
    observing: Observing = field(default_factory=Observing)
    """What is broken now."""
    history: Sequence[Day] = ()
    """The counts of days before, as far as they can be read and compared."""

    @property
    def troubles(self) -> list[str]:
        """The objects and kinds that could not be read, a line each."""
        unseen = self.found.unseen
        lines = [
            f"not seen: {resource}: {why}"
            for resource, why in unseen.resources.items()
            if resource not in unseen.forbidden
        ]
        if unseen.forbidden:
            lacking = ", ".join(_where(resource, unseen.forbidden[resource]) for resource in sorted(unseen.forbidden))
            lines.append(f"not seen for want of a right: {lacking}; grant it: {self.grant}")
        lines += [f"{name}: cannot tell what is broken: {why}" for name, why in self.observing.unknown.items()]
        return lines + [str(odd) for odd in unseen.objects]

    @property
    def grant(self) -> str:
        """The line for a shell that gives the rights that were missing, in all namespaces only where that is needed."""
        unseen = self.found.unseen
        said = (_USER.search(unseen.resources[resource]) for resource in sorted(unseen.forbidden))
        user = next((match[1] for match in said if match), "YOU")
        account = _ACCOUNT.fullmatch(user)
        subject = f"--serviceaccount={account[1]}:{account[2]}" if account else f"--user={user}"
        commands = []
        # Those of a namespace come last: the configuration's need not exist.
        for namespace in sorted(set().union(*unseen.forbidden.values())):
            lacking = sorted(resource for resource, where in unseen.forbidden.items() if namespace in where)
            role, scope = ("role", f" --namespace={namespace}") if namespace else ("clusterrole", "")
            commands += [
                f"kubectl create {role} forestall-audit{scope} --verb=get,list --resource={','.join(lacking)}",
                f"kubectl create {role}binding forestall-audit{scope} --{role}=forestall-audit {subject}",
            ]
        return " && ".join(commands)

    @property
    def sees_nothing(self) -> bool:
        """Whether not one object could be looked at, for want of rights."""
        tally = self.found.tally
        return bool(self.found.unseen.forbidden) and not (tally.workloads or tally.others)

    def exit_code(self, *, strict: bool) -> int:
        """0 if everything could be created again, 1 if something could not, 2 if nothing was seen.

        `strict`: 1 if there is any finding that needs action, or anything is broken now, 2 if anything was not seen.
        """
        tally = self.found.tally
        if self.sees_nothing or (strict and self.troubles):
            return 2
        return int(
            bool(tally.refused or tally.refused_others or (strict and (tally.urgent or self.observing.observed)))
        )


def _where(resource: str, namespaces: Set[str]) -> str:
    """The resource, and the namespaces in which it could not be listed, if it isn't all of them."""
    return resource if "" in namespaces else f"{resource} in namespace {' and '.join(sorted(namespaces))}"
