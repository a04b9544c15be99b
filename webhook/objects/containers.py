"""Containers, and the amounts of their resources.

Explicit nulls (`initContainers: null`), which Helm charts write, read as absent, but for amounts: `memory: null` is "0"
to the API server, and nothing only in an operator's resource (tests/data/nulls.json).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

import msgspec

from webhook.errors import BadObject, BadQuantity
from webhook.objects.fields import items, mapping, text
from webhook.objects.quantities import parse_memory

Role = Literal["container", "init", "sidecar"]
ResourcePart = Literal["requests", "limits"]

_NOTHING: Mapping[str, Any] = {}


class Container(msgspec.Struct, frozen=True, gc=False):
    """A container that may carry resources; ephemeral containers may not, so they are never among these.

    `path` is where a person finds it, `resources_path` where its resources stand. In an operator's resource
    `spec.containers` amends by name what `spec.resources` says: `resources` is the merged view, and `overrides` the
    amendment, at `overrides_path`; `spec` is then the amendment, with the volume mounts of both.
    """

    path: str
    name: str
    image: str
    role: Role
    spec: Mapping[str, Any]
    resources: Mapping[str, Any]
    resources_path: str
    overrides: Mapping[str, Any] = _NOTHING
    overrides_path: str = ""

    def memory(self, part: ResourcePart) -> Any:
        """The container's memory request or limit, as it was written; None where there is none."""
        amounts = self.resources.get(part)
        return amounts.get("memory") if amounts else None

    @property
    def places(self) -> tuple[str, ...]:
        """The paths below which everything about this container is written."""
        # The container that an operator makes is found at "spec", where everything else is as well.
        return (self.path, self.resources_path) if "[" in self.path else (self.resources_path,)

    def amount(self, part: ResourcePart) -> int | None:
        """The container's memory request or limit in bytes, None without one; raises BadObject for no quantity."""
        return amount_of(self, part)

    def memory_path(self, part: ResourcePart) -> str:
        """The path of the container's memory request or limit, or where one would have to be written to count."""
        amended = self.overrides.get(part)
        above = self.overrides_path if amended and amended.get("memory") is not None else self.resources_path
        return f"{above}.{part}.memory"


class _HasMemory(Protocol):
    """A container, or a pod with resources of its own."""

    def memory(self, part: ResourcePart) -> Any: ...
    def memory_path(self, part: ResourcePart) -> str: ...


def amount_of(of: _HasMemory, part: ResourcePart) -> int | None:
    """Its memory request or limit in bytes, None without one; raises BadObject for no quantity."""
    quantity = of.memory(part)
    if quantity is None:
        return None
    try:
        amount = parse_memory(quantity)
    except BadQuantity as error:
        raise BadObject(f"{of.memory_path(part)}: {error}") from error
    if amount < 0:
        raise BadObject(f"{of.memory_path(part)}: {quantity} is negative, which the API server refuses")
    return amount


def read_containers(spec: Mapping[str, Any], path: str) -> Iterator[Container]:
    """The containers of a pod spec, in the order in which they start; raises BadObject."""
    for index, container in enumerate(items(spec, "initContainers", path)):
        yield read_container(container, f"{path}.initContainers[{index}]", init_role(container), null="0")
    for index, container in enumerate(items(spec, "containers", path)):
        yield read_container(container, f"{path}.containers[{index}]", "container", null="0")


def init_role(container: Mapping[str, Any]) -> Role:
    """The role of an entry of initContainers: a native sidecar is one that always restarts."""
    return "sidecar" if container.get("restartPolicy") == "Always" else "init"


def read_container(container: Mapping[str, Any], path: str, role: Role, *, null: str | None) -> Container:
    return Container(
        path,
        text(container, "name", path),
        text(container, "image", path),
        role,
        container,
        read_resources(container, path, null=null),
        f"{path}.resources",
    )


def read_resources(parent: Mapping[str, Any], path: str, *, null: str | None) -> Mapping[str, Any]:
    """The resources of a container or pod, with what an amount of null is; None where it is nothing."""
    resources = mapping(parent, "resources", path)
    for part in ("requests", "limits") if resources else ():
        amounts = mapping(resources, part, f"{path}.resources")
        if None in amounts.values():
            read = {
                name: null if amount is None else amount
                for name, amount in amounts.items()
                if amount is not None or null is not None
            }
            resources = {**resources, part: read}
    return resources
