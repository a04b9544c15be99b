"""How many pods a Deployment's rollout may add and take away, as the Deployment controller resolves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from webhook.errors import BadObject
from webhook.objects.commands import kubectl
from webhook.objects.fields import mapping
from webhook.objects.wording import shortened

_DEFAULT = "25%"
_LONGEST = 40
"""Characters of a wrong value that are told."""


class Rollout(NamedTuple):
    """A Deployment's replicas, and how many pods a rollout adds before (surge) and lacks meanwhile (unavailable)."""

    replicas: int
    is_recreate: bool
    surge: int
    unavailable: int

    @property
    def keeps_the_old(self) -> bool:
        """Whether no old pod may go before a new one is ready."""
        return not self.is_recreate and self.unavailable == 0

    @property
    def told(self) -> str:
        if self.is_recreate:
            return "Recreate"
        return f"RollingUpdate with maxSurge {self.surge} and maxUnavailable {self.unavailable}"


def recreate_command(namespace: str, name: str, why: str = "") -> str:
    """The command that replaces a Deployment's strategy. A server-side apply can't: the API server has filled in
    rollingUpdate, which nobody owns, and refuses it beside Recreate."""
    strategy = '{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}'
    return kubectl("patch", f"deployment/{name}", "--type=merge", "-p", strategy, namespace=namespace, why=why)


def read_rollout(spec: Mapping[str, Any]) -> Rollout:
    """The rollout of a Deployment's spec, with the API's defaults; raises BadObject for what isn't a number.

    Source: Kubernetes pkg/controller/deployment/util, ResolveFenceposts: a surge is rounded up, an unavailable down,
    and where both are 0 one pod may be unavailable, since the rollout could do nothing at all.
    """
    written = spec.get("replicas")
    replicas = 1 if written is None else written
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise BadObject(f"spec.replicas is {shortened(repr(replicas), _LONGEST)}, not a whole number")
    strategy = mapping(spec, "strategy", "spec")
    if strategy.get("type") == "Recreate":
        return Rollout(replicas, True, 0, replicas)
    rolling = mapping(strategy, "rollingUpdate", "spec.strategy")
    surge = _pods(rolling, "maxSurge", replicas, round_up=True)
    unavailable = _pods(rolling, "maxUnavailable", replicas, round_up=False)
    return Rollout(replicas, False, surge, unavailable or int(not surge))


def _pods(rolling: Mapping[str, Any], key: str, replicas: int, *, round_up: bool) -> int:
    value = rolling.get(key)
    value = _DEFAULT if value is None else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = value.removesuffix("%") if isinstance(value, str) and value.endswith("%") else ""
    if not (number.isascii() and number.isdecimal() and len(number) <= 9):
        told = shortened(repr(value), _LONGEST)
        raise BadObject(f"spec.strategy.rollingUpdate.{key} is {told}, neither a whole number nor a percentage")
    share = int(number) * replicas
    return -(-share // 100) if round_up else share // 100
